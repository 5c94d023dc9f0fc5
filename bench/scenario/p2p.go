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

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// P2P is the load test of the original system: devices that are all connected
// send messages to one another, each to a device picked at random.
//
// Closed loop (Rate 0): each device sends the next message as soon as fewer
// than Inflight of its messages are unanswered; latencies count from the moment
// of sending. A volatile message is acknowledged as soon as the server has it,
// so it counts as answered when it has been received: else nothing would hold
// the senders back, and what a server then drops would be no news.
//
// Open loop: messages are due at a fixed rate whatever the servers
// do, and latencies count from the moment each was due, so that a stall shows
// in all messages it delayed (no coordinated omission).
type P2P struct {
	Servers  []string // base URLs
	Devices  []Device
	Messages int
	Class    envelope.Class
	Size     int     // bytes of the body, at least; less than a few dozen make no difference
	Inflight int     // unanswered messages of one device; closed loop
	Rate     float64 // messages per second, of all devices together; 0: closed loop
	Seed     uint64  // of the random pairs

	// Settle is how long to wait for a message that does not come.
	Settle time.Duration
	// CPU returns what the servers have used so far; nil: not known.
	CPU func() (time.Duration, error)
	// Progress is told now and then how many messages were received; nil: nobody.
	Progress func(received int)

	HTTPClient *http.Client // nil: the default
}

// Device is one device and its auth key.
type Device struct {
	ID  envelope.NodeID
	Key string
}

// quiet is how long to listen on, after everything has come, for what comes twice.
const quiet = 300 * time.Millisecond

// run is one run of the scenario.
type run struct {
	P2P
	id      string
	clients []*client.Client
	index   map[envelope.NodeID]int
	ledger  *ledger.Ledger
	start   time.Time
	toAck   *histogram
	toReach *histogram
	lastAt  atomic.Int64 // nanoseconds from start to the last receipt
	breaks  atomic.Int64
	gaps    atomic.Int64
	next    atomic.Int64    // messages begun; closed loop
	windows []chan struct{} // of each device, a token for each unanswered message; closed loop
}

// Run connects the devices, sends, waits for everything to arrive, and reports.
// An error means that it could not be carried out; what the servers did wrong
// is in the report.
func (p P2P) Run(ctx context.Context) (Report, error) {
	if len(p.Devices) < 2 || p.Rate <= 0 && p.Inflight < 1 {
		return Report{}, errors.New("scenario: needs two devices, and a rate or messages in flight")
	}
	r := &run{
		P2P: p, id: fmt.Sprintf("%08x", rand.Uint32()), index: make(map[envelope.NodeID]int),
		ledger: ledger.New(), toAck: newHistogram(), toReach: newHistogram(),
	}
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return Report{}, err
	}
	// Closed clients answer everything, so that nothing below waits for ever.
	defer context.AfterFunc(ctx, r.close)()
	before, err := r.cpu()
	if err != nil {
		return Report{}, err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var receivers sync.WaitGroup
	for range r.clients {
		r.windows = append(r.windows, make(chan struct{}, max(r.Inflight, 1)))
	}
	r.start = time.Now()
	for i := range r.clients {
		receivers.Go(func() { r.receive(ctx, i) })
	}
	err = r.send(ctx)
	if err == nil {
		err = r.settle(ctx)
	}
	after, cpuErr := r.cpu()
	cancel(nil)
	receivers.Wait()
	if err := errors.Join(err, cpuErr); err != nil {
		return Report{}, err
	}
	return r.report(after - before), nil
}

func (r *run) cpu() (time.Duration, error) {
	if r.CPU == nil {
		return 0, nil
	}
	return r.CPU()
}

// connect opens all connections, a few at a time.
func (r *run) connect(ctx context.Context) error {
	r.clients = make([]*client.Client, len(r.Devices))
	errs := make([]error, len(r.Devices))
	var dials sync.WaitGroup
	tickets := make(chan struct{}, 16)
	for i, d := range r.Devices {
		r.index[d.ID] = i
		tickets <- struct{}{}
		dials.Go(func() {
			defer func() { <-tickets }()
			r.clients[i], errs[i] = client.Dial(ctx, r.options(i, d))
		})
	}
	dials.Wait()
	return errors.Join(errs...)
}

func (r *run) options(i int, d Device) client.Options {
	servers := make([]string, len(r.Servers)) // each device asks another one first
	for k := range servers {
		servers[k] = r.Servers[(i+k)%len(servers)]
	}
	inflight := r.Inflight
	if r.Rate > 0 {
		inflight = 0 // the default: what is due is sent, whatever is unanswered
	}
	connected := false
	return client.Options{
		Servers: servers, AuthKey: d.Key, HTTPClient: r.HTTPClient, FromNow: true,
		MaxInflight: inflight,
		OnGap:       func(client.Gap) { r.gaps.Add(1) },
		OnState: func(s client.State, _ error) { // called by one goroutine
			if s == client.Connected && connected {
				r.breaks.Add(1)
			}
			connected = true
		},
	}
}

// send sends everything and returns when all of it has been answered.
func (r *run) send(ctx context.Context) error {
	errs := make([]error, len(r.clients))
	var senders sync.WaitGroup
	for i := range r.clients {
		senders.Go(func() {
			s := &sender{run: r, from: i, rand: rand.New(rand.NewPCG(r.Seed, uint64(i)))}
			if r.Rate > 0 {
				errs[i] = s.open(ctx)
			} else {
				errs[i] = s.closed(ctx)
			}
			s.answers.Wait()
		})
	}
	senders.Wait()
	return errors.Join(errs...)
}

// settle waits until everything acknowledged has been received, or nothing
// more comes.
func (r *run) settle(ctx context.Context) error {
	const step = 20 * time.Millisecond
	last, idle := -1, time.Duration(0)
	for idle < r.Settle {
		taken, received := r.ledger.Progress()
		if received >= taken && r.ledger.Verdict().Lost == 0 {
			return sleep(ctx, quiet)
		}
		if received != last {
			last, idle = received, 0
		}
		if err := sleep(ctx, step); err != nil {
			return err
		}
		idle += step
	}
	return nil
}

func (r *run) receive(ctx context.Context, to int) {
	for m, err := range r.clients[to].Messages(ctx) {
		if err != nil {
			return // what does not come is lost
		}
		s, ok := readStamp(m.Body)
		if !ok || s.run != r.id {
			continue
		}
		at := time.Since(r.start)
		r.toReach.record(at - s.due)
		r.ledger.Receive(ledger.Stream{From: s.from, To: to}, s.n)
		r.lastAt.Store(int64(at))
		if r.Class != envelope.Durable && s.from < len(r.windows) {
			r.release(s.from)
		}
		if r.Progress != nil {
			_, received := r.ledger.Progress()
			r.Progress(received)
		}
	}
}

// release lets a device send one message more.
func (r *run) release(from int) {
	select {
	case <-r.windows[from]:
	default: // it came twice, or was given up
	}
}

func (r *run) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var closing sync.WaitGroup
	for _, c := range r.clients {
		if c != nil {
			closing.Go(func() { _ = c.Close(ctx) })
		}
	}
	closing.Wait()
}

func (r *run) report(cpu time.Duration) Report {
	rep := Report{
		Scenario: "p2p", Class: r.Class.String(), Devices: len(r.Devices), Size: r.Size, Rate: r.Rate,
		Verdict: r.ledger.Verdict(), Reconnects: int(r.breaks.Load()), Gaps: int(r.gaps.Load()),
		ToAck: r.toAck.latency(), ToReceive: r.toReach.latency(),
		Seconds: time.Duration(r.lastAt.Load()).Seconds(),
	}
	if r.Rate == 0 {
		rep.Inflight = r.Inflight
	}
	if rep.Seconds > 0 {
		rep.PerSecond = float64(rep.Received) / rep.Seconds
	}
	if r.CPU != nil && rep.Received > 0 {
		perMessage := float64(cpu.Microseconds()) / float64(rep.Received)
		rep.ServerCPU = &perMessage
	}
	return rep
}

// sender sends the messages of one device; only its goroutine uses it.
type sender struct {
	*run
	from    int
	rand    *rand.Rand
	answers sync.WaitGroup
}

func (s *sender) closed(ctx context.Context) error {
	for s.next.Add(1) <= int64(s.Messages) {
		if err := s.wait(ctx); err != nil {
			return err
		}
		err := s.one(ctx, time.Since(s.start), func(taken bool) {
			if !taken || s.Class == envelope.Durable {
				s.release(s.from)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits for room in the device's window. A volatile message that was lost
// never makes room, so after a while one is given up.
func (s *sender) wait(ctx context.Context) error {
	window := s.windows[s.from]
	patience := time.NewTimer(s.Settle)
	defer patience.Stop()
	for {
		select {
		case window <- struct{}{}:
			return nil
		case <-patience.C:
			if s.Class != envelope.Durable {
				s.release(s.from)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *sender) open(ctx context.Context) error {
	for k := s.from; k < s.Messages; k += len(s.clients) {
		due := time.Duration(float64(k) / s.Rate * float64(time.Second))
		if err := sleep(ctx, due-time.Since(s.start)); err != nil {
			return err
		}
		if err := s.one(ctx, due, func(bool) {}); err != nil {
			return err
		}
	}
	return nil
}

// one sends a message that was due at due; answered is told whether the server
// has taken it.
func (s *sender) one(ctx context.Context, due time.Duration, answered func(taken bool)) error {
	to := s.rand.IntN(len(s.clients) - 1)
	if to >= s.from {
		to++
	}
	st := ledger.Stream{From: s.from, To: to}
	n := s.ledger.Send(st)
	e := envelope.Envelope{
		ID:       fmt.Sprintf("%s-%d-%d-%d", s.id, s.from, to, n),
		DestNode: s.Devices[to].ID, Class: s.Class,
		Body: stamp{s.id, s.from, n, due}.body(s.Size),
	}
	s.answers.Add(1)
	err := s.clients[s.from].SendAsync(ctx, e, func(_ client.Ack, err error) {
		defer s.answers.Done()
		answered(err == nil)
		if err != nil {
			s.ledger.Refuse(st, n)
			return
		}
		s.toAck.record(time.Since(s.start) - due)
		s.ledger.Take(st, n)
	})
	if err != nil {
		s.answers.Done()
		answered(false)
		if errors.Is(err, client.ErrNotConnected) { // the volatile ones do not wait
			s.ledger.Refuse(st, n)
			return nil
		}
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
