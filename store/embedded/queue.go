package embedded

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// entry is one Append on its way to the committing goroutine.
type entry struct {
	log    envelope.Address
	env    *envelope.Envelope
	digest [16]byte // of an envelope with an ID
	hash   uint64   // of its ID, see idHash
	done   func(seq uint64, err error)
}

func (e *entry) size() int { return overhead + len(e.env.Body) }

// messageID is by what a message is known again.
type messageID struct {
	log envelope.Address
	src envelope.NodeID
	id  string
}

func (e *entry) messageID() messageID { return messageID{e.log, e.env.SrcNode, e.env.ID} }

// overhead is what an entry or an update counts for beside its body.
const overhead = 256

// update is a write of rare rows: it looks at what is there, including
// what the updates before it have written to b, and writes or refuses. What takes long
// to look at it may have looked at before, and makes sure that nothing came in between.
type update struct {
	run  func(b *pebble.Batch) error
	sync bool       // to be durable before it is answered
	row  []byte     // whose reads wait until it is durable; nil: none
	done chan error // of capacity 1
}

// work is what waits, or what was taken of it.
type work struct {
	entries []entry
	updates []update
	bytes   int // sum of the sizes
}

func (w *work) len() int { return len(w.entries) + len(w.updates) }

// queue holds what waits to be written. It is bounded. What the committing
// goroutine has taken counts until it is being written.
type queue struct {
	// static
	maxEntries, maxBytes int
	wake                 chan struct{} // of capacity 1: something waits, or closed

	// guarded by mu
	mu           sync.Mutex
	waiting      work
	count, bytes int      // of what waits, and what was taken and is not being written yet
	refusal      *refusal // what is not taken at present
	closed       bool
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
	if q.count >= q.maxEntries || q.count > 0 && q.bytes+size > q.maxBytes {
		return envelope.BusyError(retryFullMS, "too many messages wait to be stored", nil)
	}
	q.count++
	q.bytes += size
	return nil
}

// signal lets the committing goroutine look. q.mu is held.
func (q *queue) signal() {
	if q.closed {
		return // it looks by itself
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves what waits to w, as many entries as there is room for in a batch
// and, when they are wanted, all updates.
func (q *queue) take(w *work, updates bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if updates {
		w.updates = append(w.updates, q.waiting.updates...)
		w.bytes += overhead * len(q.waiting.updates)
		clear(q.waiting.updates)
		q.waiting.updates = q.waiting.updates[:0]
	}
	n := 0
	for n < len(q.waiting.entries) && len(w.entries)+n < batchEntries && w.bytes < batchBytes {
		w.bytes += q.waiting.entries[n].size()
		n++
	}
	w.entries = append(w.entries, q.waiting.entries[:n]...)
	rest := copy(q.waiting.entries, q.waiting.entries[n:])
	clear(q.waiting.entries[rest:])
	q.waiting.entries = q.waiting.entries[:rest]
}

// release makes room for others in the place of w, which was taken.
func (q *queue) release(w *work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.uncount(w)
}

// uncount lets w not count any more. q.mu is held.
func (q *queue) uncount(w *work) {
	q.count -= w.len()
	q.bytes -= w.bytes
}

// refuse turns away what comes from now on, until resume, and returns what
// waits already and is turned away as well.
func (q *queue) refuse(r *refusal) work {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refusal = r
	var away work
	if r.logs == nil {
		away.updates, q.waiting.updates = q.waiting.updates, nil
		away.bytes = overhead * len(away.updates)
	}
	kept := q.waiting.entries[:0]
	for _, e := range q.waiting.entries {
		if r.of(e.log) {
			away.entries = append(away.entries, e)
			away.bytes += e.size()
		} else {
			kept = append(kept, e)
		}
	}
	clear(q.waiting.entries[len(kept):])
	q.waiting.entries = kept
	q.uncount(&away)
	return away
}

// resume ends what refuse began.
func (q *queue) resume() {
	q.mu.Lock()
	q.refusal = nil
	q.mu.Unlock()
}

// close refuses what comes from now on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
}
