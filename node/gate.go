package node

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// gateTime is how long an address waits for a refused message to come again
	// before its sender is taken to have given it up.
	gateTime = 10 * time.Second
	// gateRoom is how many refused messages are remembered for one address.
	gateRoom = 4 * maxInflight
	// maxRefused is how many are remembered for one connection: with the longest
	// ids, each to another address, some 6 MB.
	maxRefused = 16 * maxInflight
)

var errEarlierRefused = envelope.BusyError(100, "an earlier message to this address was refused; send it again first", nil)

// gates keep the order of a sender that does not wait for one answer before it
// sends the next. Once messages to an address were refused for the time being,
// they must come again in the order in which they came first, and until they
// have, all others to that address are refused as well. A sender that gives one
// up is let through after gateTime. The zero gates is ready.
type gates struct {
	of      map[envelope.Address]*gate
	refused int  // messages remembered, of all addresses
	full    bool // one more had no room: nothing passes any more, or it might be overtaken
}

type gate struct {
	refused []refused // in the order of their numbers
	until   time.Time // when it opens by itself
}

type refused struct {
	number uint64
	id     string
}

// pass asks for leave to send a message. It returns the number under which the
// message counts: that of its first coming.
func (g *gates) pass(log envelope.Address, id string, number uint64, now time.Time) (uint64, error) {
	at := g.of[log]
	switch {
	case g.full:
		return number, errEarlierRefused
	case at == nil:
		return number, nil
	case now.After(at.until):
		g.forget(log, at)
		return number, nil
	case at.refused[0].id != id:
		return number, errEarlierRefused
	}
	number = at.refused[0].number
	at.until = now.Add(gateTime)
	g.refused--
	at.refused = slices.Delete(at.refused, 0, 1)
	switch left := len(at.refused); {
	case left == 0:
		delete(g.of, log)
	case left <= cap(at.refused)/4: // or one that is left would keep memory for gateRoom
		at.refused = slices.Clone(at.refused)
	}
	return number, nil
}

// holds reports whether a message that has leave is held back after all: since it was
// given, one that came before it was refused.
func (g *gates) holds(log envelope.Address, number uint64) bool {
	at := g.of[log]
	return g.full || at != nil && at.refused[0].number < number
}

// shut notes that a message was refused for now. It reports false when there
// is no room to remember it; then the connection must end.
func (g *gates) shut(log envelope.Address, id string, number uint64, now time.Time) bool {
	at := g.of[log]
	switch {
	case g.full:
		return false
	case at != nil && (len(at.refused) >= gateRoom || slices.ContainsFunc(at.refused, func(r refused) bool { return r.id == id })):
		return true
	case g.refused >= maxRefused:
		for other, old := range g.of {
			if old != at && now.After(old.until) {
				g.forget(other, old)
			}
		}
		if g.refused > maxRefused/2 { // looking through all of them for each that was given up would cost too much
			*g = gates{full: true}
			return false
		}
	}
	if g.of == nil {
		g.of = make(map[envelope.Address]*gate)
	}
	if at == nil {
		at = &gate{until: now.Add(gateTime)}
		g.of[log.Clone()] = at // what is kept is not to keep the frame that it came in
	}
	i, _ := slices.BinarySearchFunc(at.refused, number, func(r refused, n uint64) int { return cmp.Compare(r.number, n) })
	at.refused = slices.Insert(at.refused, i, refused{number, strings.Clone(id)})
	g.refused++
	if i == 0 {
		at.until = now.Add(gateTime)
	}
	return true
}

// forget lets those be given up that were refused for an address.
func (g *gates) forget(log envelope.Address, at *gate) {
	g.refused -= len(at.refused)
	delete(g.of, log)
}
