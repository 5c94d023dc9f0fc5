package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
)

// pairs is users who send to one another, each message to a user picked at
// random.
//
// Closed loop (Rate 0): a user sends the next message as soon as fewer than
// Inflight of its messages are unanswered. A durable message is answered when
// the server says that it has it, a volatile one when it has been received: else
// nothing would hold the senders back. Latencies count from the moment of sending.
//
// Open loop: messages are due at a fixed rate, whatever the server does, and
// latencies count from the moment each was due, so that a stall shows in all
// messages that it delayed (no coordinated omission).
type pairs struct {
	Users    int
	Senders  int // how many of them send; 0: all
	Among    int // only so many, from the first, are sent to; 0: all
	Messages int
	Inflight int
	Rate     float64 // messages per second of all users together
	Durable  bool
	Apart    bool // receivers are users of another server, where there are several
	Stored   int  // durable messages that are sent before, and not counted
	Groups   int  // what is sent goes to one of so many groups of two, not to a user
	Spoken   int  // of them are spoken in, each by a sender of its own; 0: all
}

func (p pairs) run(ctx context.Context, r *run) error {
	x := newExchange(r, p)
	err := r.connectAll(ctx, p.Users, func(i int) error {
		return r.connect(ctx, x.users[i].user, peer.User{Durable: p.Durable}, x.handler(i))
	})
	if err != nil {
		return err
	}
	if err := x.makeGroups(ctx); err != nil {
		return err
	}
	if p.Stored > 0 {
		if err := x.exchange(ctx, newPhase(r.id+3, p.Stored, true)); err != nil {
			return fmt.Errorf("storing: %w", err)
		}
		if err := r.settle(ctx); err != nil { // what is left to do about these is not for the others to pay
			return err
		}
	}
	const warmUp = 10 // a tenth
	if err := x.exchange(ctx, newPhase(r.id+1, p.Messages/warmUp, p.Durable)); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	ph := newPhase(r.id+2, p.Messages, p.Durable)
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := x.exchange(ctx, ph); err != nil {
		return err
	}
	after, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	v := ph.ledger.Verdict()
	r.verdict(v)
	r.result.Latency, r.result.ToAck = ph.toReach.latency(), ph.toAck.latency()
	r.costs(before, after, v.Received, "message")
	r.flow(v.Received, time.Duration(ph.last.Load()), "messages")
	r.percentiles()
	return nil
}

// exchange is pairs at work.
type exchange struct {
	*run
	pairs
	users []*pairUser
	to    func(*pairUser) int // to whom a user sends; nil: to anybody
	phase atomic.Pointer[phase]
}

func newExchange(r *run, p pairs) *exchange {
	x := &exchange{run: r, pairs: p, users: make([]*pairUser, p.Users)}
	for i := range x.users {
		x.users[i] = &pairUser{user: r.user(i), pending: make(map[uint64]pending), rand: rand.New(rand.NewPCG(1, uint64(i)))}
	}
	x.phase.Store(newPhase(r.id, 0, p.Durable)) // for what comes before anything is sent
	return x
}

// phase is messages that are counted together: those to warm up, or the rest.
type phase struct {
	id       uint32 // in each body
	messages int64
	durable  bool
	away     bool // receivers come later: what counts is the server's word
	ledger   *ledger.Ledger
	toReach  *histogram
	toAck    *histogram
	start    time.Time    // static after the phase has begun
	begun    atomic.Int64 // messages
	answered atomic.Int64 // accepted or refused; durable
	received atomic.Int64 // in any order, also again
	last     atomic.Int64 // nanoseconds from start to the last that came
}

func newPhase(id uint32, messages int, durable bool) *phase {
	return &phase{
		id: id, messages: int64(messages), durable: durable, start: time.Now(),
		ledger: ledger.New(), toReach: newHistogram(), toAck: newHistogram(),
	}
}

// done returns how many messages are through with.
func (ph *phase) done() int64 {
	switch {
	case ph.away:
		return ph.answered.Load()
	case ph.durable:
		return min(ph.received.Load(), ph.answered.Load())
	}
	return ph.received.Load()
}

type pairUser struct {
	*user

	groups []groupOfTwo // static once messages are sent

	mu      sync.Mutex
	rand    *rand.Rand
	body    []byte
	tag     uint64
	pending map[uint64]pending // durable messages without an answer
}

type pending struct {
	stream ledger.Stream
	n      int
	sent   time.Time
	phase  *phase
}

func (x *exchange) handler(i int) peer.Handler {
	return peer.Handler{
		Message:  func(body []byte) { x.receive(i, body) },
		Accepted: func(tag uint64) { x.answer(i, tag, true) },
		Refused:  func(tag uint64, _ string) { x.answer(i, tag, false) },
	}
}

// exchange sends everything of a phase and waits until it has come.
func (x *exchange) exchange(ctx context.Context, ph *phase) error {
	ph.start = time.Now()
	x.phase.Store(ph)
	senders := x.Senders
	if senders == 0 {
		senders = x.Users
	}
	if x.Spoken > 0 {
		senders = x.Spoken
	}
	if x.Rate > 0 {
		if err := x.pace(ctx, ph, senders); err != nil {
			return err
		}
	} else {
		for k := range x.Inflight * senders {
			if err := x.next(ph, k%senders); err != nil {
				return err
			}
		}
	}
	return x.watch(ctx, ph.messages, ph.done)
}

// pace sends at the fixed rate.
func (x *exchange) pace(ctx context.Context, ph *phase, senders int) error {
	turn := rand.New(rand.NewPCG(2, 2))
	for k := range ph.messages {
		due := time.Duration(float64(k) / x.Rate * float64(time.Second))
		sleepUntil(ph.start.Add(due))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.send(ph, turn.IntN(senders), due); err != nil {
			return err
		}
		if k%1024 == 0 {
			x.progress(k, ph.messages)
		}
	}
	return nil
}

// next has a user send another message, if any are left; closed loop.
func (x *exchange) next(ph *phase, from int) error {
	if ph.begun.Add(1) > ph.messages {
		return nil
	}
	return x.send(ph, from, time.Since(ph.start))
}

// send has a user send a message. The user's lock is held meanwhile, so that
// messages are sent in the order of their numbers.
func (x *exchange) send(ph *phase, from int, due time.Duration) error {
	u := x.users[from]
	u.mu.Lock()
	defer u.mu.Unlock()
	to, group := x.pick(u)
	s := ledger.Stream{From: from, To: to}
	n := ph.ledger.Send(s)
	u.body = stamp{run: ph.id, from: uint32(from), n: uint32(n), due: int64(due)}.appendBody(u.body[:0], bodySize)
	m := peer.Message{Body: u.body, Durable: ph.durable}
	if ph.durable {
		u.tag++
		m.Tag = u.tag
		u.pending[m.Tag] = pending{stream: s, n: n, sent: ph.start.Add(due), phase: ph}
	} else {
		ph.ledger.Take(s, n) // nobody says so; it has to come all the same
	}
	if group != "" {
		return u.client.Publish(group, m)
	}
	return u.client.Send(x.users[to].name, m)
}

// pick returns to whom a user sends, and in which group, if in one.
func (x *exchange) pick(u *pairUser) (to int, group string) {
	if x.to != nil {
		return x.to(u), ""
	}
	if len(u.groups) > 0 {
		g := u.groups[u.rand.IntN(len(u.groups))]
		return g.with, g.name
	}
	servers, islands := x.Target.About().Can.Servers, x.islands()
	receivers := x.Users
	if x.Among > 0 {
		receivers = x.Among
	}
	for {
		to := u.rand.IntN(receivers)
		if to == u.index || to%islands != u.index%islands || x.Apart && servers > 1 && to%servers == u.index%servers {
			continue
		}
		return to, ""
	}
}

func (x *exchange) receive(to int, body []byte) {
	ph := x.phase.Load()
	s, ok := readStamp(body)
	if !ok || s.run != ph.id || int(s.from) >= len(x.users) || int(s.from) == to {
		return // of the phase before, somebody else's, or its own that comes back from a group
	}
	at := time.Since(ph.start)
	ph.toReach.record(at - time.Duration(s.due))
	ph.last.Store(int64(at))
	ph.ledger.Receive(ledger.Stream{From: int(s.from), To: to}, int(s.n))
	ph.received.Add(1)
	if x.Rate == 0 && !ph.durable {
		x.goOn(ph, int(s.from))
	}
}

// answer handles what the server says of a durable message.
func (x *exchange) answer(from int, tag uint64, accepted bool) {
	u := x.users[from]
	u.mu.Lock()
	p, ok := u.pending[tag]
	delete(u.pending, tag)
	u.mu.Unlock()
	if !ok {
		return
	}
	ph := p.phase
	ph.toAck.record(time.Since(p.sent))
	if accepted {
		ph.ledger.Take(p.stream, p.n)
	} else {
		ph.ledger.Refuse(p.stream, p.n)
		ph.received.Add(1) // it need not come
	}
	ph.answered.Add(1)
	if x.Rate == 0 {
		x.goOn(ph, from)
	}
}

// goOn sends the next message in answer to one.
func (x *exchange) goOn(ph *phase, from int) {
	if err := x.next(ph, from); err != nil {
		x.lost(err)
	}
}
