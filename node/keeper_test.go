package node

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// keeping makes a mesh keep so much of each device's log.
func keeping(limits inbox.Limits) func(*Config) {
	return func(c *Config) {
		c.Timing.Tidy = time.Minute
		c.Retention = inbox.Retention{Keep: map[envelope.Kind]inbox.Limits{envelope.KindNode: limits}}
	}
}

// Whoever comes too late is told from where on there is something.
func TestGapAfterRetention(t *testing.T) {
	inMeshOf(t, 2, keeping(inbox.Limits{Entries: 5}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		first := m.client("bob", "b").connected(m)
		alice.send(to(deviceAddr("bob"), "0", "0"))
		m.within(time.Second, "the first arrives", func() bool { return len(first.texts()) == 1 })
		pass(2 * time.Second) // and is acknowledged
		first.close()
		for i := 1; i < 20; i++ {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		pass(4 * time.Minute)
		trimmed := m.at("a").Stats().Trimmed.Load() + m.at("b").Stats().Trimmed.Load()
		if trimmed != 15 {
			t.Errorf("%d entries were trimmed, want 15, once", trimmed)
		}

		var gaps []client.Gap
		bob := m.deviceWith("bob", "bob", client.Options{OnGap: func(g client.Gap) { gaps = append(gaps, g) }}, "a").connected(m)
		m.within(time.Second, "what is left arrives", func() bool { return slices.Equal(bob.texts(), numbers(15, 20)) })
		alice.send(to(deviceAddr("bob"), "20", "20"))
		m.within(time.Second, "and what comes", func() bool { return slices.Equal(bob.texts(), numbers(15, 21)) })
		if len(gaps) != 1 || gaps[0].Log != deviceAddr("bob") || gaps[0].Floor != 16 {
			t.Errorf("gaps %+v", gaps)
		}
		// A repetition of what is gone is still recognised, and still not another message.
		if ack := alice.send(to(deviceAddr("bob"), "3", "3")); ack.Seq != 4 {
			t.Errorf("repeated: %+v", ack)
		}
		if _, err := alice.Send(t.Context(), to(deviceAddr("bob"), "3", "other")); envelope.CodeOf(err) != envelope.Conflict {
			t.Errorf("another with the same id: %v", err)
		}
	})
}

// What a device has acknowledged goes sooner than what waits for it.
func TestAcknowledgedGoesSooner(t *testing.T) {
	inMeshOf(t, 1, keeping(inbox.Limits{Acknowledged: time.Hour}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "a").connected(m)
		for i := range 10 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			alice.send(to(deviceAddr("carol"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		m.within(time.Second, "all arrive", func() bool { return len(bob.texts()) == 10 })
		extent := func(id string) inbox.Extent {
			x, err := m.store.Extent(t.Context(), deviceAddr(id))
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		pass(30 * time.Minute)
		if x := extent("bob"); x.Floor != 1 {
			t.Errorf("too soon: %+v", x)
		}
		pass(time.Hour)
		if x := extent("bob"); x.Floor != 10 || x.Head != 10 { // the head stays
			t.Errorf("acknowledged: %+v", x)
		}
		if x := extent("carol"); x.Floor != 1 {
			t.Errorf("waiting: %+v", x)
		}
	})
}

// Where there is no room for what comes, what has been acknowledged goes at once.
func TestAcknowledgedMakesRoom(t *testing.T) {
	inMeshOf(t, 1, keeping(inbox.Limits{Acknowledged: 24 * time.Hour}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "a").connected(m)
		for i := range 10 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			alice.send(to(deviceAddr("carol"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		m.within(time.Second, "all arrive", func() bool { return len(bob.texts()) == 10 })
		pass(3 * time.Second) // and are acknowledged
		for device, floor := range map[string]uint64{"bob": 10, "carol": 1} {
			m.at("a").keeper.full(deviceAddr(device))
			pass(time.Second)
			if x, err := m.store.Extent(t.Context(), deviceAddr(device)); err != nil || x.Floor != floor || x.Head != 10 {
				t.Errorf("%s: %+v, %v; want floor %d", device, x, err, floor)
			}
		}
	})
}

// Sending on to a log that stays full does not keep the store busy, nor others waiting.
func TestFullLogIsAskedForOnce(t *testing.T) {
	inMeshOf(t, 1, keeping(inbox.Limits{Acknowledged: 24 * time.Hour}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "a").connected(m)
		for i := range 10 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			alice.send(to(deviceAddr("carol"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		m.within(time.Second, "all arrive", func() bool { return len(bob.texts()) == 10 })
		pass(3 * time.Second)
		var reads atomic.Int64
		m.at("a").store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "read" {
					reads.Add(1)
				}
				return nil
			}
		})
		keeper := m.at("a").keeper
		for range 2 * tidyAsked {
			keeper.full(deviceAddr("carol"))
		}
		keeper.full(deviceAddr("bob"))
		pass(time.Second)
		if x, err := m.store.Extent(t.Context(), deviceAddr("bob")); err != nil || x.Floor != 10 {
			t.Errorf("bob waits: %+v, %v", x, err)
		}
		if n := reads.Load(); n > 50 {
			t.Errorf("%d reads", n)
		}
	})
}

// Whoever sends to a log that is full has it looked after, which costs what
// trimming does, not what reading everybody who is in the session does.
func TestFullLogDoesNotRetireGuests(t *testing.T) {
	inMeshOf(t, 1, func(c *Config) { c.Guests = true }, func(t *testing.T, m *mesh) {
		n, reads := m.at("a"), 0
		if _, err := m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		n.store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "members" {
					reads++
				}
				return nil
			}
		})
		n.keeper.makeRoom(t.Context(), room("r"))
		if reads != 0 {
			t.Errorf("a full log: who is in the session is read %d times", reads)
		}
		if err := n.keeper.round(t.Context()); err != nil || reads != 1 {
			t.Errorf("a round: read %d times, %v", reads, err)
		}
	})
}
