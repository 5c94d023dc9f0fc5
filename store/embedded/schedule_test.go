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
	mu               sync.Mutex
	allowed, waiting int
	running          []pebble.CompactionGrantHandle
}

func (c *compacting) GetAllowedWithoutPermission() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.allowed
}

func (c *compacting) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		ok, handle := s.TrySchedule()
		c.mu.Lock()
		if ok {
			c.running = append(c.running, handle)
		} else {
			c.waiting++
		}
		c.mu.Unlock()
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

// expect fails the test unless so many run and wait, at once or when it has been asked.
func (c *compacting) expect(t *testing.T, when string, running, waiting int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) != running || c.waiting != waiting {
		t.Fatalf("%s: %d run and %d wait instead of %d and %d", when, len(c.running), c.waiting, running, waiting)
	}
}

// allow has the database allow n at a time, and tells nobody.
func (c *compacting) allow(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = n
}

func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := &compacting{allowed: 1}, newScheduler()
		s.Register(1, db)
		quiet := func(when string) {
			t.Helper()
			time.Sleep(2 * askEvery)
			synctest.Wait()
			if s.ask.Stop() {
				t.Fatalf("%s: it goes on asking", when)
			}
		}
		quiet("at first")
		db.begin(s, 4)
		db.expect(t, "one at a time", 1, 3)
		db.end()
		db.expect(t, "when one has ended", 1, 2)
		time.Sleep(10 * askEvery)
		synctest.Wait()
		db.expect(t, "while nothing changes", 1, 2)
		for allowed := 2; allowed <= 3; allowed++ {
			db.allow(allowed)
			time.Sleep(askEvery)
			synctest.Wait()
			db.expect(t, "when more are allowed", allowed, 3-allowed)
		}
		for range 3 {
			db.end()
		}
		quiet("when all have ended")

		db.allow(1)
		db.begin(s, 2)
		s.Unregister()
		db.end()
		db.begin(s, 1)
		quiet("at the end")
		db.expect(t, "at the end", 0, 2)
	})
}
