package node

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// follow is a connection's place in one log. Its fields are guarded by the
// connection's mu.
type follow struct {
	log     envelope.Address
	started bool           // sent means something; until then only head is kept
	sent    uint64         // handed to the lane up to here
	shown   uint64         // the last entry up to sent that the client is to see
	acked   uint64         // acknowledged by the client up to here
	goal    uint64         // the head when delivery began
	head    uint64         // the highest seq heard of
	live    bool           // sent == head as far as we know: offers go straight to the lane
	spans   []session.Span // of a session: the stays that the device may see
	pause   time.Duration  // before the next attempt to read the log
	paused  bool           // such a pause is on
	ending  bool           // somebody is about to stop following
}

// own reports whether a message to a group or user is the device's own: it has
// the acknowledgement and gets no copy.
func (f *follow) own(env *envelope.Envelope, who envelope.Principal) bool {
	return f.log.Kind != envelope.KindNode && env.SrcNode == who.Node
}

// sees reports whether the device gets the next entry of the log. The device's
// own joining and leaving entries change what it sees after them: the log
// decides, not what a server believed when it started reading.
func (f *follow) sees(env *envelope.Envelope, who envelope.Principal) bool {
	if f.own(env, who) {
		if f.log.Kind == envelope.KindSession && env.HasType {
			f.observe(env)
		}
		return false
	}
	if f.log.Kind != envelope.KindSession {
		return true
	}
	return slices.ContainsFunc(f.spans, func(s session.Span) bool {
		return env.Seq >= s.From && (s.Until == 0 || env.Seq <= s.Until)
	})
}

func (f *follow) observe(env *envelope.Envelope) {
	last := len(f.spans) - 1
	switch {
	case env.Type == envelope.TypeJoined && (last < 0 || f.spans[last].Until != 0 && env.Seq > f.spans[last].Until):
		f.spans = append(f.spans, session.Span{From: env.Seq})
	case env.Type == envelope.TypeLeft && last >= 0 && f.spans[last].Until == 0 && env.Seq > f.spans[last].From:
		f.spans[last].Until = env.Seq
	}
}

// open reports whether the device is in the session now; a log that is not a
// session's is always open.
func (f *follow) open() bool {
	if f.log.Kind != envelope.KindSession {
		return true
	}
	return len(f.spans) > 0 && f.spans[len(f.spans)-1].Until == 0
}

// over reports whether nothing in the log is left for the device to see or to
// acknowledge.
func (f *follow) over() bool {
	return f.started && !f.open() && f.acked >= f.shown && (len(f.spans) == 0 || f.sent >= f.spans[len(f.spans)-1].Until)
}

// acknowledge notes that the client has handled the log up to seq, and reports
// whether that is news. What the client does not get needs no acknowledgement.
func (f *follow) acknowledge(seq uint64) bool {
	if seq = min(seq, f.sent); !f.started || seq <= f.acked {
		return false
	}
	if f.acked = seq; seq >= f.shown {
		f.acked = f.sent
	}
	return true
}

// behind returns a log to read on, or nil; under mu.
func (c *conn) behind() *follow {
	for _, f := range c.follows {
		if f.started && !f.live && !f.paused {
			return f
		}
	}
	return nil
}

// replayed reports whether everything has been sent that was there when
// delivery began; under mu.
func (c *conn) replayed() bool {
	for _, f := range c.follows {
		if f.started && f.sent < f.goal {
			return false
		}
	}
	return true
}

// positions returns how far each log has been sent; under mu.
func (c *conn) positions() map[envelope.Address]uint64 {
	at := make(map[envelope.Address]uint64, len(c.follows))
	for log, f := range c.follows {
		at[log] = f.sent
	}
	return at
}

// hinted tells the connection of a log's head, as a peer or a sweep knows it.
func (c *conn) hinted(log envelope.Address, head uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.follows[log]; f != nil {
		if f.live && head > f.sent {
			c.n.stats.Repaired.Add(1)
		}
		c.hint(f, head)
	}
}

// known returns how far the connection knows a log to go.
func (c *conn) known(log envelope.Address) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.follows[log]; f != nil {
		return max(f.sent, f.head)
	}
	return math.MaxInt64
}

// opening retries for this long before it gives up on the store.
const openWithin = 15 * time.Second

// open starts delivery, once: hello says from where, nil means from the stored
// cursors. It reports whether this call was the one. When the store cannot be
// asked in time the connection is closed with Busy.
func (c *conn) open(hello *gateway.Hello) (first bool) {
	c.openOnce.Do(func() {
		first = true
		c.mu.Lock()
		c.ownAcks = hello != nil
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(c.ctx, openWithin)
		defer cancel()
		for pause := readRetry; ; pause = min(2*pause, readRetryMax) {
			err := c.tryOpen(ctx, hello)
			if err == nil || c.ctx.Err() != nil {
				return
			}
			c.n.log.Warn("cannot open a connection", "conn", c.id, "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				c.close(envelope.Busy, "the store did not answer in time")
				return
			}
		}
	})
	return first
}

// tryOpen finds out what the device follows and from where.
//
// The order is what keeps a message from falling between sender and reader.
// A sender appends first and reads the edges second; so here the edge is
// written first and the head read second. Whoever adds a member writes the
// membership first and looks for the device second; so here the device's own
// edge is written first and its memberships are read second.
func (c *conn) tryOpen(ctx context.Context, hello *gateway.Hello) error {
	c.follower <- struct{}{}
	defer func() { <-c.follower }()
	logs := []envelope.Address{c.who.Node.Address(), c.who.Client.Address()}
	if err := c.attach(ctx, logs, nil); err != nil {
		return err
	}
	members, err := c.n.sessions.Of(ctx, c.who.Node)
	if err != nil {
		return err
	}
	stored, err := c.stored(ctx)
	if err != nil {
		return err
	}
	foreign := hello != nil && hello.Epoch != "" && hello.Epoch != c.n.epoch // its cursors are from another store
	given := map[envelope.Address]uint64{}
	if hello != nil {
		given = hello.Cursors
	}
	spans := make(map[envelope.Address][]session.Span)
	var sessions []envelope.Address
	for _, m := range members {
		log := m.Session.Address()
		at, ok := given[log]
		if !ok || foreign {
			at = stored[log]
		}
		if last := m.Spans[len(m.Spans)-1]; last.Until != 0 && at >= last.Until {
			continue // it has seen all of a session that it left
		}
		sessions, spans[log] = append(sessions, log), m.Spans
	}
	if err := c.attach(ctx, sessions, spans); err != nil {
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

	acked := make(map[envelope.Address]uint64)
	defer func() { // when mu is free
		for log, seq := range acked {
			c.n.inbox.Acknowledge(c.who.Node, log, seq)
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	var gaps []gateway.Gap
	welcome := make(map[envelope.Address]uint64, len(c.follows))
	for log, f := range c.follows {
		head := heads[log]
		at, ok := given[log]
		switch {
		case ok && foreign:
			at = min(stored[log], head)
			gaps = append(gaps, gateway.Gap{Log: log, Floor: at + 1})
		case ok && at > head:
			// Nobody can have seen what is not there.
			at = 0
			gaps = append(gaps, gateway.Gap{Log: log, Floor: 1})
		case ok:
		case hello != nil && hello.FromNow:
			at = head
		default:
			at = min(stored[log], head)
		}
		f.start(at, head)
		if f.sent > stored[log] && ok {
			// It says that it has handled so much; that acknowledgement may
			// have been lost with the connection before.
			acked[log] = f.sent
		}
		welcome[log] = head
	}
	if hello != nil {
		c.lane.push(c.codec.Append(nil, gateway.Welcome{
			Server: c.n.cfg.Graph.Self.ID, Epoch: c.n.epoch, Heads: welcome, Window: windowMessages, Ping: c.n.timing.Ping,
		}))
		for _, g := range gaps {
			c.lane.push(c.codec.Append(nil, g))
		}
		c.replaying = true
	}
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

// start says where delivery begins: behind the cursor, and never before the
// device's first stay in a session.
func (f *follow) start(cursor, head uint64) {
	if len(f.spans) > 0 {
		cursor = max(cursor, f.spans[0].From-1)
	}
	f.sent, f.shown, f.acked, f.head, f.goal = cursor, cursor, cursor, max(f.head, head), head
	f.started = true
	f.live = f.sent >= f.head
}

func (c *conn) stored(ctx context.Context) (map[envelope.Address]uint64, error) {
	cursors, err := c.n.inbox.Cursors(ctx, c.who.Node)
	if err != nil {
		return nil, err
	}
	at := make(map[envelope.Address]uint64, len(cursors))
	for _, cur := range cursors {
		at[cur.Log] = cur.Delivered
	}
	return at, nil
}

// attach makes the connection hear of logs, on this server and from others.
// The caller holds follower.
func (c *conn) attach(ctx context.Context, logs []envelope.Address, spans map[envelope.Address][]session.Span) error {
	var fresh []envelope.Address
	c.mu.Lock()
	for _, log := range logs {
		if c.follows[log] == nil {
			c.follows[log] = &follow{log: log, spans: slices.Clone(spans[log])}
			fresh = append(fresh, log)
		}
	}
	c.mu.Unlock()
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
	stored, err := c.stored(c.ctx)
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
