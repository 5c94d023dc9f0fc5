package load

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
)

// group is durable messages among members of whom some are away and come back
// at the end. Speakers take turns; the next message is sent as soon as fewer
// than Inflight have not reached all who are there.
type group struct {
	Members  int
	Away     int
	Speakers int // of those who are there
	Messages int
	Longest  time.Duration // of speaking; then it is left at fewer messages
	Inflight int
}

func (g group) run(ctx context.Context, r *run) error {
	c := &chat{
		run: r, group: g, name: r.name("g", 0), users: make([]*user, g.Members), ledger: ledger.New(),
		window: make(chan struct{}, g.Inflight), left: make([]atomic.Int32, g.Messages+1), toEach: newHistogram(), toAck: newHistogram(),
		sent: make([]time.Time, g.Messages+1), start: time.Now(),
	}
	var names []string
	for i := range c.users {
		c.users[i] = r.user(i)
		names = append(names, c.users[i].name)
	}
	connect := func(i int) error { return r.connect(ctx, c.users[i], peer.User{Durable: true}, c.handler(i)) }
	if err := r.connectAll(ctx, g.Members, connect); err != nil {
		return err
	}
	if err := r.Target.Group(ctx, c.name, names); err != nil {
		return err
	}
	if err := r.sleep(ctx, time.Second); err != nil { // whoever is there has heard of it
		return err
	}
	there := g.Members - g.Away
	for _, u := range c.users[there:] {
		if err := u.client.Close(); err != nil {
			return err
		}
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.speak(ctx); err != nil {
		return err
	}
	spoken, err := r.meter.read()
	if err != nil {
		return err
	}
	heard := int(c.received.Load())
	r.costs(before, spoken, heard, "delivery")
	r.flow(heard, time.Duration(c.last.Load())-began.Sub(c.start), "deliveries")

	r.result.Latency = c.toEach.latency() // of those who were there
	if err := r.connectAll(ctx, g.Away, func(i int) error { return connect(there + i) }); err != nil {
		return err
	}
	if err := r.watch(ctx, int64(c.said*(g.Members-1)), c.received.Load); err != nil {
		return err
	}
	replayed, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	r.verdict(c.ledger.Verdict())
	r.result.ToAck = c.toAck.latency()
	r.replay(spoken, replayed, int(c.received.Load())-heard, time.Duration(c.last.Load())-spoken.at.Sub(c.start))
	r.percentiles()
	return nil
}

// chat is a group at work. Messages are numbered from 1, which is their tag.
type chat struct {
	*run
	group
	name   string
	users  []*user
	ledger *ledger.Ledger
	start  time.Time
	said   int            // messages; only the goroutine that has them said
	sent   []time.Time    // of each message; written before it is sent
	window chan struct{}  // a token for each message that has not reached all who are there
	left   []atomic.Int32 // of each message: members there that have yet to get it
	toEach *histogram
	toAck  *histogram

	received, answered, last atomic.Int64
}

func (c *chat) handler(i int) peer.Handler {
	return peer.Handler{
		Message: func(body []byte) { c.receive(i, body) },
		Accepted: func(tag uint64) {
			if tag < uint64(len(c.sent)) {
				c.toAck.record(time.Since(c.sent[tag]))
				c.take(i, int(tag), true)
			}
		},
		Refused: func(tag uint64, _ string) { c.take(i, int(tag), false) },
	}
}

// take handles the server's word about a message for all who are to get it.
func (c *chat) take(from, tag int, accepted bool) {
	for to := range c.users {
		s := ledger.Stream{From: from, To: to}
		switch n := (tag-1)/c.Speakers + 1; {
		case to == from:
		case accepted:
			c.ledger.Take(s, n)
		default:
			c.ledger.Refuse(s, n)
		}
	}
	c.answered.Add(1)
}

// speak sends everything and waits until those who are there have it.
func (c *chat) speak(ctx context.Context) error {
	there := c.Members - c.Away
	var body []byte
	for tag, began := 1, time.Now(); tag <= c.Messages && time.Since(began) < c.Longest; tag++ {
		late := time.NewTimer(c.Settle)
		select {
		case c.window <- struct{}{}:
		case <-late.C: // a message was lost: what is missing is in the account
			<-c.window
			c.window <- struct{}{}
		case <-c.ends:
			return c.broken()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		late.Stop()
		from := (tag - 1) % c.Speakers
		for to := range c.users {
			if to != from {
				c.ledger.Send(ledger.Stream{From: from, To: to})
			}
		}
		c.left[tag].Store(int32(there - 1))
		c.sent[tag] = time.Now()
		body = stamp{run: c.id, from: uint32(from), n: uint32(tag), due: int64(time.Since(c.start))}.appendBody(body[:0], bodySize)
		if err := c.users[from].client.Publish(c.name, peer.Message{Body: body, Durable: true, Tag: uint64(tag)}); err != nil {
			return err
		}
		c.said = tag
		c.progress(int64(tag), int64(c.Messages))
	}
	return c.watch(ctx, int64(c.said), func() int64 {
		return min(c.answered.Load(), c.received.Load()/int64(there-1))
	})
}

func (c *chat) receive(to int, body []byte) {
	s, ok := readStamp(body)
	if !ok || s.run != c.run.id || int(s.from) == to || s.n == 0 || int(s.n) >= len(c.left) {
		return // or its own
	}
	at := time.Since(c.start)
	if to < c.Members-c.Away {
		c.toEach.record(at - time.Duration(s.due))
		if c.left[s.n].Add(-1) == 0 {
			select {
			case <-c.window:
			default: // it was given up
			}
		}
	}
	c.last.Store(int64(at))
	c.ledger.Receive(ledger.Stream{From: int(s.from), To: to}, (int(s.n)-1)/c.Speakers+1)
	c.received.Add(1)
}
