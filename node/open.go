package node

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// opening retries for this long before it gives up on the store.
const openWithin = 15 * time.Second

// open starts delivery, once: hello says from where, nil means from the stored
// cursors. It reports whether this call was the one. When the store cannot be
// asked in time the connection is closed with Busy.
func (c *conn) open(hello *gateway.Hello) (first bool) {
	if !c.opening.CompareAndSwap(false, true) {
		return false
	}
	c.mu.Lock()
	c.ownAcks, c.joining = hello != nil, hello != nil && len(hello.Topics) > 0
	c.mu.Unlock()
	ctx, cancel := c.ctx.within(openWithin)
	defer cancel()
	if hello != nil && len(hello.Topics) > 0 {
		defer c.openTopics(hello)
	}
	for pause := readRetry; ; pause = min(2*pause, readRetryMax) {
		err := c.tryOpen(ctx, hello)
		if err == nil || c.ctx.Err() != nil {
			return true
		}
		c.n.log.Warn("cannot open a connection", "conn", c.id, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			c.close(envelope.Busy, "the store did not answer in time")
			return true
		}
	}
}

// tryOpen finds out what the device follows and from where.
//
// The order is what keeps a message from falling between sender and reader.
// A sender appends first and reads the edges second; so here the edge is
// written first and the head read second. Whoever adds a member writes the
// membership first and looks for the device second; so here the device's own
// edge is written first and its memberships are read second.
func (c *conn) tryOpen(ctx context.Context, hello *gateway.Hello) error {
	if !c.beginFollowing(ctx) {
		return ctx.Err()
	}
	defer c.endFollowing()
	logs := []envelope.Address{c.who.Node.Address(), c.who.Client.Address()}
	if err := c.attach(ctx, logs, nil); err != nil {
		return err
	}
	members, err := c.n.sessions.Of(ctx, c.who.Node)
	if err != nil {
		return err
	}
	stored, read, err := c.n.positions(ctx, c.who.Node)
	if err != nil {
		return err
	}
	var userMarks map[envelope.Address]uint64
	if hello != nil {
		if userMarks, err = c.n.userMarks(ctx, c.who.Client); err != nil {
			return err
		}
	}
	foreign := hello != nil && hello.Epoch != "" && hello.Epoch != c.n.epoch // its cursors are from another store
	given := map[envelope.Address]uint64{}
	if hello != nil {
		given = hello.Cursors
	}
	position := func(log envelope.Address) uint64 {
		if at, ok := given[log]; ok && !foreign {
			return at
		}
		return stored[log]
	}
	of := make(map[envelope.Address]stays)
	var sessions []envelope.Address
	ended := make(map[envelope.Address]uint64) // logs of aliases there
	for _, m := range members {
		log, alias := m.Session.Address(), m.Alias.Address()
		if last := m.Spans[len(m.Spans)-1]; last.Until != 0 && position(log) >= last.Until {
			if m.Alias != "" {
				ended[alias] = position(alias) + 1
			}
			continue // it has seen all of a session that it left
		}
		sessions, of[log] = append(sessions, log), staysOf(m)
		if m.Alias != "" {
			sessions = append(sessions, alias)
		}
	}
	if len(ended) > 0 {
		unread, err := c.n.inbox.Heads(ctx, ended)
		if err != nil {
			return err
		}
		sessions = slices.AppendSeq(sessions, maps.Keys(unread))
	}
	if err := c.attach(ctx, sessions, of); err != nil {
		return err
	}
	from := make(map[envelope.Address]uint64)
	for _, log := range append(logs, sessions...) {
		from[log] = cmp.Or(given[log], stored[log])
	}
	heads, err := c.n.heads(ctx, from)
	if err != nil {
		return err
	}
	if hello != nil && hello.FromNow { // it passes over what would say that it has left
		if members, err = c.n.sessions.Of(ctx, c.who.Node); err != nil {
			return err
		}
		c.learn(members)
	}
	master, err := c.plays(ctx, members)
	if err != nil {
		return err
	}

	acked := make(map[envelope.Address]uint64)
	defer func() { // when mu is free
		for log, seq := range acked {
			c.n.inbox.Acknowledge(c.who.Node, log, seq)
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	var gaps []gateway.Gap
	welcome := make(map[envelope.Address]uint64, c.follows.Len())
	for f := range c.follows.All() {
		log := f.log
		head := heads[log]
		at, ok := given[log]
		kept, news := stored[log], len(gaps)
		if kept > head {
			kept = 0 // nobody can have seen what is not there: the log is not the one it was
		}
		switch {
		case ok && foreign:
			at = kept
			gaps = append(gaps, gateway.Gap{Log: log, Floor: at + 1})
		case ok && at > head:
			at = 0
			gaps = append(gaps, gateway.Gap{Log: log, Floor: 1})
		case ok:
		case hello != nil && hello.FromNow:
			at = head
		default:
			if at = kept; kept < stored[log] {
				gaps = append(gaps, gateway.Gap{Log: log, Floor: 1})
			}
		}
		f.start(at, head)
		f.crowned(master[log])
		if len(gaps) > news || !ok && hello != nil && hello.FromNow {
			f.oweHeader(false)
		}
		f.read = read[log]
		if f.sent > stored[log] && ok {
			// It says that it has handled so much; that acknowledgement may
			// have been lost with the connection before.
			acked[log] = f.sent
			c.moved(f, max(stored[log], f.read), f.sent, false)
		}
		welcome[log] = f.clamp(head)
	}
	if hello != nil {
		c.lane.push(c.codec.Append(nil, gateway.Welcome{
			Server: c.n.cfg.Graph.Self.ID, Epoch: c.n.epoch, Heads: welcome, Window: windowMessages, Ping: c.n.timing.Ping,
		}))
		for _, g := range gaps {
			c.lane.push(c.codec.Append(nil, g))
		}
		if marks, any := c.openMarks(userMarks); any {
			c.lane.push(c.codec.Append(nil, marks))
		}
		c.replaying = true
	}
	c.setExpiry()
	c.wake()
	return nil
}

// heads returns the heads of logs in which a reader claims positions. Where a
// log does not reach the position, its head is found all the same.
func (n *Node) heads(ctx context.Context, at map[envelope.Address]uint64) (map[envelope.Address]uint64, error) {
	heads, err := n.inbox.Heads(ctx, at)
	if err != nil {
		return nil, err
	}
	short := make(map[envelope.Address]uint64)
	for log, seq := range at {
		if heads[log] < seq {
			short[log] = 0
		}
	}
	if len(short) == 0 {
		return heads, nil
	}
	rest, err := n.inbox.Heads(ctx, short)
	maps.Copy(heads, rest)
	return heads, err
}
