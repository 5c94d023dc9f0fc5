package node

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Whoever owns a session may ban anybody from it, as often as it likes. The
// connection of who is banned looks for what has changed, but not once for each.
func TestManyChangesOneLook(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.api("alice", "alice", "a")
		m.device("bob", "bob", "b").connected(m)
		if _, err := alice.CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var looks atomic.Int64
		m.at("b").store.set(func(s *faultyStore) {
			s.memberships = func(envelope.NodeID) error {
				looks.Add(1)
				time.Sleep(100 * time.Millisecond)
				return nil
			}
		})
		for range 100 {
			if _, err := alice.Ban(t.Context(), "r", "bob"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		if n := looks.Load(); n < 1 || n > 3 {
			t.Errorf("looked %d times", n)
		}
	})
}
