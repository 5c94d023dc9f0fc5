package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// maxPendingReads is how many pages of logs one answer is made of at most.
const maxPendingReads = 10

// pendingWithin bounds how long a connection waits for the store with it.
const pendingWithin = 10 * time.Second

// fetchPending answers a legacy client's request for what waits for its device:
// what it has not acknowledged of its own log, its user's, its sessions' and
// those of its aliases there.
//
// A page mark is a place in all these logs, put one behind the other in an
// order that stays the same: the seq, plus the heads of the logs before. What
// arrives meanwhile moves the marks of later logs up, never down. So a client
// that goes on from the last mark may get a message again, and misses none that
// was there when it began; what came since comes by itself. A request from a
// time on looks back: it also gets what the device has acknowledged.
func (n *Node) fetchPending(ctx context.Context, who envelope.Principal, cmd gateway.FetchPending) (gateway.Pending, error) {
	reply := gateway.Pending{Node: who.Node, ID: cmd.ID, ClockOnly: cmd.ClockOnly}
	if cmd.Clock > 0 {
		reply.ClockAdd = time.Now().UnixMilli() - cmd.Clock
	}
	if err := n.legacyToken(ctx, who, cmd); err != nil {
		return gateway.Pending{}, err
	}
	if cmd.ClockOnly {
		return reply, nil
	}
	queue, err := n.pending(ctx, who)
	if err != nil {
		return gateway.Pending{}, err
	}
	reads, size := 0, 0
	for _, p := range queue {
		from, to := beforeMark(cmd.FromSeq, p.base), p.head
		if cmd.FromTime == 0 { // else it looks back, further than to what waits
			from = max(from, p.behind)
		}
		if cmd.ToSeq > 0 {
			to = min(to, beforeMark(cmd.ToSeq+1, p.base))
		}
		for from < to {
			room := inbox.PageEntries - len(reply.Entries)
			if reads++; reads > maxPendingReads || room <= 0 || size >= inbox.PageBytes {
				reply.More = true
				return reply, nil
			}
			entries, next, err := n.pendingPage(ctx, who, p.log, from, to, room, cmd)
			if err != nil {
				return gateway.Pending{}, err
			}
			for i := range entries {
				size += len(entries[i].Body)
			}
			reply.Entries = append(reply.Entries, entries...)
			reply.FromSeq, reply.ToSeq = cmp.Or(reply.FromSeq, p.base+from+1), p.base+next
			from = next
		}
	}
	return reply, nil
}

// beforeMark returns the position before a mark in a log whose marks begin
// behind base.
func beforeMark(mark, base uint64) uint64 {
	if mark <= base {
		return 0
	}
	return mark - base - 1
}

// pendingLog is one of the logs that a device has something to read in.
type pendingLog struct {
	log          envelope.Address
	stays               // of a session
	left         bool   // it is of a session that the device has left
	base         uint64 // marks of the logs before
	behind, head uint64 // what is pending is between the two
}

// pending returns all logs of a device in the order of page marks.
func (n *Node) pending(ctx context.Context, who envelope.Principal) ([]pendingLog, error) {
	members, err := n.sessions.Of(ctx, who.Node)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(members, func(a, b session.Member) int { return cmp.Compare(a.Session, b.Session) })
	queue := []pendingLog{{log: who.Node.Address()}, {log: who.Client.Address()}}
	for _, m := range members {
		stay := staysOf(m)
		left := !stay.open()
		queue = append(queue, pendingLog{log: m.Session.Address(), stays: stay, left: left, behind: stay.first() - 1})
		if m.Alias != "" {
			queue = append(queue, pendingLog{log: m.Alias.Address(), left: left})
		}
	}
	cursors, err := n.inbox.Cursors(ctx, who.Node)
	if err != nil {
		return nil, err
	}
	at := make(map[envelope.Address]uint64, len(queue))
	for _, c := range cursors {
		at[c.Log] = c.Delivered
	}
	from := make(map[envelope.Address]uint64, len(queue))
	for _, p := range queue {
		from[p.log] = 0
	}
	heads, err := n.inbox.Heads(ctx, from)
	if err != nil {
		return nil, err
	}
	base := uint64(0)
	for i := range queue {
		p := &queue[i]
		// How far a session goes that the device has left is not for it to know.
		p.base, p.head, p.behind = base, p.clamp(heads[p.log]), max(p.behind, at[p.log])
		base += p.head
	}
	return queue, nil
}

// pendingPage returns what a device has to read of a log behind from and up to
// to, and the position it has come to.
func (n *Node) pendingPage(ctx context.Context, who envelope.Principal, log envelope.Address, from, to uint64, limit int, cmd gateway.FetchPending) ([]envelope.Envelope, uint64, error) {
	v, err := n.view(ctx, who, log)
	if err != nil {
		return nil, 0, err
	}
	v.head = min(v.head, to)
	if cmd.FromTime > 0 {
		if from, err = n.before(ctx, v, from, cmd.FromTime); err != nil {
			return nil, 0, err
		}
	}
	entries, next, err := n.page(ctx, v, from, limit, func(env *envelope.Envelope) bool {
		return !v.own(log, env, who) && (v.isOf(env, who) || v.told(env)) && env.Timestamp >= cmd.FromTime && (cmd.ToTime == 0 || env.Timestamp <= cmd.ToTime)
	})
	if next >= v.head {
		next = to // there is no more of it for this device
	}
	return entries, next, err
}

// fetchPending answers on a connection. It holds back the read loop, so that a
// client gets one page at a time, and while it does not read what it was given.
func (c *conn) fetchPending(cmd gateway.FetchPending) {
	for {
		c.mu.Lock()
		if !c.lane.full() {
			c.mu.Unlock()
			break
		}
		if !c.awaitDrain() {
			return
		}
	}
	ctx, cancel := c.ctx.within(pendingWithin)
	defer cancel()
	cmd.By = c.credential.Load().Credential
	reply, err := c.n.fetchPending(ctx, c.who, cmd)
	if err != nil {
		c.refuse(cmd.ID, err)
		return
	}
	c.reply(reply)
}
