// Package load is the scenarios: what is done to a target, and what that costs
// and takes. All scenarios treat all targets alike.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/apart"
	"github.com/allsparkrt/allspark/bench/peer/remote"
)

const (
	// connecting is how many connections are being opened at a time.
	connecting = 16
	// grouping is how many groups are being made at a time. More than that, because
	// who makes one mostly waits for the disk.
	grouping = 64
	// quiet is how long to listen on, after everything has come, for what comes twice.
	quiet = 200 * time.Millisecond
	// bodySize is the size of each message's body.
	bodySize = 200
)

// Options say how one run is made.
type Options struct {
	Target peer.Target
	Env    peer.Env
	Round  int
	// Settle is how long to wait for a message that does not come.
	Settle time.Duration
	// Worker is the command of a process that opens connections, see package
	// remote; nil: there is none. Workers is how many there are at least, where the
	// target can be reached by them; 0: as many as need be, because a process may
	// have only so many files.
	Worker  []string
	Workers int
	// Apart is over how many servers that know nothing of one another scenarios
	// about the number of connections are spread at least, see package apart; 0: as
	// many as need be, because a server may have only so many files.
	Apart int
	// Progress is told how much has been done, from 0 to 1, by one goroutine at a
	// time; nil: nobody.
	Progress func(done float64)
}

// Run starts the target, carries the scenario out, and stops the target. What
// went wrong is in the result.
func (s Scenario) Run(ctx context.Context, o Options) Result {
	res := Result{Scenario: s.Name, Target: o.Target.About(), Round: o.Round}
	if o.Target, res.Skipped = s.arrange(o); res.Skipped != "" {
		return res
	}
	if islands := o.Target.About().Can; islands.Islands {
		res.Note = fmt.Sprintf("over %d servers that know nothing of one another", islands.Servers)
	}
	if err := o.Target.Start(ctx, o.Env); errors.Is(err, exec.ErrNotFound) {
		res.Skipped = "it is not installed"
		return res
	} else if err != nil {
		res.Failed = err.Error()
		return res
	}
	res.Target = o.Target.About() // now with the version
	r := &run{Options: o, result: &res, id: rand.Uint32(), ends: make(chan struct{})}
	r.meter = &meter{pids: o.Target.PIDs(), clients: []int{os.Getpid()}, start: time.Now()}
	if t, ok := o.Target.(*remote.Target); ok {
		r.meter.clients = append(r.meter.clients, t.Workers()...)
	}
	stolen := steal()
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() { r.meter.run(sampling) })

	err := s.run(ctx, r)
	stop()
	sampler.Wait()
	percent, known := stolen()
	r.closeAll()
	if err := errors.Join(err, r.broken()); err != nil {
		res.Failed = err.Error()
	}
	if err := o.Target.Stop(); err != nil && res.Failed == "" {
		res.Failed = err.Error()
	}
	res.Samples = r.meter.taken()
	if len(res.Samples) > 0 {
		res.figure("peak memory", "MB", peak(res.Samples), Less)
	}
	if known {
		res.figure(HostSteal, "%", percent, "")
	}
	return res
}

// misses says what the target or the machine lacks; empty: nothing.
func (s Scenario) misses(can peer.Can) string {
	if what := s.needs(can); what != "" {
		return "it has no " + what
	}
	if can.Connections > 0 && s.clients > can.Connections {
		return fmt.Sprintf("%d connections, and it takes %d", s.clients, can.Connections)
	}
	return ""
}

// connections returns how many connections a process may have.
func connections() int {
	const others = 200 // files that are no connections
	return descriptors() - others
}

// processes returns over how many processes so many connections have to be spread.
func processes(clients int) int { return (clients + connections() - 1) / connections() }

// arrange returns the target as the scenario needs it: with so many connections that
// no process may have them, several servers in place of one, and connections opened by
// several workers. What cannot be is said in why.
func (s Scenario) arrange(o Options) (_ peer.Target, why string) {
	can := o.Target.About().Can
	if why := s.misses(can); why != "" {
		return nil, why
	}
	tooMany := fmt.Sprintf("%d connections, and a process may have %d files here (ulimit -n)", s.clients, descriptors())
	shared, isShared := o.Target.(peer.Shared)
	if servers := (processes(s.clients) + max(1, can.Processes) - 1) / max(1, can.Processes); servers > 1 || o.Apart > 1 {
		switch {
		case isShared && s.crowd && can.Servers == 1:
			shared = apart.Of(shared, max(servers, o.Apart))
			o.Target = shared
		case servers > 1:
			return nil, tooMany
		}
	}
	if workers := processes(s.clients); workers > 1 || o.Workers > 1 {
		switch {
		case isShared && o.Worker != nil:
			o.Target = remote.Spread(shared, max(workers, o.Workers), o.Worker)
		case workers > 1:
			return nil, tooMany
		}
	}
	return o.Target, ""
}

// run is one run of a scenario.
type run struct {
	Options
	result *Result
	meter  *meter
	id     uint32 // in each body
	closed atomic.Bool
	ends   chan struct{} // closed when a connection has broken

	mu    sync.Mutex
	opens []peer.Client
	why   error // the first connection that has broken

	telling sync.Mutex // held while Progress is called
}

// user is one user of a run.
type user struct {
	index  int
	name   string
	client peer.Client // static once connected
}

func (r *run) user(i int) *user {
	return &user{index: i, name: "b" + strconv.FormatUint(uint64(r.id), 36) + "-" + strconv.Itoa(i)}
}

// name returns a name for something else than a user, unique in the run.
func (r *run) name(what string, i int) string {
	return what + strconv.FormatUint(uint64(r.id), 36) + "-" + strconv.Itoa(i)
}

// connect opens a connection for a user.
func (r *run) connect(ctx context.Context, u *user, as peer.User, h peer.Handler) error {
	as.Name, as.Index = u.name, u.index
	if h.Closed == nil {
		h.Closed = r.lost
	}
	c, err := r.Target.Connect(ctx, as, h)
	if err != nil {
		return err
	}
	u.client = c
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opens = append(r.opens, c)
	return nil
}

// connectAll opens many connections, a few at a time.
func (r *run) connectAll(ctx context.Context, n int, connect func(i int) error) error {
	return inParallel(ctx, connecting, n, connect)
}

// inParallel does something n times, so many at a time.
func inParallel(ctx context.Context, most, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tickets := make(chan struct{}, most)
	var all sync.WaitGroup
	for i := range n {
		tickets <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-tickets }()
			if err := do(i); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// settle waits until the servers have done what the preparation has left to do:
// until they have used less than a tenth of a processor for a moment, or for so long.
func (r *run) settle(ctx context.Context) error {
	const moment, most = 500 * time.Millisecond, 30 * time.Second
	if len(r.meter.pids) == 0 {
		return r.sleep(ctx, 2*moment)
	}
	before, err := r.meter.read()
	for began := time.Now(); err == nil && time.Since(began) < most; {
		if err = r.sleep(ctx, moment); err != nil {
			break
		}
		var after reading
		if after, err = r.meter.read(); err == nil && after.server.CPU-before.server.CPU < moment/10 {
			return nil
		}
		before = after
	}
	return err
}

// lost takes note of a connection that has broken.
func (r *run) lost(err error) {
	if r.closed.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = fmt.Errorf("a connection has broken: %w", err)
		close(r.ends)
	}
}

func (r *run) broken() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

func (r *run) closeAll() {
	r.closed.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.opens {
		_ = c.Close()
	}
	r.opens = nil
}

// progress tells how much has been done. Goroutines may call it at the same time.
func (r *run) progress(done, all int64) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if r.Progress != nil {
		r.Progress(float64(done) / float64(all))
	}
}

// watch waits until count has reached all, or does not change any more, or a
// connection has broken. It tells the progress.
func (r *run) watch(ctx context.Context, all int64, count func() int64) error {
	const step = 5 * time.Millisecond
	last, idle := int64(-1), time.Duration(0)
	for idle < r.Settle {
		now := count()
		r.progress(now, all)
		if now >= all {
			return nil
		}
		if now != last {
			last, idle = now, 0
		}
		if err := r.sleep(ctx, step); err != nil {
			return err
		}
		idle += step
	}
	return nil // what is missing is in the account
}

// sleep waits; an error says that there is no use in going on.
func (r *run) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ends:
		return r.broken()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// costs adds what a phase has cost: of n things, called unit.
func (r *run) costs(before, after reading, n int, unit string) {
	if n == 0 || len(r.meter.pids) == 0 {
		return
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
	r.result.figure(ServerCPU, "µs/"+unit, per(after.server.CPU-before.server.CPU), Less)
	r.result.figure("client CPU", "µs/"+unit, per(after.client-before.client), "")
}

// flow adds how fast n things went, called units.
func (r *run) flow(n int, took time.Duration, units string) {
	if took > 0 {
		r.result.figure(Throughput, units+"/s", float64(n)/took.Seconds(), More)
	}
}

// percentiles adds the usual figures of the latencies.
func (r *run) percentiles() {
	for _, l := range []struct {
		name string
		of   *Latency
	}{{"", r.result.Latency}, {"ack ", r.result.ToAck}} {
		if l.of == nil {
			continue
		}
		for _, p := range []struct {
			name string
			at   float64
		}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}} {
			r.result.figure(l.name+p.name, "ms", l.of.At(p.at), Less)
		}
	}
}

// verdict adds an account to the result's.
func (r *run) verdict(v ledger.Verdict) { r.result.Verdict.Add(v) }
