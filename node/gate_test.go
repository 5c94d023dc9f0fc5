package node

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func TestGates(t *testing.T) {
	var g gates
	log, other := envelope.NodeID("bob").Address(), envelope.NodeID("eve").Address()
	now := time.Unix(0, 0)
	pass := func(log envelope.Address, id string, number, want uint64) {
		t.Helper()
		if got, err := g.pass(log, id, number, now); err != nil || got != want {
			t.Errorf("%s: number %d, %v; want %d", id, got, err, want)
		}
	}
	refuse := func(id string, number uint64) {
		t.Helper()
		_, err := g.pass(log, id, number, now)
		if envelope.CodeOf(err) != envelope.Busy {
			t.Errorf("%s passed", id)
		}
		g.shut(log, id, number, now)
	}
	pass(log, "1", 1, 1)
	pass(log, "2", 2, 2)
	pass(log, "3", 3, 3)
	// The answers may come in any order.
	g.shut(log, "2", 2, now)
	g.shut(log, "1", 1, now)
	g.shut(log, "3", 3, now)
	pass(other, "x", 4, 4)
	refuse("4", 5)
	refuse("3", 6)
	pass(log, "1", 7, 1)
	refuse("5", 8)
	pass(log, "2", 9, 2)
	g.shut(log, "1", 1, now) // refused again, so its turn is before all others
	g.shut(log, "2", 2, now)
	refuse("3", 10)
	pass(log, "1", 11, 1)
	pass(log, "2", 12, 2)
	pass(log, "3", 13, 3)
	pass(log, "4", 14, 5)
	pass(log, "5", 15, 8)
	pass(log, "6", 16, 16)

	g.shut(log, "6", 16, now)
	refuse("7", 17)
	now = now.Add(gateTime + 1)
	pass(log, "7", 18, 18) // 6 was given up
	if len(g) != 0 {
		t.Errorf("left behind: %v", g)
	}
}
