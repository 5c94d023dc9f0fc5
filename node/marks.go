package node

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// Read marks are kept twice: how far the user has read on one device, which is
// what a receipt says, beside what that device has handled; and how far on any
// of its devices, under [inbox.UserReader], which is what the others are told.
// Both only move forward. A mark is in the store within a second; a device that
// connects elsewhere in that second learns of it with the next one.

// markRead moves the user's read marks forward, as far as the client can know
// the logs to go. What has been read has been delivered.
func (c *conn) markRead(cursors []envelope.Position) {
	var moved []envelope.Position
	var news map[envelope.Address]uint64
	c.mu.Lock()
	for _, p := range cursors {
		f := c.follows.Get(p.Log)
		if f == nil || !f.started || isTopic(p.Log) {
			continue
		}
		seq := f.clamp(min(p.Seq, max(f.sent, f.head)))
		if seq <= f.read {
			continue
		}
		c.moved(f, f.read, seq, true)
		f.read = seq
		moved = append(moved, envelope.Position{Log: f.log, Seq: seq})
		if f.readElsewhere(seq) {
			if news == nil {
				news = make(map[envelope.Address]uint64)
			}
			news[f.log] = seq
		}
	}
	c.mu.Unlock()
	if len(moved) == 0 {
		return
	}
	c.acked.Store(true)
	for _, p := range moved {
		c.n.inbox.MarkRead(c.who.Node, c.who.Client, p.Log, p.Seq)
	}
	c.acknowledge(moved)
	c.n.tellMarks(c.who, news)
}

// tellMarks tells the user's other devices how far it has read.
func (n *Node) tellMarks(who envelope.Principal, marks map[envelope.Address]uint64) {
	if len(marks) > 0 {
		n.waker.read(who.Client, marks)
		n.notify(who.Client.Address(), who.Node, gateway.ReadMark{Cursors: marks})
	}
}

// readElsewhere notes how far the user has read on any device, and reports
// whether that is news to the user's other devices; under the connection's mu.
func (f *follow) readElsewhere(seq uint64) (news bool) {
	if seq <= f.readAnywhere {
		return false
	}
	f.readAnywhere = seq
	return f.log.Kind != envelope.KindNode // which is no other device's log
}

// heardMarks notes the marks that another device has set, and tells the client
// what of them is news to it; under mu.
func (c *conn) heardMarks(marks gateway.ReadMark) {
	for log, seq := range marks.Cursors {
		if f := c.follows.Get(log); f != nil && f.readElsewhere(seq) {
			f.markOwed, c.owesMarks = true, true
		}
	}
	c.payMarks()
}

// payMarks tells the client the marks that it has not been told: at once, or
// when there is room, and then only the newest of each log; under mu.
func (c *conn) payMarks() {
	if own := c.follows.Get(c.who.Node.Address()); !c.owesMarks || own == nil || !own.started || c.over || c.lane.full() {
		return // nothing comes before the answer to hello, behind which all marks come
	}
	c.owesMarks = false
	marks := gateway.ReadMark{Cursors: make(map[envelope.Address]uint64)}
	for f := range c.follows.All() {
		log := f.log
		if f.markOwed {
			f.markOwed = false
			marks.Cursors[log] = f.readAnywhere
		}
	}
	if frame := c.codec.Append(nil, marks); len(marks.Cursors) > 0 && len(frame) > 0 {
		c.lane.push(frame)
		c.wake()
	}
}

// userMarks returns how far a user has read on any of its devices.
func (n *Node) userMarks(ctx context.Context, client envelope.ClientID) (map[envelope.Address]uint64, error) {
	_, read, err := n.positions(ctx, inbox.UserReader(client))
	return read, err
}

// positions returns what a reader has acknowledged and what it has read.
func (n *Node) positions(ctx context.Context, reader envelope.NodeID) (delivered, read map[envelope.Address]uint64, err error) {
	cursors, err := n.inbox.Cursors(ctx, reader)
	if err != nil {
		return nil, nil, err
	}
	delivered = make(map[envelope.Address]uint64, len(cursors))
	read = make(map[envelope.Address]uint64)
	for _, at := range cursors {
		delivered[at.Log] = at.Delivered
		if at.Read > 0 {
			read[at.Log] = at.Read
		}
	}
	return delivered, read, nil
}

// openMarks returns how far the user has read the logs that the connection
// follows, for the client that has just connected; under mu.
func (c *conn) openMarks(user map[envelope.Address]uint64) (gateway.ReadMark, bool) {
	marks := gateway.ReadMark{Cursors: make(map[envelope.Address]uint64)}
	for f := range c.follows.All() {
		log := f.log
		f.readAnywhere, f.markOwed = max(f.readAnywhere, f.read, user[log]), false
		if f.readAnywhere > 0 {
			marks.Cursors[log] = f.readAnywhere
		}
	}
	return marks, len(marks.Cursors) > 0
}

// advance moves the positions of a device forward that says so without a
// connection, as far as the logs go: what it has handled, or what its user has
// read there. Of logs that are not the device's to follow it takes no notice.
func (n *Node) advance(ctx context.Context, who envelope.Principal, cursors map[envelope.Address]uint64, read bool) error {
	mine, in, err := n.followed(ctx, who, cursors)
	if err != nil || len(mine) == 0 {
		return err
	}
	heads, err := n.heads(ctx, mine)
	if err != nil {
		return err
	}
	for log, seq := range mine {
		of := in[log]
		mine[log] = of.clamp(min(seq, heads[log]))
	}
	if c := n.conns.device(who.Node); c != nil { // it knows what it was sent, and tells for that
		if read {
			c.markRead(envelope.PositionsOf(mine))
		} else {
			c.acknowledge(envelope.PositionsOf(mine))
		}
	}
	wasDelivered, wasRead, err := n.positions(ctx, who.Node)
	if err != nil {
		return err
	}
	var moves []move
	moved := func(log envelope.Address, after, upto uint64) {
		if after < upto {
			moves = append(moves, move{log: log, after: after, upto: upto, read: read, unknown: upto, stays: in[log]})
		}
	}
	if read {
		user, err := n.userMarks(ctx, who.Client)
		if err != nil {
			return err
		}
		news := make(map[envelope.Address]uint64)
		for log, seq := range mine {
			if seq > wasRead[log] {
				moved(log, wasRead[log], seq)
				n.inbox.MarkRead(who.Node, who.Client, log, seq)
			}
			if seq > user[log] && log.Kind != envelope.KindNode {
				news[log] = seq
			}
		}
		n.tellMarks(who, news)
	} else {
		for log, seq := range mine {
			moved(log, max(wasDelivered[log], wasRead[log]), seq)
			if seq > wasDelivered[log] {
				n.inbox.Acknowledge(who.Node, log, seq)
			}
		}
	}
	err = n.inbox.Flush(ctx)
	for _, m := range moves {
		n.tellMove(ctx, who, m)
	}
	return err
}

// followed returns the cursors in logs that the device may follow, and its
// stays in those that are sessions'.
func (n *Node) followed(ctx context.Context, who envelope.Principal, cursors map[envelope.Address]uint64) (mine map[envelope.Address]uint64, in map[envelope.Address]stays, err error) {
	mine = make(map[envelope.Address]uint64, len(cursors))
	for log, seq := range cursors {
		if log == who.Node.Address() || log == who.Client.Address() {
			mine[log] = seq
		}
	}
	if len(mine) == len(cursors) {
		return mine, nil, nil
	}
	members, err := n.sessions.Of(ctx, who.Node)
	if err != nil {
		return nil, nil, err
	}
	in = make(map[envelope.Address]stays)
	for _, m := range members {
		log, alias := m.Session.Address(), m.Alias.Address()
		if seq, ok := cursors[log]; ok {
			mine[log] = seq
			if in[log], err = n.standing(ctx, who.Node, m); err != nil {
				return nil, nil, err
			}
		}
		if seq, ok := cursors[alias]; ok && m.Alias != "" {
			mine[alias] = seq
		}
	}
	return mine, in, nil
}
