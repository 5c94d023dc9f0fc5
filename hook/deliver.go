package hook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How a deliverer works.
const (
	batch      = 100              // events in one request
	look       = time.Second      // between looks for what nobody has told of
	timeout    = 10 * time.Second // for one request
	firstRetry = time.Second      // doubled with each attempt
	lastRetry  = 5 * time.Minute
	mostAfter  = time.Hour // a receiver's Retry-After
	goneRetry  = time.Hour // of one that has said that it is gone
	idle       = time.Minute
)

// Outbox is where the events stand, as one receiver sees it. Its methods are safe for concurrent use.
type Outbox interface {
	// Mine reports whether this server is to deliver a partition now. All servers
	// should agree, but for a moment.
	Mine(partition int) bool
	// Read returns events of a partition behind a seq in their order, at most
	// limit. A first one that is not the next says that those between are gone.
	Read(ctx context.Context, partition int, after uint64, limit int) ([]Event, error)
	// Position returns up to where a partition has been delivered. For a receiver
	// that is new it begins with what is there still.
	Position(ctx context.Context, partition int) (uint64, error)
	// Advance notes that; it moves only forward.
	Advance(ctx context.Context, partition int, seq uint64) error
}

// Config is what a [Deliverer] is made of.
type Config struct {
	Receiver
	Timeout time.Duration // for one request; 0 means 10 s
	Client  *http.Client  // nil means one of its own; redirects are not followed
	Outbox  Outbox
	Log     *slog.Logger
}

// Stats counts what a deliverer has done.
type Stats struct {
	Delivered atomic.Uint64 // events that the receiver has taken
	Failed    atomic.Uint64 // requests that it has not taken, and that are repeated
	Gone      atomic.Uint64 // events that retention took before they were delivered
	Errors    atomic.Uint64 // the store did not answer
}

// Deliverer hands the events of an outbox to one receiver. Each partition waits
// for its own answers only.
type Deliverer struct {
	Stats Stats

	troubles troubles

	// Static after construction.
	cfg   Config
	wakes [Partitions]chan struct{} // each holds a token when there is something new
}

// NewDeliverer returns a Deliverer, which works while [Deliverer.Run] runs.
func NewDeliverer(cfg Config) *Deliverer {
	if cfg.Timeout == 0 {
		cfg.Timeout = timeout
	}
	var client http.Client
	if cfg.Client != nil {
		client = *cfg.Client
	} else {
		client.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: Partitions, IdleConnTimeout: idle,
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.Client = &client
	cfg.Log = cfg.Log.With("receiver", cfg.Name)
	d := &Deliverer{cfg: cfg}
	for p := range d.wakes {
		d.wakes[p] = make(chan struct{}, 1)
	}
	return d
}

// Receiver returns whom it delivers to.
func (d *Deliverer) Receiver() Receiver { return d.cfg.Receiver }

// Wake says that there is something new in a partition. It never blocks.
func (d *Deliverer) Wake(partition int) {
	select {
	case d.wakes[partition] <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends.
func (d *Deliverer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for p := range Partitions {
		wg.Go(func() {
			(&worker{d: d, partition: p}).run(ctx)
		})
	}
	wg.Wait()
}

// worker delivers one partition; one goroutine.
type worker struct {
	d         *Deliverer
	partition int

	known bool // at is right: this server was the one to deliver ever since it was read
	at    uint64
}

func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.d.wakes[w.partition]:
		case <-ctx.Done():
			return
		}
		for w.mine() {
			more, err := w.step(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				w.known = false
				w.d.Stats.Errors.Add(1)
				w.d.cfg.Log.Warn("events wait for the store", "err", err)
			}
			if !more || err != nil {
				break
			}
		}
		timer.Reset(look/2 + rand.N(look))
	}
}

// mine reports whether it is this server's turn, and forgets the position when
// it is not: another one moves it.
func (w *worker) mine() bool {
	mine := w.d.cfg.Outbox.Mine(w.partition)
	w.known = w.known && mine
	return mine
}

// step delivers some of what is behind the position, and reports whether there
// may be more.
func (w *worker) step(ctx context.Context) (more bool, err error) {
	if !w.known {
		if w.at, err = w.d.cfg.Outbox.Position(ctx, w.partition); err != nil {
			return false, err
		}
		w.known = true
	}
	events, err := w.d.cfg.Outbox.Read(ctx, w.partition, w.at, batch)
	if err != nil || len(events) == 0 {
		return false, err
	}
	if gone := events[0].Seq - w.at - 1; gone > 0 {
		w.d.Stats.Gone.Add(gone)
		w.d.cfg.Log.Error("events were not delivered before retention took them", "partition", w.partition, "events", gone)
	}
	again, some, upTo := w.d.cfg.next(events)
	done := true
	switch {
	case again != nil:
		done, err = w.again(ctx, *again)
	case len(some) > 0:
		done = w.hand(ctx, some)
	}
	if err != nil || !done {
		return false, err
	}
	return true, w.moved(ctx, upTo)
}

// moved notes that what is up to there has been delivered.
func (w *worker) moved(ctx context.Context, seq uint64) error {
	w.at = seq
	// What was taken need not be sent again because this server is told to end.
	return w.d.cfg.Outbox.Advance(context.WithoutCancel(ctx), w.partition, seq)
}

// again delivers the events once more that a replay asks for, as far as there
// are any, and reports whether it has.
func (w *worker) again(ctx context.Context, r Event) (bool, error) {
	for after := r.After; ; {
		events, err := w.d.cfg.Outbox.Read(ctx, w.partition, after, batch)
		if err != nil {
			return false, err
		}
		var some []Event
		for _, e := range events {
			if after = e.Seq; after < r.Seq && w.d.cfg.wants(e) {
				e.Again = true
				some = append(some, e)
			}
		}
		if len(some) > 0 && !w.hand(ctx, some) {
			return false, nil
		}
		if len(events) == 0 || after >= r.Seq {
			return true, nil
		}
	}
}

// hand sends events until the receiver has taken them, and reports whether it
// has. It gives up when it is another server's turn.
func (w *worker) hand(ctx context.Context, events []Event) bool {
	defer w.d.troubles.over(w.partition)
	for attempt := 1; ; attempt++ {
		after, err := w.d.send(ctx, w.partition, events, attempt)
		switch {
		case err == nil:
			w.d.Stats.Delivered.Add(uint64(len(events)))
			return true
		case ctx.Err() != nil:
			return false
		}
		w.d.Stats.Failed.Add(1)
		pause := max(after, min(firstRetry<<min(attempt-1, 20), lastRetry))
		var paused time.Time
		if errors.Is(err, errGone) {
			pause = goneRetry
			paused = time.Now().Add(pause)
		}
		w.d.troubles.failed(w.partition, err, paused)
		w.d.cfg.Log.Warn("events were not taken; trying again", "partition", w.partition, "attempt", attempt, "in", pause, "err", err)
		if !w.wait(ctx, pause+rand.N(pause/4+1)) {
			return false
		}
	}
}

// wait reports whether it is this server's turn after a while, and all along: when
// it is again after another one's, that may have found the receiver well.
func (w *worker) wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-timer.C:
			return w.mine()
		case <-ticker.C:
			if !w.mine() {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}
