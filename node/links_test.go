package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// numbers returns "from" … "to-1".
func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// With a link gone, messages go through another server.
func TestRelay(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		alice.send(to(deviceAddr("bob"), "0", "0"))
		pass(time.Second)
		m.cut("a", "b")
		for i := 1; i < 20; i++ { // while nobody knows of the cut, and after
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			time.Sleep(time.Second)
		}
		m.within(5*time.Second, "all arrived through c", func() bool { return slices.Equal(bob.texts(), numbers(0, 20)) })
		if m.at("c").Stats().PeerRelayed.Load() == 0 {
			t.Error("nothing was relayed")
		}
		if a := m.at("a"); a.PeerLinks() != 1 {
			t.Errorf("a has %d links", a.PeerLinks())
		}
		start := time.Now()
		alice.send(to(deviceAddr("bob"), "20", "20"))
		m.within(time.Second, "one more", func() bool { return len(bob.texts()) == 21 })
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a relayed message took %v", took)
		}
		m.heal("a", "b")
		m.linked()
		alice.send(to(deviceAddr("bob"), "21", "21"))
		m.within(100*time.Millisecond, "direct again", func() bool { return slices.Equal(bob.texts(), numbers(0, 22)) })
	})
}

// What was queued on a link that broke arrives soon, although the link stays
// away and the receiver found out before the sender did.
func TestLostOnADyingLink(t *testing.T) {
	unequal := func(c *Config) {
		c.Timing.Sweep = 24 * time.Hour
		c.Timing.PeerBeat = 2 * time.Second
		if c.Graph.Self.ID == "b" {
			c.Timing.PeerBeat = 250 * time.Millisecond // finds out first
		}
	}
	for offset := time.Duration(0); offset < 12*time.Second; offset += time.Second {
		inMeshOf(t, 3, unequal, func(t *testing.T, m *mesh) {
			alice := m.client("alice", "a").connected(m)
			bob := m.client("bob", "b").connected(m)
			pass(time.Second)
			m.cut("a", "b")
			time.Sleep(offset)
			alice.send(to(deviceAddr("bob"), "1", "1"))
			took := m.within(2*time.Minute, "it arrived", func() bool { return len(bob.texts()) == 1 })
			if took > 15*time.Second {
				t.Errorf("sent %v after the cut: took %v", offset, took)
			}
		})
	}
}

// A server without any link learns what it missed when one comes back.
func TestAllLinksCutAndHealed(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		pass(time.Second)
		m.cut("a", "b")
		m.cut("b", "c")
		for i := range 60 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			time.Sleep(time.Second)
		}
		if m.at("b").PeerLinks() != 0 {
			t.Fatal("b has a link")
		}
		m.heal("a", "b")
		m.heal("b", "c")
		m.within(30*time.Second, "all arrived", func() bool { return slices.Equal(bob.texts(), numbers(0, 60)) })
		// Neither server was ever taken for dead: both are in touch with the store.
		if got := len(m.at("a").Servers()); got != 3 {
			t.Errorf("a knows %d servers", got)
		}
	})
}

// Records that find no room on a link cost time, never a message.
func TestLinkOverflow(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		pass(time.Second)
		m.peers.jam("a", "b", true)
		a := m.at("a")
		fill := func(size int) {
			a.peers.deliver([]envelope.ServerID{"b"}, deviceAddr("nobody"), &envelope.Envelope{DestNode: "nobody", Class: envelope.Volatile, Body: make([]byte, size)})
		}
		fill(0)
		synctest.Wait() // the writer has it and is stuck
		for _, size := range []int{1 << 20, 1 << 14, 1 << 8, 0} {
			for before := a.Stats().PeerDropped.Load(); a.Stats().PeerDropped.Load() == before; {
				fill(size)
			}
		}
		dropped := a.Stats().PeerDropped.Load()
		for i := range 5 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		synctest.Wait() // the last is routed after it has been acknowledged
		if got := a.Stats().PeerDropped.Load() - dropped; got != 5 {
			t.Fatalf("%d records were dropped, want 5", got)
		}
		m.peers.jam("a", "b", false)
		m.within(5*time.Second, "the sweep found all", func() bool { return slices.Equal(bob.texts(), numbers(0, 5)) })
	})
}

// A server that crashes: its clients come back elsewhere, nothing that was
// acknowledged is lost or reordered, and its edges are soon unused.
func TestCrash(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.device("bob", "bob", "b", "c").connected(m)
		n := 0
		send := func() {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(n), fmt.Sprint(n)))
			n++
		}
		for range 10 {
			send()
		}
		m.kill("b")
		for range 100 {
			send()
			time.Sleep(100 * time.Millisecond)
		}
		if len(m.at("a").Servers()) != 2 {
			t.Error("the dead server counts after 10 s")
		}
		m.within(5*time.Second, "bob has all", func() bool { return slices.Equal(bob.texts(), numbers(0, n)) })

		m.start("b")
		m.linked()
		send()
		m.within(time.Second, "and goes on", func() bool { return slices.Equal(bob.texts(), numbers(0, n)) })
	})
}

// A server that dies between storing a message and sending it on: the others
// look for what it may have left.
func TestCrashBetweenAppendAndDelivery(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.client("bob", "b").connected(m)
		pass(time.Second)
		alice := m.raw("alice", "a")
		m.cut("a", "b") // what a sends is lost
		alice.send(`{"id":"1","dest_id":"bob","payload":"1"}`)
		alice.control("ack")
		m.kill("a")
		m.within(15*time.Second, "bob has it", func() bool { return slices.Equal(bob.texts(), []string{"1"}) })
	})
}

// A server whose record is gone, as that of one that stood still for long is,
// takes a new boot id, and is reached under it.
func TestRecordGone(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		alice.send(to(deviceAddr("bob"), "0", "0"))
		pass(time.Second)
		boot := m.at("b").graph.Boot()
		if err := m.store.Release(t.Context(), "b", boot); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 10; i++ {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
			time.Sleep(time.Second)
		}
		m.within(5*time.Second, "bob has all", func() bool { return slices.Equal(bob.texts(), numbers(0, 10)) })
		if m.at("b").graph.Boot() == boot {
			t.Error("the same boot id")
		}
	})
}

// A server that starts does not ask for clients before it can reach those of
// the others, and soon can; but one that stays away keeps nobody from starting.
func TestReadyOnceLinked(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		c := m.start("c")
		if c.Ready() == nil {
			t.Error("ready without links")
		}
		// Without gossip the others learn of it when they look at the leases.
		took := m.within(2*time.Second, "c is ready", func() bool { return c.Ready() == nil })
		if c.PeerLinks() != 2 {
			t.Errorf("ready with %d links after %v", c.PeerLinks(), took)
		}

		m.cut("a", "d")
		start := time.Now()
		d := m.start("d")
		m.within(time.Minute, "d is ready", func() bool { return d.Ready() == nil })
		if took := time.Since(start); took < linkGrace || took > linkGrace+time.Second || d.PeerLinks() != 2 {
			t.Errorf("ready with %d links after %v", d.PeerLinks(), took)
		}
		m.heal("a", "d")
		m.linked()
	})
}
