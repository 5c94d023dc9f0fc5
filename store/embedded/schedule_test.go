package embedded

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compacting is a database that compacts: as many at a time as it allows, while any wait.
type compacting struct {
	mu                      sync.Mutex
	allowed, waiting, asked int
	running                 []pebble.CompactionGrantHandle
}

func (c *compacting) GetAllowedWithoutPermission() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.allowed
}

func (c *compacting) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.waiting > 0, pebble.WaitingCompaction{}
}

func (c *compacting) Schedule(handle pebble.CompactionGrantHandle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting--
	c.running = append(c.running, handle)
	return true
}

// begin has n compactions begin, or wait.
func (c *compacting) begin(s pebble.CompactionScheduler, n int) {
	for range n {
		if ok, handle := s.TrySchedule(); ok {
			c.running = append(c.running, handle)
		} else {
			c.mu.Lock()
			c.waiting++
			c.mu.Unlock()
		}
	}
}

// end has the oldest end.
func (c *compacting) end() {
	c.mu.Lock()
	oldest := c.running[0]
	c.running = c.running[1:]
	c.mu.Unlock()
	oldest.Done()
}

// questions returns how often it was asked what waits.
func (c *compacting) questions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// expect fails the test unless so many run and wait, at once or when it has been asked.
func (c *compacting) expect(t *testing.T, when string, running, waiting int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) != running || c.waiting != waiting {
		t.Fatalf("%s: %d run and %d wait instead of %d and %d", when, len(c.running), c.waiting, running, waiting)
	}
}

func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := &compacting{allowed: 1}, newScheduler()
		s.Register(1, db)
		time.Sleep(time.Minute)
		if n := db.questions(); n > 0 {
			t.Errorf("asked %d times though nothing waits", n)
		}
		db.begin(s, 4)
		db.expect(t, "at first", 1, 3)
		db.end()
		db.expect(t, "when one has ended", 1, 2)
		db.mu.Lock()
		db.allowed = 3
		db.mu.Unlock()
		time.Sleep(askEvery)
		synctest.Wait()
		db.expect(t, "when more are allowed, of which nobody told", 3, 0)
		time.Sleep(askEvery)
		synctest.Wait()
		before := db.questions()
		time.Sleep(time.Minute)
		if n := db.questions() - before; n > 0 {
			t.Errorf("asked %d times though nothing waits any more", n)
		}
		db.begin(s, 1)
		s.Unregister()
		for range 3 {
			db.end()
		}
		db.begin(s, 1)
		time.Sleep(time.Minute)
		db.expect(t, "at the end", 0, 2)
	})
}
