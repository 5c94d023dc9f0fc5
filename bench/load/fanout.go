package load

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
)

// fanOut is one user who speaks in a topic that many follow: the next message
// as soon as fewer than Inflight have not reached everybody.
type fanOut struct {
	Listeners int
	Messages  int
	Inflight  int // 1: one at a time
}

func (f fanOut) run(ctx context.Context, r *run) error {
	b := &broadcast{run: r, fanOut: f, topic: r.name("t", 0), speaker: r.user(0), listeners: make([]*listener, f.Listeners)}
	b.phase.Store(newFanPhase(r.id, 0, 1))
	for i := range b.listeners {
		b.listeners[i] = &listener{user: r.user(i + 1)}
	}
	err := r.connectAll(ctx, f.Listeners, func(i int) error {
		l := b.listeners[i]
		return r.connect(ctx, l.user, peer.User{Topics: []string{b.topic}}, peer.Handler{Message: func(body []byte) { b.receive(l, body) }})
	})
	if err == nil {
		err = r.connect(ctx, b.speaker, peer.User{Topics: []string{b.topic}}, peer.Handler{})
	}
	if err != nil {
		return err
	}
	if _, err := b.speak(ctx, newFanPhase(r.id+1, max(f.Messages/10, f.Inflight), f.Inflight)); err != nil {
		return err
	}
	ph := newFanPhase(r.id+2, f.Messages, f.Inflight)
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	sent, err := b.speak(ctx, ph)
	if err != nil {
		return err
	}
	after, err := r.meter.read()
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, quiet); err != nil {
		return err
	}
	received := int(ph.received.Load())
	all := sent * f.Listeners
	r.verdict(ledger.Verdict{
		Sent: all, Taken: all, Received: received, Lost: all - received,
		Duplicated: int(ph.duplicated.Load()), OutOfOrder: int(ph.outOfOrder.Load()), Strange: int(ph.strange.Load()),
	})
	r.result.Latency = ph.toEach.latency()
	r.costs(before, after, received, "delivery")
	r.flow(received, time.Duration(ph.last.Load()), "deliveries")
	r.percentiles()
	if toAll := ph.toAll.latency(); toAll != nil {
		r.result.figure("to all p50", "ms", toAll.At(50), Less)
		r.result.figure("to all p99", "ms", toAll.At(99), Less)
	}
	return nil
}

// broadcast is fanOut at work.
type broadcast struct {
	*run
	fanOut
	topic     string
	speaker   *user
	listeners []*listener
	phase     atomic.Pointer[fanPhase]
}

// listener is one who follows; its account only its connection's reader.
type listener struct {
	*user
	phase *fanPhase // that the rest is of
	got   ledger.Bits
	last  int
}

type fanPhase struct {
	id      uint32
	start   time.Time
	window  chan struct{}  // a token for each message that has not reached everybody
	reached []atomic.Int32 // of each message: how many listeners
	toEach  *histogram
	toAll   *histogram

	received, duplicated, outOfOrder, strange atomic.Int64
	last                                      atomic.Int64 // nanoseconds from start
}

func newFanPhase(id uint32, messages, inflight int) *fanPhase {
	return &fanPhase{
		id: id, window: make(chan struct{}, inflight), reached: make([]atomic.Int32, messages+1),
		toEach: newHistogram(), toAll: newHistogram(), start: time.Now(),
	}
}

// speak sends all messages of a phase, waits for them, and returns how many were sent.
func (b *broadcast) speak(ctx context.Context, ph *fanPhase) (sent int, err error) {
	messages := len(ph.reached) - 1
	b.phase.Store(ph)
	var body []byte
	for n := 1; n <= messages; n++ {
		late := time.NewTimer(b.Settle)
		select {
		case ph.window <- struct{}{}:
		case <-late.C: // a message was lost: what is missing is in the account
			<-ph.window
			ph.window <- struct{}{}
		case <-b.ends:
			return n - 1, b.broken()
		case <-ctx.Done():
			return n - 1, context.Cause(ctx)
		}
		late.Stop()
		body = stamp{run: ph.id, n: uint32(n), due: int64(time.Since(ph.start))}.appendBody(body[:0], bodySize)
		if err := b.speaker.client.Publish(b.topic, peer.Message{Body: body}); err != nil {
			return n - 1, err
		}
		b.progress(int64(n), int64(messages))
	}
	return messages, b.watch(ctx, int64(messages)*int64(len(b.listeners)), ph.received.Load)
}

// receive takes account of what reaches one listener.
func (b *broadcast) receive(l *listener, body []byte) {
	ph := b.phase.Load()
	s, ok := readStamp(body)
	if !ok || s.run != ph.id {
		return
	}
	if l.phase != ph {
		l.phase, l.got, l.last = ph, ledger.Bits{}, 0
	}
	n := int(s.n)
	switch {
	case n < 1 || n >= len(ph.reached):
		ph.strange.Add(1)
		return
	case !l.got.Set(n):
		ph.duplicated.Add(1)
		return
	case n < l.last:
		ph.outOfOrder.Add(1)
	}
	l.last = max(l.last, n)
	at := time.Since(ph.start)
	ph.toEach.record(at - time.Duration(s.due))
	ph.last.Store(int64(at))
	if int(ph.reached[n].Add(1)) == len(b.listeners) {
		ph.toAll.record(at - time.Duration(s.due))
		select {
		case <-ph.window:
		default: // it was given up
		}
	}
	ph.received.Add(1)
}
