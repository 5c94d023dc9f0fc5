package node

import (
	"context"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// beginFollowing waits for the turn to change what is followed. It reports false
// when ctx ended first.
func (c *conn) beginFollowing(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.following.take(ctx, &c.mu, 1)
}

// endFollowing ends the turn.
func (c *conn) endFollowing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.following.leave()
}

// attach makes the connection hear of logs, on this server and from others.
// The caller has the turn to follow.
func (c *conn) attach(ctx context.Context, logs []envelope.Address, of map[envelope.Address]stays) error {
	var fresh []*follow
	c.mu.Lock()
	for _, log := range logs {
		if f := c.follows.Get(log); f != nil { // an attempt before this one came so far
			f.learn(of[log])
		} else {
			f = newFollow(c, log, of[log])
			c.follows.Put(f)
			fresh = append(fresh, f)
		}
	}
	c.mu.Unlock()
	return c.enter(ctx, fresh)
}

// enter makes the connection hear of logs that it has come to follow, or to
// follow them no more.
func (c *conn) enter(ctx context.Context, fresh []*follow) error {
	if len(fresh) == 0 {
		return nil
	}
	logs := make([]envelope.Address, len(fresh))
	for i, f := range fresh {
		logs[i] = f.log
		c.n.conns.follow(f)
	}
	changed, err := c.n.graph.Attach(ctx, c.id, logs)
	if err != nil {
		c.unfollowHere(logs)
		return err
	}
	c.n.peers.announce(changed)
	return nil
}

// unlooked is which sessions a device may have joined or left since its
// connection has looked.
type unlooked struct {
	all  bool // so many that all its sessions are looked at
	some []envelope.SessionID
}

// maxUnlooked bounds the sessions that are looked at each by itself.
const maxUnlooked = 64

// toLook notes that the device may have joined or left a session, and reports
// whether nobody was about to look; "" is for any session.
func (c *conn) toLook(id envelope.SessionID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.unlooked == nil
	if first {
		c.unlooked = new(unlooked)
	}
	u := c.unlooked
	switch {
	case u.all || slices.Contains(u.some, id):
	case id == "" || len(u.some) == maxUnlooked:
		*u = unlooked{all: true}
	default:
		u.some = append(u.some, id)
	}
	return first
}

// lookAgain looks at the sessions that have been noted, which remain so after an error.
func (c *conn) lookAgain() error {
	if !c.beginFollowing(&c.ctx) {
		return nil
	}
	defer c.endFollowing()
	c.mu.Lock()
	u := c.unlooked
	c.unlooked = nil // what changes from now on may be missed
	c.mu.Unlock()
	if u == nil { // somebody else has looked
		return nil
	}
	err := c.refollow(u.some) // none when all are looked at
	if err != nil && u.all {
		c.toLook("")
	} else if err != nil {
		for _, id := range u.some {
			c.toLook(id)
		}
	}
	return err
}

// refollow looks for sessions that the device has joined since it connected:
// among some, or all that it is in. The cost of the former does not depend on how
// many these are. The caller has the turn to follow.
func (c *conn) refollow(some []envelope.SessionID) error {
	c.mu.Lock()
	node := c.follows.Get(c.who.Node.Address())
	opened := node != nil && node.started
	c.mu.Unlock()
	if !opened {
		return nil // open is about to look
	}
	members, err := c.memberships(some)
	if err != nil {
		return err
	}
	news := c.learn(members)
	if len(news) == 0 {
		return nil
	}
	var stored, read map[envelope.Address]uint64
	if !allNew(news) {
		if stored, read, err = c.n.positions(&c.ctx, c.who.Node); err != nil {
			return err
		}
	}
	var fresh []envelope.Address
	of := make(map[envelope.Address]stays)
	at := make(map[envelope.Address]uint64)
	c.mu.Lock()
	for _, m := range news {
		log, last := m.Session.Address(), m.Spans[len(m.Spans)-1]
		if c.follows.Get(log) == nil {
			if last.Until != 0 && stored[log] >= last.Until {
				continue // it has seen all of a session that it left
			}
			// Not from the last stay on: there may have been one that the device
			// has seen nothing of.
			stay := staysOf(m)
			fresh, of[log], at[log] = append(fresh, log), stay, max(stored[log], stay.first()-1)
		}
		if log := m.Alias.Address(); m.Alias != "" && c.follows.Get(log) == nil {
			fresh, at[log] = append(fresh, log), stored[log]
		}
	}
	c.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	if err := c.attach(&c.ctx, fresh, of); err != nil {
		return err
	}
	heads, err := c.n.heads(&c.ctx, at)
	if err != nil {
		c.detach(fresh)
		return err
	}
	master, err := c.plays(&c.ctx, news)
	if err != nil {
		c.detach(fresh)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range fresh {
		c.follows.Get(log).crowned(master[log])
		c.follows.Get(log).start(at[log], heads[log])
		c.follows.Get(log).read = read[log]
	}
	c.wake()
	return nil
}

// memberships returns those of the device's memberships that give it something
// to read: in some sessions, or with none named in all.
func (c *conn) memberships(some []envelope.SessionID) ([]session.Member, error) {
	if len(some) == 0 {
		return c.n.sessions.Of(&c.ctx, c.who.Node)
	}
	var members []session.Member
	for _, id := range some {
		m, err := c.n.sessions.Stays(&c.ctx, id, c.who.Node)
		if err != nil {
			return nil, err
		}
		if len(m.Spans) > 0 {
			members = append(members, m)
		}
	}
	return members, nil
}

// allNew reports whether the device is in sessions for the first time, and so
// has no positions in their logs. One that it has made meanwhile without a
// connection is passed over: what was before comes once more.
func allNew(members []session.Member) bool {
	return !slices.ContainsFunc(members, func(m session.Member) bool {
		return len(m.Spans) != 1 || m.Spans[0].Until != 0 || m.Alias != ""
	})
}

// learn takes what the store says of the device's stays to the sessions that
// are followed, and returns the memberships that call for another log to be.
func (c *conn) learn(members []session.Member) (news []session.Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range members {
		f := c.follows.Get(m.Session.Address())
		if f != nil && f.learn(staysOf(m)) {
			c.wake()
		}
		if f == nil || m.Alias != "" && c.follows.Get(m.Alias.Address()) == nil {
			news = append(news, m)
		}
	}
	return news
}

// endIfLeft stops following a session that the device has left and seen the
// end of, and then the log of its alias there; under mu.
func (c *conn) endIfLeft(f *follow) {
	if !c.finished(f) || f.ending || c.over {
		return
	}
	f.ending = true
	c.wg.Go(func() {
		if !c.beginFollowing(&c.ctx) {
			return
		}
		defer c.endFollowing()
		c.mu.Lock()
		f.ending = false
		still := !f.gone && c.finished(f)
		end, alias := f.clamp(f.sent), f.alias.Address()
		c.mu.Unlock()
		if !still {
			return
		}
		c.acked.Store(true)
		c.n.inbox.Acknowledge(c.who.Node, f.log, end) // so that the next connection need not look
		c.detach([]envelope.Address{f.log})
		c.mu.Lock()
		defer c.mu.Unlock()
		if f := c.follows.Get(alias); f != nil {
			c.endIfLeft(f)
		}
	})
}

// detach stops following logs. The caller has the turn to follow, or is the last.
func (c *conn) detach(logs []envelope.Address) {
	c.unfollowHere(logs)
	// Not the connection's context: it may be over, the edge must go all the same.
	c.n.graph.Detach(context.WithoutCancel(&c.ctx), logs)
}

// unfollowHere makes the connection hear no more of logs on this server.
func (c *conn) unfollowHere(logs []envelope.Address) {
	gone := make([]*follow, 0, len(logs))
	c.mu.Lock()
	for _, log := range logs {
		if f := c.follows.Remove(log); f != nil {
			f.gone = true
			gone = append(gone, f)
		}
	}
	c.mu.Unlock()
	for _, f := range gone {
		c.n.conns.unfollow(f)
	}
}

// unfollowAll gives back everything when the connection is over.
func (c *conn) unfollowAll() {
	c.mu.Lock()
	logs := make([]envelope.Address, 0, c.follows.Len())
	for f := range c.follows.All() {
		log := f.log
		logs = append(logs, log)
	}
	c.mu.Unlock()
	c.detach(logs)
}
