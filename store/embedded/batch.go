package embedded

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// outcome is the answer to one entry.
type outcome struct {
	seq uint64
	err error
}

// batch is what is written and answered together. It belongs to the committing
// goroutine.
type batch struct {
	work
	outcomes []outcome // of the entries
	decided  []error   // of the updates
	failing  *refusal  // what could not be read for, nil: nothing

	rows   *pebble.Batch
	number uint64                    // in its mark
	spans  map[envelope.Address]span // how it moves the logs; not changed once it is being written
	sync   bool                      // to be durable before it is answered

	vouches bool // holds only a mark
}

// mustSync reports whether the batch is to be durable before it is answered.
func (b *batch) mustSync() bool {
	if b.vouches || len(b.spans) > 0 {
		return true
	}
	for i, u := range b.updates {
		if u.sync && b.decided[i] == nil && b.rows.Count() > 0 {
			return true
		}
	}
	return false
}

// writing returns the rows whose reads wait for the batch; nil: none.
func (b *batch) writing() *writing {
	var w *writing
	for i, u := range b.updates {
		if u.row == nil || b.decided[i] != nil {
			continue
		}
		if w == nil {
			w = &writing{rows: make(map[string]bool), done: make(chan struct{})}
		}
		w.rows[string(u.row)] = true
	}
	return w
}

// find returns the stub of an entry that the batch stores or repeats.
func (b *batch) find(e *entry) (stub, bool) {
	for i := range b.outcomes {
		is := &b.entries[i]
		if is.hash == e.hash && b.outcomes[i].err == nil && is.sameID(e) {
			return stub{b.outcomes[i].seq, is.digest, is.env.Timestamp}, true
		}
	}
	return stub{}, false
}

// answer tells everybody the outcome.
func (b *batch) answer() {
	for i, u := range b.updates {
		u.done <- b.decided[i]
	}
	for i := range b.entries {
		b.entries[i].done(b.outcomes[i].seq, b.outcomes[i].err)
	}
}

// forget lets go of what has been answered.
func (b *batch) forget() {
	clear(b.entries)
	clear(b.updates)
	b.work = work{entries: b.entries[:0], updates: b.updates[:0]}
	b.outcomes, b.decided = b.outcomes[:0], b.decided[:0]
}

// reset makes it ready for other work.
func (b *batch) reset() {
	b.forget()
	*b = batch{work: b.work, outcomes: b.outcomes, decided: b.decided}
}
