package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// load sends a message to a room every 100 ms, for d. A device that reads must
// have each at once.
func (m *mesh) load(from *device, first int, d time.Duration, reader *device) (next int) {
	m.t.Helper()
	before := reader.received() - first
	filler := strings.Repeat("x", 4<<10)
	for until := time.Now().Add(d); time.Now().Before(until); first++ {
		from.send(to(room("room"), fmt.Sprint(first), fmt.Sprint(first, " ", filler)))
		synctest.Wait()
		if got := reader.received() - before; got != first+1 {
			m.t.Fatalf("a reader beside a stalled one has %d of %d messages", got, first+1)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return first
}

func (d *device) received() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.got)
}

// crowded makes a room in which alice writes from another server and fast and
// slow read from this one.
func crowded(t *testing.T, m *mesh) (alice, fast *device, slow *raw) {
	t.Helper()
	alice = m.client("alice", "b").connected(m)
	fast = m.client("fast", "a").connected(m)
	if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"slow", "fast"} {
		if _, err := m.api(id, id, "a").JoinSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
	}
	slow = m.raw("slow", "a")
	slow.hello("")
	pass(time.Second)
	return alice, fast, slow
}

// upTo reads the messages up to one number, in order and without a hole,
// beginning with another.
func (r *raw) upTo(first, last int) {
	r.t.Helper()
	for next := first; next <= last; {
		f, err := r.next(time.Minute)
		if err != nil {
			r.t.Fatalf("instead of message %d: %v", next, err)
		}
		if f.ctl.Control != "" || f.msg.HasType {
			continue
		}
		if n, _, _ := strings.Cut(text(f.msg), " "); n != fmt.Sprint(next) {
			r.t.Fatalf("got %s instead of message %d", n, next)
		}
		next++
	}
}

// A reader that stands still for 30 s under load, goes on, and has everything
// in order; the one beside it has noticed nothing.
func TestStallAndGoOn(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, fast, slow := crowded(t, m)
		n := m.load(alice, 0, 30*time.Second, fast)
		if frames, bytes := m.at("a").queued("slow"); frames > windowMessages || bytes > windowBytes+5<<10 {
			t.Errorf("%d frames of %d bytes wait", frames, bytes)
		}
		slow.upTo(0, n-1)
		alice.send(to(room("room"), "live", fmt.Sprint(n, " live")))
		slow.upTo(n, n)
		if got := m.at("a").Stats().ClosedSlow.Load(); got != 0 {
			t.Errorf("%d readers were closed", got)
		}
	})
}

// A reader that makes no progress for a minute is told so, and loses nothing:
// it resumes elsewhere behind what it has acknowledged.
func TestStallAndResumeElsewhere(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, fast, slow := crowded(t, m)
		n := m.load(alice, 0, 10*time.Second, fast)
		slow.upTo(0, 49)
		slow.send(`{"control":"ack","cursors":{"session:room":53}}`) // three joined before
		n = m.load(alice, n, 62*time.Second, fast)                   // what it is told waits some seconds for it
		if got := m.at("a").Stats().ClosedSlow.Load(); got != 1 {
			t.Errorf("%d readers were closed", got)
		}
		var err error
		for err == nil {
			_, err = slow.next(time.Minute)
		}
		end, ok := errors.AsType[websocket.CloseError](err)
		if !ok || end.Code != 4001 || !strings.Contains(end.Reason, "no progress") {
			t.Errorf("ended with %v", err)
		}
		slow = m.raw("slow", "b")
		slow.hello("")
		slow.upTo(50, n-1)
		slow.control("caught_up")
	})
}

// What waits in memory for 1,000 stalled readers stays within their windows,
// however much is sent.
func TestStalledReadersBounded(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		const readers = 1000
		defer m.stall(readers)()
		alice := m.client("alice", "a").connected(m)
		filler := strings.Repeat("x", 8<<10)
		for i := range 250 { // two windows
			alice.send(to(user("crowd"), fmt.Sprint(i), filler))
		}
		synctest.Wait()
		total := 0
		for _, c := range m.at("a").conns.all() {
			c.mu.Lock()
			frames, bytes := c.lane.count(), c.lane.bytes
			c.mu.Unlock()
			total += bytes
			if frames > windowMessages || bytes > windowBytes+9<<10 { // and the one that found room
				t.Fatalf("%d frames of %d bytes wait for %s", frames, bytes, c.who.Node)
			}
		}
		if total == 0 || total > readers*(windowBytes+9<<10) {
			t.Errorf("%d bytes wait", total)
		}
		if got := m.at("a").Stats().DroppedSlow.Load(); got != 0 {
			t.Errorf("%d dropped", got)
		}
	})
}

// A reader too slow for the volatile messages that it is sent gets the durable
// ones beside them, wherever these have to wait.
func TestDurableBesideFlood(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		var flood sync.WaitGroup
		defer flood.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		flood.Go(func() {
			for ctx.Err() == nil {
				e := to(deviceAddr("slow"), "", "volatile")
				e.Class = envelope.Volatile
				_, _ = alice.Send(ctx, e)
				time.Sleep(5 * time.Millisecond)
			}
		})
		reads := func(n int, want string) bool {
			for range n {
				time.Sleep(20 * time.Millisecond)
				f, err := slow.next(time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				if f.ctl.Control == "" && text(f.msg) == want {
					return true
				}
			}
			return false
		}
		reads(2*windowMessages, "")
		for i := range 5 {
			alice.send(to(deviceAddr("slow"), fmt.Sprint(i), fmt.Sprint(i)))
			if !reads(4*windowMessages, fmt.Sprint(i)) {
				t.Fatalf("message %d is not there", i)
			}
		}
	})
}

// What expires while a reader stands still is not delivered, also when it was
// about to be written.
func TestExpiredWhileStalled(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		slow := m.raw("slow", "a")
		slow.hello("")
		slow.control("caught_up")
		for i := range 20 {
			e := to(deviceAddr("slow"), fmt.Sprint(i), fmt.Sprint(i))
			if i > 1 {
				e.TTL = 5
			}
			alice.send(e)
		}
		slow.message("0") // the others were taken to be written while this one stood
		pass(30 * time.Second)
		alice.send(to(deviceAddr("slow"), "last", "last"))
		slow.message("1")
		slow.message("last")
		if got := m.at("a").Stats().Expired.Load(); got != 18 {
			t.Errorf("%d expired", got)
		}
	})
}
