package node

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
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

// A server with a store of its own gets round to each log and each connection.
func TestSweepShares(t *testing.T) {
	var conns []*conn
	for _, first := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" { // an id is base32
		conns = append(conns, &conn{id: fmt.Sprintf("%cQ", first)})
	}
	var logs []envelope.Address
	for i := range 1000 {
		logs = append(logs, roomName(i).Address())
	}
	looked := make(map[any]int)
	s := newSweeper(nil)
	for range sweepShares {
		ofLogs, ofConns := s.nextShare(slices.Clone(logs), slices.Clone(conns))
		if n := len(ofLogs); n == 0 || n > len(logs)/4 {
			t.Errorf("%d of %d logs at once", n, len(logs))
		}
		if n := len(ofConns); n == 0 || n > len(conns)/4 {
			t.Errorf("%d of %d connections at once", n, len(conns))
		}
		for _, log := range ofLogs {
			looked[log]++
		}
		for _, c := range ofConns {
			looked[c]++
		}
	}
	for _, log := range logs {
		if looked[log] != 1 {
			t.Errorf("%v looked at %d times", log, looked[log])
		}
	}
	for _, c := range conns {
		if looked[c] != 1 {
			t.Errorf("%s looked at %d times", c.id, looked[c])
		}
	}
}

// With a store of its own a server looks at all logs and memberships when it is asked
// to, and at a share of them from time to time.
func TestSweepOfSoleServer(t *testing.T) {
	sole := func(c *Config) { c.Graph.Sole = true }
	inMeshOf(t, 1, sole, func(t *testing.T, m *mesh) {
		const devices = 64
		var bobs []*device
		for i := range devices {
			bobs = append(bobs, m.client(fmt.Sprint("bob", i), "a").connected(m))
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
		// unheard puts a message for each into the store that nobody is told of.
		unheard := func(text string) {
			for i := range devices {
				log, env := deviceAddr(fmt.Sprint("bob", i)), to(deviceAddr(fmt.Sprint("bob", i)), text, text)
				if _, err := inbox.Wait(t.Context(), func(done func(uint64, error)) { m.store.Append(log, &env, done) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		heard := func(texts ...string) (n int) {
			for _, bob := range bobs {
				if slices.Equal(bob.texts(), texts) {
					n++
				}
			}
			return n
		}
		unheard("1")
		if sweeps, n := looksIn(time.Second, a.Sweep); sweeps != 1 || n != devices {
			t.Errorf("%d sweeps that were asked for looked at %d connections, want all %d", sweeps, n, devices)
		}
		if n := heard("1"); n != devices {
			t.Errorf("%d of %d heard after a sweep that was asked for", n, devices)
		}
		unheard("2")
		before := a.stats.Sweeps.Load()
		for a.stats.Sweeps.Load() < before+sweepShares/2 {
			pass(time.Second)
		}
		pass(time.Second)
		if n := heard("1", "2"); n == 0 || n == devices {
			t.Errorf("%d of %d heard after half of the sweeps", n, devices)
		}
		if sweeps, n := looksIn(20*time.Minute, func() {}); n >= sweeps*devices/2 || n < devices {
			t.Errorf("%d sweeps looked at %d connections", sweeps, n)
		}
		if n := heard("1", "2"); n != devices {
			t.Errorf("%d of %d heard in the end", n, devices)
		}
	})
}
