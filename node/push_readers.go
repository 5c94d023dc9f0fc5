package node

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

// pushReaders answers package push from logs, cursors and memberships.
type pushReaders struct {
	n     *Node
	store push.Store
}

// Behind implements [push.Readers]. Who may see which entry is looked at when a
// device is told.
func (r pushReaders) Behind(ctx context.Context, log envelope.Address) ([]envelope.NodeID, error) {
	devices, err := r.devices(ctx, log)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	heads, err := r.n.inbox.Heads(ctx, map[envelope.Address]uint64{log: 0})
	if err != nil {
		return nil, err
	}
	// Beside the devices there are their users, and who has been one before.
	cursors, err := r.n.inbox.Readers(ctx, log, 4*len(devices)+inbox.PageEntries)
	if err != nil {
		return nil, err
	}
	for _, c := range cursors {
		if c.Delivered >= heads[log] {
			delete(devices, c.Node)
		}
	}
	behind := make([]envelope.NodeID, 0, len(devices))
	for device := range devices {
		behind = append(behind, device)
	}
	return behind, nil
}

// devices returns those that a log may be for.
func (r pushReaders) devices(ctx context.Context, log envelope.Address) (map[envelope.NodeID]bool, error) {
	devices := make(map[envelope.NodeID]bool)
	switch log.Kind {
	case envelope.KindNode:
		node := envelope.NodeID(log.ID)
		if id, _, alias := node.Alias(); alias {
			m, err := r.n.cfg.Sessions.Member(ctx, id, node)
			if errors.Is(err, session.ErrNotFound) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			node = m.Device
		}
		devices[node] = true
	case envelope.KindClient:
		tokens, err := r.store.TokensOfClient(ctx, envelope.ClientID(log.ID))
		if err != nil {
			return nil, err
		}
		for _, t := range tokens {
			devices[t.Node] = true
		}
	case envelope.KindSession:
		members, err := r.n.cfg.Sessions.Members(ctx, envelope.SessionID(log.ID))
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if in := staysOf(m); in.open() || m.State == session.Joining {
				devices[m.Device] = true
			}
		}
	}
	return devices, nil
}

// Unread implements [push.Readers].
func (r pushReaders) Unread(ctx context.Context, node envelope.NodeID, client envelope.ClientID, told map[envelope.Address]uint64) (push.Unread, error) {
	who := envelope.Principal{Node: node, Client: client}
	is := push.Unread{}
	queue, err := r.n.pending(ctx, who)
	if err != nil {
		return is, err
	}
	delivered, read, err := r.n.positions(ctx, node)
	if err != nil {
		return is, err
	}
	user, err := r.n.userMarks(ctx, client)
	if err != nil {
		return is, err
	}
	muted, err := r.muted(ctx, node)
	if err != nil {
		return is, err
	}
	is.Got, is.Read = delivered, maps.Clone(told) // a log that is not among those below
	if is.Read == nil {
		is.Read = make(map[envelope.Address]uint64)
	}
	for _, p := range queue {
		if p.left {
			continue
		}
		is.Read[p.log] = user[p.log]
		// An alias's log is the session's, as far as mutes go.
		of := p.log
		if id, _, alias := envelope.NodeID(of.ID).Alias(); alias && of.Kind == envelope.KindNode {
			of = id.Address()
		}
		if muted[p.log] || muted[of] {
			continue
		}
		from := p.behind // what the user has not read
		if mark := max(read[p.log], user[p.log]); mark > 0 {
			from = mark
		}
		if from >= p.head {
			continue
		}
		got := max(p.behind, user[p.log])
		if got >= p.head {
			is.Count += int(p.head - from)
			continue
		}
		newest, count, err := r.newest(ctx, who, p.log, got, p.head)
		if err != nil {
			return is, err
		}
		is.Count += count + int(max(got, from)-from)
		if newest != nil && newest.Seq > told[p.log] {
			is.Logs = append(is.Logs, push.Pending{Log: p.log, Envelope: newest})
		}
	}
	return is, nil
}

// newest returns the newest entry behind after that wakes the device, nil if
// there is none, and how many do, about: of many it looks at the last.
func (r pushReaders) newest(ctx context.Context, who envelope.Principal, log envelope.Address, after, head uint64) (*envelope.Envelope, int, error) {
	v, err := r.n.view(ctx, who, log)
	if errors.Is(err, errNoLog) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	from, count := after, 0
	if head-after > inbox.PageEntries {
		from = head - inbox.PageEntries
		count = int(from - after)
	}
	var newest *envelope.Envelope
	for from < v.head {
		entries, next, err := r.n.page(ctx, v, from, inbox.PageEntries, func(env *envelope.Envelope) bool {
			return wakes(env) && !v.own(log, env, who)
		})
		if err != nil {
			return nil, 0, err
		}
		if count += len(entries); len(entries) > 0 {
			newest = &entries[len(entries)-1]
		}
		from = next
	}
	return newest, count, nil
}

// muted returns the logs of which a device does not want to hear now.
func (r pushReaders) muted(ctx context.Context, node envelope.NodeID) (map[envelope.Address]bool, error) {
	mutes, err := r.store.Mutes(ctx, node)
	if err != nil {
		return nil, err
	}
	muted := make(map[envelope.Address]bool, len(mutes))
	now := time.Now().UnixMilli()
	for _, m := range mutes {
		if m.Until == 0 || m.Until > now {
			muted[m.Log] = true
		}
	}
	return muted, nil
}
