package embedded

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// entry is one Append on its way to the committing goroutine.
type entry struct {
	log    envelope.Address
	env    *envelope.Envelope
	digest [16]byte // of an envelope with an ID
	done   func(seq uint64, err error)
}

func (e *entry) size() int { return overhead + len(e.env.Body) }

// overhead is what an entry or an update counts for beside its body.
const overhead = 256

// update is a write of rare rows: it looks at what is there, itself included
// what the updates before it have written to b, and writes or refuses.
type update struct {
	run  func(b *pebble.Batch) error
	sync bool       // to be durable before it is answered
	done chan error // of capacity 1
}

// work is what the committing goroutine takes at once.
type work struct {
	entries []entry
	updates []update
}

func (w *work) empty() bool { return len(w.entries)+len(w.updates) == 0 }

// queue holds what waits for the committing goroutine. It is bounded.
type queue struct {
	// static
	maxEntries, maxBytes int
	wake                 chan struct{} // of capacity 1: something waits, or closed

	mu      sync.Mutex
	waiting work
	bytes   int
	refusal *refusal // what is not taken at present
	closed  bool
}

// refusal turns away what is for some logs, or everything.
type refusal struct {
	logs map[envelope.Address]bool // nil: all logs, and updates
	err  error
}

func (r *refusal) of(log envelope.Address) bool {
	return r != nil && (r.logs == nil || r.logs[log])
}

func newQueue(maxEntries, maxBytes int) *queue {
	return &queue{maxEntries: maxEntries, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// put queues an entry, or returns why not.
func (q *queue) put(e entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refusal.of(e.log) {
		return q.refusal.err
	}
	if err := q.roomFor(e.size()); err != nil {
		return err
	}
	q.waiting.entries = append(q.waiting.entries, e)
	q.signal()
	return nil
}

// putUpdate queues an update, or returns why not.
func (q *queue) putUpdate(u update) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refusal != nil && q.refusal.logs == nil {
		return q.refusal.err
	}
	if err := q.roomFor(overhead); err != nil {
		return err
	}
	q.waiting.updates = append(q.waiting.updates, u)
	q.signal()
	return nil
}

// roomFor counts size in, or says that there is no room. q.mu is held.
func (q *queue) roomFor(size int) error {
	if q.closed {
		return errClosed()
	}
	n := len(q.waiting.entries) + len(q.waiting.updates)
	if n >= q.maxEntries || n > 0 && q.bytes+size > q.maxBytes {
		return envelope.BusyError(retryFullMS, "too many messages wait to be stored", nil)
	}
	q.bytes += size
	return nil
}

// signal wakes take. q.mu is held.
func (q *queue) signal() {
	if q.closed {
		return // take looks by itself
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for something and moves it to w, at most maxEntries entries of
// about maxBytes. When idle fires and still nothing waits, it leaves w empty.
// It returns false when the queue is closed and empty.
func (q *queue) take(w *work, maxEntries, maxBytes int, idle <-chan time.Time) bool {
	for {
		if q.tryTake(w, maxEntries, maxBytes) {
			return true
		}
		select {
		case _, open := <-q.wake:
			if !open {
				return q.tryTake(w, maxEntries, maxBytes)
			}
		case <-idle:
			q.tryTake(w, maxEntries, maxBytes)
			return true
		}
	}
}

func (q *queue) tryTake(w *work, maxEntries, maxBytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.empty() {
		return false
	}
	w.updates, q.waiting.updates = q.waiting.updates, w.updates[:0]
	q.bytes -= overhead * len(w.updates)
	n, bytes := 0, 0
	for n < len(q.waiting.entries) && n < maxEntries && (n == 0 || bytes < maxBytes) {
		bytes += q.waiting.entries[n].size()
		n++
	}
	q.bytes -= bytes
	w.entries = append(w.entries[:0], q.waiting.entries[:n]...)
	rest := copy(q.waiting.entries, q.waiting.entries[n:])
	clear(q.waiting.entries[rest:])
	q.waiting.entries = q.waiting.entries[:rest]
	if rest > 0 {
		q.signal()
	}
	return true
}

// refuse turns away what comes from now on, until resume, and returns what
// waits already and is turned away as well.
func (q *queue) refuse(r *refusal) work {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refusal = r
	var away work
	if r.logs == nil {
		away, q.waiting, q.bytes = q.waiting, work{}, 0
		return away
	}
	kept := q.waiting.entries[:0]
	for _, e := range q.waiting.entries {
		if r.of(e.log) {
			away.entries = append(away.entries, e)
			q.bytes -= e.size()
		} else {
			kept = append(kept, e)
		}
	}
	clear(q.waiting.entries[len(kept):])
	q.waiting.entries = kept
	return away
}

// resume ends what refuse began.
func (q *queue) resume() {
	q.mu.Lock()
	q.refusal = nil
	q.mu.Unlock()
}

// close lets take return false once all is taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
}
