package embedded

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// askEvery is how often the database is asked whether it allows more, while a
// compaction waits: as often as its own scheduler asks always.
const askEvery = 100 * time.Millisecond

// scheduler has the database compact as much at a time as it allows, as its own
// scheduler does. That one asks ten times a second how much it is by now, and where
// nothing else happens, to wake up for it is a good part of what a server costs. This
// one asks while a compaction waits. It is the database's own without its ticker, whose
// constructor is there for tests: look at it again with each new version.
type scheduler struct {
	*pebble.ConcurrencyLimitScheduler
	db  pebble.DBForCompaction // set by Register, before all else
	ask *time.Timer            // set by Register; runs grant

	granting sync.Mutex
	over     bool // guarded by granting
}

func newScheduler() *scheduler {
	return &scheduler{ConcurrencyLimitScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// Register implements [pebble.CompactionScheduler].
func (s *scheduler) Register(goroutines int, db pebble.DBForCompaction) {
	s.ConcurrencyLimitScheduler.Register(goroutines, db)
	s.db = db
	s.ask = time.AfterFunc(time.Hour, s.grant)
	s.ask.Stop() // nothing waits yet
}

// Unregister implements [pebble.CompactionScheduler].
func (s *scheduler) Unregister() {
	s.granting.Lock()
	s.over = true
	s.ask.Stop()
	s.granting.Unlock()
	s.ConcurrencyLimitScheduler.Unregister()
}

// TrySchedule implements [pebble.CompactionScheduler]. What it refuses waits from then on.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	ok, handle := s.ConcurrencyLimitScheduler.TrySchedule()
	if !ok {
		s.ask.Reset(askEvery)
	}
	return ok, handle
}

// grant has what waits begin, if that is allowed by now, and comes again until nothing
// waits: the database does not always tell when it allows more.
func (s *scheduler) grant() {
	s.granting.Lock()
	defer s.granting.Unlock()
	if s.over {
		return
	}
	ok, handle := s.TrySchedule() // if not, it comes again
	if !ok {
		return
	}
	handle.Done() // as at the end of any, what waits is looked for
	if waiting, _ := s.db.GetWaitingCompaction(); waiting {
		s.ask.Reset(askEvery)
	}
}
