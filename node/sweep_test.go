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
