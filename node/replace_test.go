package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
)

// A device that connects at another server is taken from the first one, at once.
func TestReplacedAcrossServers(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		old := m.raw("bob", "a")
		old.hello("")
		old.control("caught_up")
		pass(time.Second)
		start := time.Now()
		fresh := m.device("bob", "bob", "b").connected(m)
		if got := old.closed(); got != 4505 {
			t.Errorf("closed with %d", got)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		pass(time.Second)
		alice := m.client("alice", "c").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "1"))
		m.within(time.Second, "the newer one gets messages", func() bool { return slices.Equal(fresh.texts(), numbers(1, 2)) })
		if n := m.at("a").conns.len(); n != 0 {
			t.Errorf("%d connections at a", n)
		}
		edges, err := m.store.Edges(t.Context(), deviceAddr("bob"))
		if err != nil || len(edges) != 1 || edges[0].Server != "b" {
			t.Errorf("edges %v, %v", edges, err)
		}
	})
}

// Whatever the delays, one connection of a device stays in the end, and it is
// the newest.
func TestOneOfManyStays(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second} {
		t.Run(apart.String(), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				m.peers.jam("a", "b", true)
				m.peers.jam("b", "c", true)
				for _, id := range []string{"a", "b", "c"} {
					m.raw("bob", id)
					time.Sleep(apart)
				}
				synctest.Wait()
				m.peers.jam("a", "b", false)
				m.peers.jam("b", "c", false)
				pass(5 * time.Second)
				var there []string
				for _, id := range m.ids() {
					if m.at(id).conns.device("bob") != nil {
						there = append(there, id)
					}
				}
				if len(there) != 1 || apart > 0 && there[0] != "c" {
					t.Errorf("connected at %v", there)
				}
			})
		})
	}
}

// A server that could not be told hears of newer connections when it can.
func TestReplacedAfterPartition(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		old := m.raw("bob", "a")
		old.hello("")
		old.control("caught_up")
		m.cut("a", "b")
		pass(10 * time.Second) // the link is gone
		fresh := m.device("bob", "bob", "b").connected(m)
		pass(5 * time.Second)
		if m.at("a").conns.device("bob") == nil {
			t.Fatal("closed by nobody's word")
		}
		m.heal("a", "b")
		m.linked()
		pass(closing + time.Second) // it does not read the goodbye
		if m.at("a").conns.device("bob") != nil {
			t.Error("the older connection is still there")
		}
		if fresh.State() != client.Connected || m.at("b").conns.device("bob") == nil {
			t.Error("the newer connection is gone")
		}
	})
}

// Between servers without a link what is said can be lost on the way, unnoticed
// by both.
func TestReplacedWithoutLink(t *testing.T) {
	timing := func(c *Config) { c.Timing.Sweep, c.Timing.Ping = 5*time.Second, time.Hour } // who does not read answers no ping
	inMeshOf(t, 3, timing, func(t *testing.T, m *mesh) {
		m.cut("a", "b")
		pass(10 * time.Second)
		old := m.raw("bob", "a")
		old.hello("")
		old.control("caught_up")
		pass(time.Second)
		m.cut("b", "c") // which has not been noticed when b tells a by way of c
		m.raw("bob", "b")
		pass(10 * time.Second)
		if m.at("a").conns.device("bob") == nil || m.at("b").conns.device("bob") == nil {
			t.Fatal("closed by nobody's word")
		}
		m.heal("b", "c")
		pass(20 * time.Second)
		if m.at("a").conns.device("bob") != nil || m.at("b").conns.device("bob") == nil {
			t.Error("it is not the newer connection that stayed")
		}
	})
}

// The clocks of two processes are compared by the shortest way seen lately
// between them, and anew when one starts again.
func TestClocks(t *testing.T) {
	var k clocks
	for i, test := range []struct {
		process   string
		now, here time.Duration
		want      time.Duration
	}{
		{"p", 10 * time.Second, 3 * time.Second, -7 * time.Second},
		{"p", 11 * time.Second, 9 * time.Second, -7 * time.Second}, // was under way for long
		{"p", 20 * time.Second, 12900 * time.Millisecond, -7100 * time.Millisecond},
		{"q", time.Second, 14 * time.Second, 13 * time.Second},
		// It stood still for half an hour, and then has not been heard of.
		{"q", 11 * time.Second, 1824 * time.Second, 1813 * time.Second},
		// It stood still for a minute.
		{"q", 12 * time.Second, 1885 * time.Second, 1813 * time.Second},
		{"q", 62 * time.Second, 1935 * time.Second, 1813 * time.Second},
		{"q", 72 * time.Second, 1945 * time.Second, 1873 * time.Second},
	} {
		if got := k.heard("b", test.process, test.now, test.here); got != test.want {
			t.Errorf("%d: %v, want %v", i, got, test.want)
		}
	}
	k.keep(nil)
	if len(k.of) != 0 {
		t.Errorf("%v is left", k.of)
	}
}
