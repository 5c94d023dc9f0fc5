package node

import (
	"fmt"
	"slices"
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
