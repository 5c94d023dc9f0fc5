package node

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

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
	if len(g.of) != 0 || g.refused != 0 {
		t.Errorf("left behind: %v", g)
	}
}

// What one connection makes a server remember of refusals is bounded, whether they
// are of many addresses or of few. What was given up gives its room back.
func TestGatesBounded(t *testing.T) {
	for _, addresses := range []int{maxRefused, maxRefused / gateRoom} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			log := func(i int) envelope.Address { return deviceAddr(fmt.Sprint(i % addresses)) }
			var g gates
			now := time.Unix(0, 0)
			fill := func() {
				t.Helper()
				for i := range maxRefused {
					if !g.shut(log(i), fmt.Sprint(i), uint64(i), now) {
						t.Fatalf("no room for message %d", i)
					}
				}
			}
			fill()
			if !g.shut(log(1), "1", 1, now) {
				t.Error("no room for what is remembered already")
			}
			now = now.Add(gateTime + 1)
			if !g.shut(deviceAddr("more"), "more", maxRefused, now) || g.refused != 1 || len(g.of) != 1 {
				t.Errorf("%d messages to %d addresses are remembered after all others were given up", g.refused, len(g.of))
			}
			g = gates{}
			fill()
			for i := range addresses {
				if _, err := g.pass(log(i), fmt.Sprint(i), maxRefused, now); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				if !g.shut(log(i), fmt.Sprint(i), uint64(i), now) {
					t.Fatalf("no room for message %d, which came again", i)
				}
			}
			if g.shut(deviceAddr("more"), "more", maxRefused, now) {
				t.Error("there is no end of room")
			}
			if g.of != nil {
				t.Errorf("%d addresses are remembered although the connection must end", len(g.of))
			}
			for _, id := range []string{"more", "new"} { // what was not remembered is not to be overtaken
				if _, err := g.pass(deviceAddr("more"), id, maxRefused+1, now); envelope.CodeOf(err) != envelope.Busy {
					t.Errorf("%s passed: %v", id, err)
				}
			}
		})
	}
}

// Those that have come again leave no room behind that nobody counts.
func TestGatesGiveMemoryBack(t *testing.T) {
	var g gates
	log, now := deviceAddr("bob"), time.Unix(0, 0)
	for i := range gateRoom {
		g.shut(log, fmt.Sprint(i), uint64(i), now)
	}
	for i := range gateRoom - 1 {
		if number, err := g.pass(log, fmt.Sprint(i), gateRoom, now); err != nil || number != uint64(i) {
			t.Fatalf("message %d counts as %d, %v", i, number, err)
		}
	}
	if room := cap(g.of[log].refused); room > 4 {
		t.Errorf("one message has the room of %d", room)
	}
}

// What is remembered of a refused message does not keep the frame it came in.
func TestGatesKeepNoFrame(t *testing.T) {
	frame := strings.Repeat("x", 512)
	id, log := frame[:10], deviceAddr(frame[10:20])
	var g gates
	g.shut(log, id, 1, time.Unix(0, 0))
	for kept, at := range g.of {
		if unsafe.StringData(kept.ID) == unsafe.StringData(log.ID) || unsafe.StringData(at.refused[0].id) == unsafe.StringData(id) {
			t.Error("it is the frame's memory")
		}
	}
}
