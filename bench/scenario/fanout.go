package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// FanOut is a topic that many devices follow and one speaks in: volatile
// messages, the next one as soon as fewer than Inflight have not reached
// everybody. Servers that limit how many one device may send drop the others.
type FanOut struct {
	Servers  []string // base URLs; the listeners take turns
	Devices  []Device // the first one speaks, the others listen
	Messages int
	Size     int // bytes of the body, at least
	Inflight int // 1: one at a time

	// Settle is how long to wait for a message that does not come.
	Settle time.Duration
	// CPU returns what the servers have used so far; nil: not known.
	CPU func() (time.Duration, error)
	// Progress is told now and then how many deliveries there were; nil: nobody.
	Progress func(received int)

	HTTPClient *http.Client // nil: the default
}

// fanOut is one run of the scenario.
type fanOut struct {
	FanOut
	id      string
	topic   envelope.SessionID
	members []*member
	readers sync.WaitGroup
	start   time.Time
	window  chan struct{}  // a token for each message that has not reached everybody
	reached []atomic.Int32 // of each message: how many listeners
	toAll   *histogram
	sample  *histogram // of every sampleEvery-th listener

	received, duplicated, outOfOrder, strange atomic.Int64
	lastAt                                    atomic.Int64 // nanoseconds from start to the last delivery
}

// sampleEvery says of which listeners each delivery is timed.
const sampleEvery = 50

// Run connects the devices, speaks, waits for everything to arrive, and
// reports. An error means that it could not be carried out; what the servers
// did wrong is in the report.
func (f FanOut) Run(ctx context.Context) (Report, error) {
	if len(f.Devices) < 2 || f.Inflight < 1 {
		return Report{}, errors.New("scenario: needs two devices, and a message in flight")
	}
	id := fmt.Sprintf("%08x", rand.Uint32())
	r := &fanOut{
		FanOut: f, id: id, topic: envelope.SessionID(envelope.TopicPrefix + "bench." + id),
		members: make([]*member, len(f.Devices)), window: make(chan struct{}, f.Inflight),
		reached: make([]atomic.Int32, f.Messages+1), toAll: newHistogram(), sample: newHistogram(), start: time.Now(),
	}
	if r.HTTPClient == nil {
		r.HTTPClient = http.DefaultClient
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, m := range r.members {
			if m != nil {
				_ = m.ws.CloseNow()
			}
		}
		r.readers.Wait()
	}()
	if err := r.connect(ctx); err != nil {
		return Report{}, err
	}
	before, err := r.cpu()
	if err != nil {
		return Report{}, err
	}
	began := time.Now()
	sent, err := r.speak(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := r.settle(ctx, sent); err != nil {
		return Report{}, err
	}
	after, err := r.cpu()
	return r.report(sent, after-before, began), err
}

func (r *fanOut) cpu() (time.Duration, error) {
	if r.CPU == nil {
		return 0, nil
	}
	return r.CPU()
}

// connect opens all connections, a few at a time. Each is read from then on:
// the first ones have pings to answer before the last ones are open.
func (r *fanOut) connect(ctx context.Context) error {
	errs := make([]error, len(r.Devices))
	tickets := make(chan struct{}, 16)
	var dials sync.WaitGroup
	for i, d := range r.Devices {
		tickets <- struct{}{}
		dials.Go(func() {
			defer func() { <-tickets }()
			m, err := joinTopic(ctx, r.HTTPClient, r.Servers[i%len(r.Servers)], d, r.topic)
			if err != nil {
				errs[i] = err
				return
			}
			r.members[i] = m
			if i == 0 {
				r.readers.Go(func() { r.skip(ctx, m) })
			} else {
				r.readers.Go(func() { r.listen(ctx, i, m) })
			}
		})
	}
	dials.Wait()
	return errors.Join(errs...)
}

// speak sends everything and returns how many messages that were.
func (r *fanOut) speak(ctx context.Context) (int, error) {
	for n := range r.Messages {
		select {
		case r.window <- struct{}{}:
		case <-time.After(r.Settle): // a message was lost: what is missing is in the report
			<-r.window
			r.window <- struct{}{}
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
		if err := r.members[0].say(ctx, r.topic, stamp{r.id, 0, n + 1, time.Since(r.start)}, r.Size); err != nil {
			return n, err
		}
	}
	return r.Messages, nil
}

// skip reads what the server says to the speaker.
func (r *fanOut) skip(ctx context.Context, m *member) {
	for {
		if _, err := m.read(ctx); err != nil {
			return
		}
	}
}

// listen takes account of what reaches one listener. Messages come in the order
// of their numbers.
func (r *fanOut) listen(ctx context.Context, i int, m *member) {
	everybody := int32(len(r.members) - 1)
	var got bits
	last := 0
	for {
		frame, err := m.read(ctx)
		if err != nil {
			return // what does not come is lost
		}
		s, ok := heard(frame, r.id)
		switch {
		case !ok:
			continue
		case s.n < 1 || s.n > r.Messages:
			r.strange.Add(1)
			continue
		case !got.set(s.n):
			r.duplicated.Add(1)
			continue
		case s.n < last:
			r.outOfOrder.Add(1)
		}
		last = max(last, s.n)
		at := time.Since(r.start)
		if i%sampleEvery == 0 {
			r.sample.record(at - s.due)
		}
		r.received.Add(1)
		if r.reached[s.n].Add(1) == everybody {
			r.toAll.record(at - s.due)
			r.lastAt.Store(int64(at))
			select {
			case <-r.window:
			default: // it was given up
			}
			if r.Progress != nil {
				r.Progress(int(r.received.Load()))
			}
		}
	}
}

// settle waits until everything has been received, or nothing more comes.
func (r *fanOut) settle(ctx context.Context, sent int) error {
	const step = 20 * time.Millisecond
	all := int64(sent) * int64(len(r.members)-1)
	last, idle := int64(-1), time.Duration(0)
	for r.received.Load() < all && idle < r.Settle {
		if now := r.received.Load(); now != last {
			last, idle = now, 0
		}
		if err := sleep(ctx, step); err != nil {
			return err
		}
		idle += step
	}
	return sleep(ctx, quiet)
}

// report counts each delivery as a message: one for each listener.
func (r *fanOut) report(sent int, cpu time.Duration, began time.Time) Report {
	all := sent * (len(r.members) - 1)
	received := int(r.received.Load())
	rep := Report{
		Scenario: "fanout", Class: envelope.Volatile.String(), Devices: len(r.Devices), Size: r.Size, Inflight: r.Inflight,
		Verdict: Verdict{
			Sent: all, Taken: all, Received: received, Lost: all - received, Duplicated: int(r.duplicated.Load()),
			OutOfOrder: int(r.outOfOrder.Load()), Strange: int(r.strange.Load()),
		},
		ToReceive: r.sample.latency(), ToAll: new(r.toAll.latency()),
		Seconds: (time.Duration(r.lastAt.Load()) - began.Sub(r.start)).Seconds(),
	}
	if rep.Seconds > 0 {
		rep.PerSecond = float64(received) / rep.Seconds
	}
	if r.CPU != nil && received > 0 {
		rep.ServerCPU = new(float64(cpu.Nanoseconds()) / 1000 / float64(received))
	}
	return rep
}
