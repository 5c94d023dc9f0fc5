package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// signalled is a volatile message to bob, as one server hands it to another.
func signalled(id, text string) *envelope.Envelope {
	e := to(deviceAddr("bob"), id, text)
	e.SrcNode, e.SrcClient, e.Class, e.Timestamp = "alice", "alice", envelope.Volatile, time.Now().UnixMilli()
	return &e
}

// What a round of input says to another server leaves in one frame, when the
// round is over.
func TestLinkWaitsForTheRound(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		const records = 100
		a, bob := m.at("a"), m.client("bob", "b").connected(m)
		pass(time.Second)
		frames, sent := a.Stats().PeerFrames.Load(), a.Stats().PeerRecords.Load()
		a.Hold()
		for i := range records {
			a.peers.deliver([]envelope.ServerID{"b"}, deviceAddr("bob"), signalled("", fmt.Sprint(i)))
		}
		synctest.Wait()
		if n := a.Stats().PeerRecords.Load() - sent; n != 0 {
			t.Errorf("%d records were written within the round", n)
		}
		a.Release()
		synctest.Wait()
		if n := a.Stats().PeerFrames.Load() - frames; n != 1 {
			t.Errorf("%d frames, want 1", n)
		}
		if n := a.Stats().PeerRecords.Load() - sent; n != records {
			t.Errorf("%d records, want %d", n, records)
		}
		if got := bob.texts(); !slices.Equal(got, numbers(0, records)) {
			t.Errorf("bob got %d: %q", len(got), got)
		}
	})
}

// idleLink is a link to a server that nobody writes to.
func idleLink(n *Node, to envelope.ServerID) *link {
	l := &link{peer: to, flusher: &n.flusher, wakeup: make(chan struct{}, 1)}
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	n.peers.links[to] = l
	return l
}

// rewind forgets what is queued, as if it had been written.
func (l *link) rewind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.ends, l.waking = l.queue[:0], l.ends[:0], false
	select {
	case <-l.wakeup:
	default:
	}
}

// What a message costs in allocations on its way to other servers, and on its
// way from there to its readers, is pinned: none to hand it over, however many
// the servers are; and for what is kept of its names, its address, its envelope
// and for the frame that its readers get, however many they are.
func TestPeerAllocations(t *testing.T) {
	if underRace {
		t.Skip("memory that is used again is forgotten at random under the race detector")
	}
	m := newMesh(t, 1, nil, false)
	defer m.close()
	a := m.at("a")

	var servers []envelope.ServerID
	var links []*link
	for i := range 3 {
		servers = append(servers, envelope.ServerID(fmt.Sprint("peer", i)))
		links = append(links, idleLink(a.Node, servers[i]))
	}
	env := signalled("1", "a text of some length, as people type it when they are not in a hurry")
	for n := 1; n <= len(servers); n += 2 {
		if got := fewest(func() {
			a.peers.deliver(servers[:n], env.Dest(), env)
			for _, l := range links {
				l.rewind()
			}
		}); got > 0 {
			t.Errorf("to %d servers: %v allocations", n, got)
		}
	}

	frame := appendRecord(nil, recordDeliver, appendDelivery(nil, deviceAddr("bob"), env))
	reader := a.serveLooped(t, "bob", "bob")
	before := reader.got.Load()
	if got := fewest(func() {
		a.Hold()
		defer a.Release()
		if err := a.peers.receive(links[0], frame); err != nil {
			t.Error(err)
		}
	}); got > 4 {
		t.Errorf("from a server: %v allocations, want at most 4", got)
	}
	if reader.got.Load() == before {
		t.Error("nothing came")
	}
	for i, l := range links { // nobody would answer the goodbye
		l.close()
		a.peers.mu.Lock()
		delete(a.peers.links, servers[i])
		a.peers.mu.Unlock()
	}
}

// fewest returns how many allocations f makes when nothing else is done at the
// same time.
func fewest(f func()) float64 {
	const runs, tries = 100, 20
	least := testing.AllocsPerRun(runs, f)
	for range tries - 1 {
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}
