package mongo

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// outage is how many calls or batches in a row must fail, each of them with
	// all its tries, before the next ones are refused at once.
	outage = 3
	// probePause is the longest pause between two probes, probePatience how
	// long most of them may take: together they bound how long it stays unknown
	// that the database is back.
	probePause    = time.Second
	probePatience = time.Second
	// Every so many probes one may take as long as a call, so that a database
	// which is slow, and works, is found to work.
	probeLong = 4
)

// breaker decides whether the database is worth asking. All calls of its kind
// and all lanes ask it first and tell it how they fared.
//
// It is closed while the database answers. Once several calls in a row have
// failed it is open: everything is refused at once, for to wait for a time-out
// would fill queues with what nobody waits for any more. While it is open it
// sends probes, one at a time and the first at once, and closes as soon as the
// database answers one, or any call that is still on its way. So a few calls
// that fail together while the database works cost one round trip.
//
// All methods are safe for concurrent use.
type breaker struct {
	// Static.
	kind     string // of the calls, for the log
	probe    func(context.Context) error
	logger   *slog.Logger
	patience time.Duration // of a call
	ctx      context.Context
	cancel   context.CancelFunc
	probing  sync.WaitGroup

	outages atomic.Int64
	refused atomic.Int64
	open    atomic.Bool  // changed with mu held
	failed  atomic.Int64 // in a row; changed with mu held

	// Guarded by mu.
	mu     sync.Mutex
	prober bool // the goroutine runs
	since  time.Time
	before int64 // refused before it opened
}

func newBreaker(kind string, o Options, probe func(context.Context) error) *breaker {
	ctx, cancel := context.WithCancel(context.Background())
	return &breaker{kind: kind, probe: probe, logger: o.Logger, patience: o.Timeout, ctx: ctx, cancel: cancel}
}

// refusal returns the error for a call that is not worth trying, else nil.
func (b *breaker) refusal() error {
	if !b.open.Load() {
		return nil
	}
	b.refused.Add(1)
	return envelope.BusyError(retryAway, "the store is away", errAway)
}

// success notes that the database has answered.
func (b *breaker) success() {
	if b.failed.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed.Store(0)
	if b.open.Swap(false) {
		b.logger.Info("the database answers again",
			slog.String("calls", b.kind), slog.Duration("away", time.Since(b.since)), slog.Int64("refused", b.refused.Load()-b.before))
	}
}

// failure notes that the database has not answered a call or a batch within
// the time-out.
func (b *breaker) failure(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed.Add(1) < outage || b.open.Load() || b.ctx.Err() != nil {
		return
	}
	b.open.Store(true)
	b.outages.Add(1)
	b.since, b.before = time.Now(), b.refused.Load()
	b.logger.Warn("the database does not answer; calls are refused until it does", slog.String("calls", b.kind), slog.Any("error", cause))
	if !b.prober {
		b.prober = true
		b.probing.Go(b.search)
	}
}

// search is the goroutine that sends probes while the breaker is open.
func (b *breaker) search() {
	for n := 1; b.searches(); n++ {
		patience := probePatience
		if n%probeLong == 0 {
			patience = max(b.patience, probePatience)
		}
		if b.try(patience) {
			b.success()
			continue
		}
		limit := min(probePause, 50*time.Millisecond<<min(n, 5))
		_ = sleep(b.ctx, limit/2+rand.N(limit/2))
	}
}

// searches reports whether the database is still to be found; if not, the
// goroutine must end.
func (b *breaker) searches() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prober = b.open.Load() && b.ctx.Err() == nil
	return b.prober
}

func (b *breaker) try(patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err := b.probe(ctx)
	return err == nil || outOfSpace(err)
}

// close ends the probes.
func (b *breaker) close() {
	b.mu.Lock()
	b.cancel()
	b.mu.Unlock()
	b.probing.Wait()
}
