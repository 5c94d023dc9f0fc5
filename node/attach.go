package node

import (
	"cmp"
	"context"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// attach makes the connection hear of logs, on this server and from others.
// The caller holds follower.
func (c *conn) attach(ctx context.Context, logs []envelope.Address, spans map[envelope.Address][]session.Span) error {
	var fresh []envelope.Address
	c.mu.Lock()
	for _, log := range logs {
		if f := c.follows[log]; f != nil { // an attempt before this one came so far
			f.spans = merged(f.spans, spans[log])
		} else {
			c.follows[log] = &follow{log: log, spans: slices.Clone(spans[log])}
			fresh = append(fresh, log)
		}
	}
	c.mu.Unlock()
	return c.enter(ctx, fresh)
}

// enter makes the connection hear of logs that it has come to follow, or to
// follow them no more.
func (c *conn) enter(ctx context.Context, fresh []envelope.Address) error {
	if len(fresh) == 0 {
		return nil
	}
	for _, log := range fresh {
		c.n.conns.follow(c, log)
	}
	changed, err := c.n.graph.Attach(ctx, c.id, fresh)
	if err != nil {
		c.mu.Lock()
		for _, log := range fresh {
			delete(c.follows, log)
		}
		c.mu.Unlock()
		for _, log := range fresh {
			c.n.conns.unfollow(c, log)
		}
		return err
	}
	c.n.peers.announce(changed)
	return nil
}

// refollow looks for sessions that the device has joined since it connected.
func (c *conn) refollow() error {
	select {
	case c.follower <- struct{}{}:
	case <-c.ctx.Done():
		return nil
	}
	defer func() { <-c.follower }()
	c.mu.Lock()
	node := c.follows[c.who.Node.Address()]
	opened := node != nil && node.started
	c.mu.Unlock()
	if !opened {
		return nil // open is about to look
	}
	members, err := c.n.sessions.Of(c.ctx, c.who.Node)
	if err != nil {
		return err
	}
	var others []session.Member
	c.mu.Lock()
	for _, m := range members {
		if f := c.follows[m.Session.Address()]; f != nil {
			f.spans = merged(f.spans, m.Spans) // a stay may have begun that the reading has not come to
		} else {
			others = append(others, m)
		}
	}
	c.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	stored, read, err := c.n.positions(c.ctx, c.who.Node)
	if err != nil {
		return err
	}
	var fresh []envelope.Address
	spans := make(map[envelope.Address][]session.Span)
	at := make(map[envelope.Address]uint64)
	for _, m := range others {
		log, last := m.Session.Address(), m.Spans[len(m.Spans)-1]
		if last.Until != 0 && stored[log] >= last.Until {
			continue // it has seen all of a session that it left
		}
		fresh, spans[log] = append(fresh, log), m.Spans
		// Not from the last stay on: there may have been one that the device
		// has seen nothing of.
		at[log] = max(stored[log], m.Spans[0].From-1)
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := c.attach(c.ctx, fresh, spans); err != nil {
		return err
	}
	heads, err := c.n.heads(c.ctx, at)
	if err != nil {
		c.detach(fresh)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range fresh {
		c.follows[log].start(at[log], heads[log])
		c.follows[log].read = read[log]
	}
	c.wake()
	return nil
}

// merged returns the stays that either side knows of. A stay that one knows to
// have ended has ended: what was read of the store may be older than the log.
func merged(a, b []session.Span) []session.Span {
	all := slices.Clone(a)
	for _, s := range b {
		i := slices.IndexFunc(all, func(known session.Span) bool { return known.From == s.From })
		if i < 0 {
			all = append(all, s)
			continue
		}
		all[i].Until = max(all[i].Until, s.Until)
	}
	slices.SortFunc(all, func(a, b session.Span) int { return cmp.Compare(a.From, b.From) })
	return all
}

// endIfLeft stops following a session that the device has left and seen the
// end of; under mu.
func (c *conn) endIfLeft(f *follow) {
	if !f.over() || f.ending || c.over {
		return
	}
	f.ending = true
	c.wg.Go(func() {
		select {
		case c.follower <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
		defer func() { <-c.follower }()
		c.mu.Lock()
		f.ending = false
		still := c.follows[f.log] == f && f.over()
		end := f.sent
		c.mu.Unlock()
		if still {
			c.acked.Store(true)
			c.n.inbox.Acknowledge(c.who.Node, f.log, end) // so that the next connection need not look
			c.detach([]envelope.Address{f.log})
		}
	})
}

// detach stops following logs. The caller holds follower, or is the last.
func (c *conn) detach(logs []envelope.Address) {
	c.mu.Lock()
	for _, log := range logs {
		delete(c.follows, log)
	}
	c.mu.Unlock()
	for _, log := range logs {
		c.n.conns.unfollow(c, log)
	}
	// Not the connection's context: it may be over, the edge must go all the same.
	c.n.graph.Detach(context.WithoutCancel(c.ctx), logs)
}

// unfollowAll gives back everything when the connection is over.
func (c *conn) unfollowAll() {
	c.mu.Lock()
	logs := make([]envelope.Address, 0, len(c.follows))
	for log := range c.follows {
		logs = append(logs, log)
	}
	c.mu.Unlock()
	c.detach(logs)
}
