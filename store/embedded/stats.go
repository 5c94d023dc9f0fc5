package embedded

import "sync/atomic"

// Stats are what a store has counted since it was opened.
type Stats struct {
	// Appends with an ID.
	Fresh    int64 // known from memory to be new
	Asked    int64 // looked up in the database, the repetitions among them
	Repeated int64 // repetitions of what was stored, or of an id used before

	FilterBytes int64 // what is kept in memory to know which ids are new

	Batches int64 // written
	Ahead   int64 // appends made ready while another batch was being written

	Waits int64 // for room on the disk or for a descriptor, a second each
}

// counts are written by the committing goroutine.
type counts struct{ fresh, asked, repeated, filterBytes, batches, ahead atomic.Int64 }

// Stats returns what has been counted.
func (s *Store) Stats() Stats {
	c := &s.counts
	return Stats{
		Fresh: c.fresh.Load(), Asked: c.asked.Load(), Repeated: c.repeated.Load(),
		FilterBytes: c.filterBytes.Load(), Batches: c.batches.Load(), Ahead: c.ahead.Load(),
		Waits: s.waits.n.Load(),
	}
}
