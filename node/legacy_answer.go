package node

import (
	"context"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// maxUnanswered bounds the messages of a connection whose destinations are
// still to be looked for.
const maxUnanswered = 256

// awayAnswers tells a legacy client, which knows no presence, that the
// destination of a message it has stored is connected nowhere. It is guarded by
// the connection's mu.
type awayAnswers struct {
	waiting []envelope.Envelope // id and destination of each message
	running bool
}

// answerAway has the destination of a stored message looked for, and never
// blocks. Of members of a session nothing is told.
func (c *conn) answerAway(env *envelope.Envelope) {
	if !c.answers || c.n.cfg.PresenceOff || env.Class != envelope.Durable || env.DestSession != "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away == nil {
		c.away = new(awayAnswers)
	}
	if c.over || len(c.away.waiting) >= maxUnanswered {
		c.n.stats.DroppedNotice.Add(1)
		return
	}
	c.away.waiting = append(c.away.waiting, envelope.Envelope{ID: env.ID, DestNode: env.DestNode, DestClient: env.DestClient})
	if !c.away.running {
		c.away.running = true
		c.wg.Go(c.answerLoop)
	}
}

// answerNotMember tells a legacy client that its message to a session was
// refused because it, or the device named, is not a member, and reports
// whether that was the reason.
func (c *conn) answerNotMember(id string, node envelope.NodeID, room envelope.SessionID, err error) bool {
	if !c.answers || room == "" || !errors.Is(err, session.ErrNotFound) {
		return false
	}
	c.n.stats.refused(envelope.NotFound)
	c.reply(gateway.Message{Envelope: &envelope.Envelope{
		ID: id, DestNode: node, DestSession: room,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: envelope.TypeNotMember,
	}})
	return true
}

// answerLoop looks for what waits, all at once, until nothing does.
func (c *conn) answerLoop() {
	for {
		c.mu.Lock()
		some := c.away.waiting
		c.away.waiting = nil
		c.away.running = len(some) > 0
		c.mu.Unlock()
		if len(some) == 0 {
			return
		}
		types, err := c.n.awayTypes(&c.ctx, some)
		if err != nil {
			c.n.stats.DroppedNotice.Add(uint64(len(some)))
			continue
		}
		for _, env := range some {
			if env.Type = types[env.Dest()]; env.Type != 0 {
				env.HasType, env.Timestamp = true, time.Now().UnixMilli()
				c.reply(gateway.Message{Envelope: &env})
			}
		}
	}
}

// awayTypes returns what to answer about messages, by destination:
// [envelope.TypeOffline] when it is connected nowhere, [envelope.TypeUnknown]
// when it never was as far as anybody knows. Those connected are absent.
func (n *Node) awayTypes(ctx context.Context, about []envelope.Envelope) (map[envelope.Address]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, presenceWithin)
	defer cancel()
	addrs := make([]envelope.Address, len(about))
	for i := range about {
		addrs[i] = about[i].Dest()
	}
	online, seen, err := n.whereabouts(ctx, addrs)
	if err != nil {
		return nil, err
	}
	types := make(map[envelope.Address]int64, len(addrs))
	for _, addr := range addrs {
		if online[addr] || types[addr] != 0 {
			continue
		}
		known := seen[addr] > 0
		if !known && addr.Kind == envelope.KindNode { // it may have been here before sightings were noted
			cursors, err := n.inbox.Cursors(ctx, envelope.NodeID(addr.ID))
			if err != nil {
				return nil, err
			}
			known = len(cursors) > 0
		}
		types[addr] = envelope.TypeUnknown
		if known {
			types[addr] = envelope.TypeOffline
		}
	}
	return types, nil
}
