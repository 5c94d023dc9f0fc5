package embedded

import (
	"sync/atomic"
)

// known tells from memory that a message's id is new, which nearly all are: to
// ask the database costs more than all else that numbering a message takes. It
// never says so of an id that has a stub. Of one that is forgotten it may say
// that it is known; then the database is asked in vain.
//
// It holds the ids staged since it began, and those that a walk over all stubs
// finds meanwhile. Until the walk is through every id may be known. When the
// staged ones have no more room it begins anew, without what was forgotten.
// When the walk finds more than there is room for, it does without, until so
// many are forgotten that another walk may pay.
type known struct {
	// static
	max  int                 // bytes that the staged may take, and the walked
	walk func(*recollection) // starts a walk in the background

	// only the committing goroutine
	now       *recollection // nil: does without
	full      bool          // the staged had no more room
	forgotten int           // stubs since the last walk began
}

// recollection is what is known from one walk to the next.
type recollection struct {
	walked atomic.Pointer[filter] // set by the walk at its end, not changed after that
	failed atomic.Bool            // set by the walk instead
	staged filter                 // only the committing goroutine
}

// begin starts anew. Ids that are staged and may not show in the database yet
// have to be added again.
func (k *known) begin() {
	k.full, k.forgotten = false, 0
	if k.max < blockBytes {
		return // not wanted
	}
	k.now = &recollection{staged: filter{max: k.max}}
	k.walk(k.now)
}

// ripe reports that it is time to begin anew.
func (k *known) ripe() bool {
	if k.now != nil && k.now.failed.Load() {
		k.now = nil
	}
	return k.now == nil && (k.full || k.forgotten >= k.max/blockBytes*blockIDs/2)
}

// isNew reports that there is certainly no stub of an id.
func (k *known) isNew(hash uint64) bool {
	if k.now == nil {
		return false
	}
	walked := k.now.walked.Load()
	return walked != nil && !k.now.staged.has(hash) && !walked.has(hash)
}

// add notes an id whose stub is being written.
func (k *known) add(hash uint64) {
	if k.now != nil && !k.now.staged.add(hash) {
		k.now, k.full = nil, true
	}
}

// bytes is how much memory it takes.
func (k *known) bytes() int {
	if k.now == nil {
		return 0
	}
	n := k.now.staged.bytes
	if walked := k.now.walked.Load(); walked != nil {
		n += walked.bytes
	}
	return n
}
