package node

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A connection whose sessions cannot be looked up keeps no other one from what
// it missed.
func TestSweepPastAFailingConnection(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		m.client("eve", "b").connected(m)
		pass(time.Second)
		m.at("b").store.set(func(f *faultyStore) {
			f.memberships = func(node envelope.NodeID) error {
				if node == "eve" {
					return errAway
				}
				return nil
			}
		})
		m.cut("a", "b")
		for i := range 5 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		pass(10 * time.Second)
		m.heal("a", "b")
		m.linked()
		m.within(10*time.Second, "all arrived", func() bool { return slices.Equal(bob.texts(), numbers(0, 5)) })
	})
}

// A server with a store of its own gets round to each connection.
func TestSweepShares(t *testing.T) {
	var all []*conn
	for _, first := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" { // an id is base32
		all = append(all, &conn{id: fmt.Sprintf("%cQ", first)})
	}
	looked := make(map[string]int)
	s := newSweeper(nil)
	for range sweepShares {
		share := s.nextShare(append([]*conn(nil), all...))
		if len(share) == 0 || len(share) > len(all)/4 {
			t.Errorf("%d of %d at once", len(share), len(all))
		}
		for _, c := range share {
			looked[c.id]++
		}
	}
	for _, c := range all {
		if looked[c.id] != 1 {
			t.Errorf("%s looked at %d times", c.id, looked[c.id])
		}
	}
}

// With a store of its own a server looks at all memberships when it is asked to, and
// at a share of them from time to time.
func TestSweepOfSoleServer(t *testing.T) {
	sole := func(c *Config) { c.Graph.Sole = true }
	inMeshOf(t, 1, sole, func(t *testing.T, m *mesh) {
		const devices = 64
		for i := range devices {
			m.client(fmt.Sprint("bob", i), "a").connected(m)
		}
		a := m.at("a")
		var looks atomic.Int64
		a.store.set(func(f *faultyStore) {
			f.memberships = func(envelope.NodeID) error { looks.Add(1); return nil }
		})
		looksIn := func(d time.Duration, begin func()) (sweeps, n int64) {
			before, at := a.stats.Sweeps.Load(), looks.Load()
			begin()
			pass(d)
			return int64(a.stats.Sweeps.Load() - before), looks.Load() - at
		}
		if sweeps, n := looksIn(time.Second, a.sweeps.request); sweeps != 1 || n != devices {
			t.Errorf("%d sweeps that were asked for looked at %d connections, want all %d", sweeps, n, devices)
		}
		if sweeps, n := looksIn(20*time.Minute, func() {}); n >= sweeps*devices/2 || n < devices {
			t.Errorf("%d sweeps looked at %d connections", sweeps, n)
		}
	})
}
