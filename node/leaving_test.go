package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A device that has left a session and has yet to read what was said before is
// not told how far it goes.
func TestHeadsAfterLeaving(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		if _, err := alice.CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		api := m.api("bob", "bob", "a")
		if _, err := api.JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		alice.send(to(room("r"), "for-bob", "for bob"))
		left, err := api.LeaveSession(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			alice.send(to(room("r"), fmt.Sprint(i), "not for bob"))
		}
		for range 2 {
			bob := m.raw("bob", "a")
			if heads := bob.hello("").Heads; heads["session:r"] != left.Seq {
				t.Errorf("hello tells %v; bob left with %d", heads, left.Seq)
			}
			bob.message("for bob")
			if heads := bob.control("caught_up").Heads; heads["session:r"] != left.Seq {
				t.Errorf("caught_up tells %v; bob left with %d", heads, left.Seq)
			}
			bob.quiet(5 * time.Second)
		}
	})
}
