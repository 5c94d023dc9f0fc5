package mongo

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

const (
	batchEntries = 256     // of one insert
	batchBytes   = 1 << 20 // of one insert; a larger entry goes alone
	// maxEntry keeps a document below MongoDB's 16 MiB.
	maxEntry = 15 << 20
	// positions is how many idle logs have their heads remembered.
	positions = 1 << 16

	retryFull = 250  // milliseconds, when a queue is full
	retryAway = 1000 // milliseconds, when the database does not answer

	retryNoSpace = 5000 // milliseconds, when the database is full
)

var (
	errFull   = errors.New("mongo: the queue of appends is full")
	errClosed = errors.New("mongo: the store is closed")
)

// Stats counts what has gone other than smoothly since the store was opened.
type Stats struct {
	// Appends refused.
	Full    int64 // because a queue was full
	Away    int64 // because the database did not answer in time
	NoSpace int64 // because the database was full
	Quota   int64 // because their log was full
	Closed  int64 // because the store was closed

	// Tries of appends.
	Overtaken int64 // another server was faster
	Unknown   int64 // the outcome was unknown

	// Calls and appends.
	Outages int64 // how often the database stopped answering
	Refused int64 // refused at once for as long
}

// counters are those of the lanes.
type counters struct {
	full, away, noSpace, quota, closed, overtaken, unknown atomic.Int64
}

func (c *counters) read() Stats {
	return Stats{
		Full: c.full.Load(), Away: c.away.Load(), NoSpace: c.noSpace.Load(), Quota: c.quota.Load(), Closed: c.closed.Load(),
		Overtaken: c.overtaken.Load(), Unknown: c.unknown.Load(),
	}
}

// appender has one lane for each log that something is waiting for. All
// methods are safe for concurrent use.
type appender struct {
	// Static.
	table     table
	writes    *breaker
	logger    *slog.Logger
	patience  time.Duration // for one batch
	maxBytes  int           // of all entries
	maxPerLog int           // bytes of one log's entries
	quotas    inbox.Quotas
	ctx       context.Context
	cancel    context.CancelCauseFunc

	stats      counters
	complaints rate.Sometimes
	running    sync.WaitGroup // lanes and refusers

	// Guarded by mu.
	mu     sync.Mutex
	closed bool
	bytes  int // of all entries waiting or being written
	lanes  map[envelope.Address]*lane
	idle   *simplelru.LRU[envelope.Address, position]
}

// lane is a log that something is waiting for.
type lane struct {
	// Static.
	address envelope.Address
	log     string

	// Guarded by the appender's mu.
	waiting []*entry
	bytes   int      // of waiting and of the batch being written
	refused []*entry // to be told so
	writer  bool     // the lane's goroutine runs
	refuser bool     // the goroutine runs that tells the refused
	trimmed bool     // since the last batch was taken

	// Only the lane's goroutine.
	position position
}

func newAppender(t table, writes *breaker, o Options) *appender {
	ctx, cancel := context.WithCancelCause(context.Background())
	// It fails for sizes below one only.
	idle, _ := simplelru.NewLRU[envelope.Address, position](positions, nil)
	return &appender{
		table: orderly{t, make(chan struct{}, catchingUp)}, writes: writes, logger: o.Logger,
		patience: o.Timeout, maxBytes: o.QueueBytes, maxPerLog: o.QueueBytesPerLog, quotas: o.Quotas,
		ctx: ctx, cancel: cancel,
		complaints: rate.Sometimes{First: 1, Interval: 10 * time.Second},
		lanes:      map[envelope.Address]*lane{},
		idle:       idle,
	}
}

// newEntry encodes env, which may change as soon as it returns.
func newEntry(env *envelope.Envelope, done func(uint64, error)) *entry {
	unnumbered := *env
	unnumbered.Seq = 0
	e := &entry{
		done: done, time: env.Timestamp, weight: inbox.Size(env), exempt: inbox.Exempt(env),
		revises: int64(env.Revises()), deletes: env.Deletes != 0,
		binary: unnumbered.AppendBinary(make([]byte, 0, len(env.Body)+256)),
	}
	if env.ID == "" {
		e.key = "!" + rand.Text()
		return e
	}
	digest := env.Digest()
	e.key, e.digest = messageKey(env.SrcNode, env.ID), digest[:]
	return e
}

// messageKey is the key of a message with an id.
func messageKey(src envelope.NodeID, id string) string { return string(src) + "|" + id }

// append queues e. It never blocks on I/O.
func (a *appender) append(log envelope.Address, e *entry) {
	size := e.size()
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[log]
	if l == nil {
		l = &lane{address: log, log: log.String()}
		a.lanes[log] = l
	}
	// What is still being written is answered first.
	var away error
	if !l.writer {
		away = a.writes.refusal()
	}
	switch {
	case a.closed:
		a.stats.closed.Add(1)
		e.err = envelope.BusyError(retryAway, closing, errClosed)
	case size > maxEntry:
		e.err = envelope.Errorf(envelope.TooLarge, "a message may have %d bytes", maxEntry)
	case away != nil:
		e.err = away
	// Whoever follows one that is being refused is refused too, so that a
	// sender that stops at a refusal is not overtaken by itself.
	case len(l.refused) > 0, a.bytes+size > a.maxBytes, l.bytes+size > a.maxPerLog && l.bytes > 0:
		a.stats.full.Add(1)
		e.err = envelope.BusyError(retryFull, "too much is waiting to be stored", errFull)
	default:
		a.bytes += size
		l.bytes += size
		l.waiting = append(l.waiting, e)
		if !l.writer {
			l.writer = true
			if p, ok := a.idle.Get(log); ok {
				l.position = p
				a.idle.Remove(log)
			}
			a.running.Go(func() { a.write(l) })
		}
		return
	}
	l.refused = append(l.refused, e)
	if !l.refuser {
		l.refuser = true
		a.running.Go(func() { a.refuse(l) })
	}
}

// refuse is the goroutine that tells those for whom there was no room. It runs
// for as long as there are any: a done does not block, so they do not pile up.
func (a *appender) refuse(l *lane) {
	for told := 0; ; told++ {
		a.mu.Lock()
		if told == len(l.refused) {
			l.refused, l.refuser = nil, false
			a.dropIdle(l)
			a.mu.Unlock()
			return
		}
		e := l.refused[told]
		l.refused[told] = nil
		a.mu.Unlock()
		e.done(0, e.err)
	}
}

// write is the goroutine of a lane.
func (a *appender) write(l *lane) {
	for a.waits(l) {
		// It is not an error to be woken early: what waits is then refused below.
		_ = sleep(a.ctx, l.position.tempo.rest(time.Now()))
		w := writing{
			table: a.table, stats: &a.stats, log: l.log,
			position: &l.position,
			quota:    a.quotas[l.address.Kind],
			entries:  a.take(l),
			deliver:  func(settled []*entry) { a.deliver(l, settled) },
		}
		err := w.run(a.ctx, a.patience)
		switch {
		case w.answered:
			a.writes.success()
		case a.ctx.Err() == nil:
			a.writes.failure(err)
		}
		if err != nil {
			a.fail(l, w.entries, err)
		}
	}
}

// waits reports whether anything waits; if not, the lane's goroutine must end.
func (a *appender) waits(l *lane) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(l.waiting) > 0 {
		return true
	}
	l.writer = false
	log := l.address
	if !a.idle.Contains(log) {
		log = log.Clone()
	}
	a.idle.Add(log, l.position)
	a.dropIdle(l)
	return false
}

// dropIdle forgets a lane without goroutines. The caller holds mu.
func (a *appender) dropIdle(l *lane) {
	if !l.writer && !l.refuser {
		delete(a.lanes, l.address)
	}
}

// take removes one batch from what waits.
func (a *appender) take(l *lane) []*entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, size := 0, 0
	for n < min(len(l.waiting), batchEntries) {
		size += l.waiting[n].size()
		if n > 0 && size > batchBytes {
			break
		}
		n++
	}
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	if l.trimmed {
		l.trimmed = false
		l.position.trimmed()
	}
	return batch
}

// trimmed notes that a log may have room again.
func (a *appender) trimmed(log envelope.Address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lanes[log]; l != nil {
		l.trimmed = true
	} else if p, ok := a.idle.Peek(log); ok {
		p.trimmed()
		a.idle.Add(log, p)
	}
}

// deliver makes room and calls the dones.
func (a *appender) deliver(l *lane, settled []*entry) {
	size := 0
	for _, e := range settled {
		size += e.size()
	}
	a.mu.Lock()
	a.bytes -= size
	l.bytes -= size
	a.mu.Unlock()
	for _, e := range settled {
		e.done(e.seq, e.err)
	}
}

// fail refuses entries, what waits behind them, and what comes until the last
// of those has been told.
func (a *appender) fail(l *lane, entries []*entry, cause error) {
	counter, refusal := &a.stats.away, envelope.BusyError(retryAway, noAnswer, cause)
	switch {
	case a.ctx.Err() != nil:
		counter, refusal = &a.stats.closed, envelope.BusyError(retryAway, closing, cause)
	case outOfSpace(cause):
		counter, refusal = &a.stats.noSpace, envelope.BusyError(retryNoSpace, noSpace, cause)
	}
	a.complaints.Do(func() {
		a.logger.Warn("appends are refused", "error", cause, "refused_before", counter.Load())
	})
	for len(entries) > 0 {
		counter.Add(int64(len(entries)))
		for _, e := range entries {
			e.seq, e.err = 0, refusal
		}
		a.deliver(l, entries)
		a.mu.Lock()
		entries, l.waiting = l.waiting, nil
		a.mu.Unlock()
	}
}

// close refuses what comes from now on, and returns when what waits has been
// answered: by the database while it answers within patience, else by a refusal.
func (a *appender) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	tired := time.AfterFunc(a.patience, func() { a.cancel(errClosed) })
	a.running.Wait()
	tired.Stop()
	a.cancel(errClosed)
}
