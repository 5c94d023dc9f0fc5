package embedded

import (
	"errors"

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
	stubs  *pebble.Batch             // rows that go behind those, so that entries lie next to one another, see order
	number uint64                    // in its mark
	spans  map[envelope.Address]span // how it moves the logs; not changed once it is being written
	ids    map[messageID]int         // the entries with an id that are stored or repeat one; nil: nobody has asked
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

// open makes a batch ready to be staged into.
func (b *batch) open(db *pebble.DB) {
	b.rows, b.stubs = db.NewBatch(), db.NewBatch()
	b.spans = make(map[envelope.Address]span, len(b.entries))
}

// join puts all that is to be written in one. The stubs come behind what updates do,
// none of which deletes one of them: what is there is found when an entry is staged.
func (b *batch) join() error {
	stubs := b.stubs
	b.stubs = nil
	if stubs.Empty() {
		return stubs.Close()
	}
	return errors.Join(b.rows.Apply(stubs, nil), stubs.Close())
}

// close gives up what has not been written.
func (b *batch) close() {
	for _, rows := range []*pebble.Batch{b.rows, b.stubs} {
		if rows != nil {
			_ = rows.Close()
		}
	}
}

// staged notes the outcome of an entry.
func (b *batch) staged(i int, o outcome) {
	b.outcomes[i] = o
	if b.ids != nil {
		b.remember(i)
	}
}

// remember lets find find an entry, if it is stored or repeats one that is.
func (b *batch) remember(i int) {
	if e := &b.entries[i]; b.outcomes[i].seq != 0 && e.env.ID != "" {
		b.ids[e.messageID()] = i
	}
}

// find returns the stub of an entry that the batch stores or repeats. While there
// is a filter few ask, so the map is made when the first one does.
func (b *batch) find(e *entry) (stub, bool) {
	if b.ids == nil {
		b.ids = make(map[messageID]int, len(b.outcomes))
		for i := range b.outcomes {
			b.remember(i)
		}
	}
	i, ok := b.ids[e.messageID()]
	if !ok {
		return stub{}, false
	}
	return stub{b.outcomes[i].seq, b.entries[i].digest, b.entries[i].env.Timestamp}, true
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
