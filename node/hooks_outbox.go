package node

import (
	"context"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/inbox"
)

// outbox keeps the events for the app's backend in logs like any, one for each
// partition, with a cursor for each receiver. Their addresses are of a kind that
// no client can name.
type outbox struct {
	n        *Node
	receiver string
}

// reader has the cursors of a receiver. No device can have such an id.
func (o outbox) reader() envelope.NodeID {
	if o.receiver == hook.DefaultReceiver {
		return "!hook"
	}
	return envelope.NodeID("!hook:" + o.receiver)
}

const (
	outboxBytes  = 256 << 10        // read at once
	outboxWithin = 10 * time.Second // one question to the store
)

func outboxLog(partition int) envelope.Address {
	return envelope.Address{Kind: envelope.KindHook, ID: strconv.Itoa(partition)}
}

// Mine implements [hook.Outbox]: of the servers whose leases live, and that are
// not about to leave, one is chosen by rendezvous hashing. What a server takes
// for living another may not for as long as a lease lasts at most, and then both
// deliver.
func (o outbox) Mine(partition int) bool {
	return o.n.chosen(outboxLog(partition))
}

// chosen reports whether rendezvous hashing over the living servers of the mesh
// gives an address to this one.
func (n *Node) chosen(addr envelope.Address) bool {
	self := n.cfg.Graph.Self.ID
	mine := score(addr, self)
	leaving := n.draining.Load()
	others := false
	for _, r := range n.graph.Servers() {
		if r.ID == self || r.Draining {
			continue
		}
		others = true
		if score(addr, r.ID) > mine {
			return false
		}
	}
	return !leaving || !others
}

// Read implements [hook.Outbox].
func (o outbox) Read(ctx context.Context, partition int, after uint64, limit int) ([]hook.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxWithin)
	defer cancel()
	page, err := o.n.inbox.Read(ctx, outboxLog(partition), after, limit, outboxBytes)
	events := make([]hook.Event, len(page))
	for i, env := range page {
		e, parseErr := hook.Parse(env.Body)
		if parseErr != nil {
			return nil, envelope.Errorf(envelope.Internal, "an event in the outbox cannot be read: %v", parseErr)
		}
		e.ID, e.Seq, e.At = env.ID, env.Seq, env.Timestamp
		events[i] = e
	}
	return events, err
}

// Position implements [hook.Outbox]. Where a receiver has begun is noted, so that
// what is missing behind that was lost to it.
func (o outbox) Position(ctx context.Context, partition int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxWithin)
	defer cancel()
	at, err := o.positions(ctx)
	if err != nil {
		return 0, err
	}
	if seq, known := at[partition]; known {
		return seq, nil
	}
	x, err := o.n.inbox.Extent(ctx, outboxLog(partition))
	if err != nil {
		return 0, err
	}
	first := max(x.Floor, 1)
	return first - 1, o.n.inbox.Advance(ctx, []inbox.Cursor{
		{Node: o.reader(), Log: outboxLog(partition), Delivered: first - 1, Read: first},
	})
}

// positions returns where the receiver stands in each partition that it is known in.
func (o outbox) positions(ctx context.Context) (map[int]uint64, error) {
	cursors, err := o.n.inbox.Cursors(ctx, o.reader())
	at := make(map[int]uint64, len(cursors))
	for _, c := range cursors {
		if p, err := strconv.Atoi(c.Log.ID); err == nil && c.Log == outboxLog(p) {
			at[p] = c.Delivered
		}
	}
	return at, err
}

// Advance implements [hook.Outbox].
func (o outbox) Advance(ctx context.Context, partition int, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, outboxWithin)
	defer cancel()
	return o.n.inbox.Advance(ctx, []inbox.Cursor{{Node: o.reader(), Log: outboxLog(partition), Delivered: seq}})
}
