package node

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// gateTime is how long the refused message whose turn it is keeps later
	// ones to the same address waiting for it.
	gateTime = 10 * time.Second
	// gateRoom is how many refused messages are remembered for one address.
	gateRoom = 4 * maxInflight
	// maxGates is how many addresses are remembered for one connection.
	maxGates = 16 * maxInflight
)

var errEarlierRefused = envelope.BusyError(100, "an earlier message to this address was refused; send it again first", nil)

// gates keep the order of a sender that does not wait for one answer before it
// sends the next message: after messages to an address were refused for now,
// they must come again in the order in which they came first, and until they
// have, all others to that address are refused as well. A sender that gives one
// up is let through after gateTime. The zero gates is ready.
type gates map[envelope.Address]*gate

type gate struct {
	refused []refused // in the order of their numbers
	until   time.Time
}

type refused struct {
	number uint64 // of the message on its connection, when it came first
	id     string
}

// pass asks for leave to send a message. It returns the number under which the
// message counts: that of its first coming.
func (g *gates) pass(log envelope.Address, id string, number uint64, now time.Time) (uint64, error) {
	at := (*g)[log]
	switch {
	case at == nil:
		return number, nil
	case now.After(at.until):
		delete(*g, log)
		return number, nil
	case at.refused[0].id != id:
		return number, errEarlierRefused
	}
	number = at.refused[0].number
	at.until = now.Add(gateTime)
	if at.refused = at.refused[1:]; len(at.refused) == 0 {
		delete(*g, log)
	}
	return number, nil
}

// shut notes that a message was refused for now. It reports false when there
// is no room to remember it.
func (g *gates) shut(log envelope.Address, id string, number uint64, now time.Time) bool {
	if *g == nil {
		*g = make(gates)
	}
	at := (*g)[log]
	if at == nil {
		if len(*g) >= maxGates {
			maps.DeleteFunc(*g, func(_ envelope.Address, old *gate) bool { return now.After(old.until) })
		}
		if len(*g) >= maxGates {
			return false
		}
		at = &gate{until: now.Add(gateTime)}
		(*g)[log] = at
	}
	if len(at.refused) >= gateRoom || slices.ContainsFunc(at.refused, func(r refused) bool { return r.id == id }) {
		return true
	}
	i, _ := slices.BinarySearchFunc(at.refused, number, func(r refused, n uint64) int { return cmp.Compare(r.number, n) })
	at.refused = slices.Insert(at.refused, i, refused{number, id})
	if i == 0 {
		at.until = now.Add(gateTime)
	}
	return true
}
