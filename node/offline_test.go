package node

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A volatile message that asks is answered whether anybody was there.
func TestOffline(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		m.client("near", "a").connected(m)
		m.client("far", "b").connected(m)
		other := m.device("alice", "alice-other", "b").connected(m)
		for id, members := range map[envelope.SessionID][]*device{"alone": nil, "both": {other}} {
			if _, err := alice.CreateSession(t.Context(), id, envelope.Settings{}); err != nil {
				t.Fatal(err)
			}
			for _, d := range members {
				if _, err := d.JoinSession(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass(time.Second)
		check := func(addr envelope.Address, class envelope.Class, asks, offline bool) {
			t.Helper()
			e := to(addr, "1", "x")
			e.Class, e.Receipt = class, asks
			if class == envelope.Latest {
				e.Key = "k"
			}
			if ack := alice.send(e); ack.Offline != offline || ack.Seq != 0 {
				t.Errorf("to %s: %+v", addr, ack)
			}
		}
		for range 2 { // the way is found, and known
			check(deviceAddr("nobody"), envelope.Volatile, true, true)
			check(deviceAddr("nobody"), envelope.Latest, true, true)
			check(deviceAddr("nobody"), envelope.Volatile, false, false)
			check(deviceAddr("near"), envelope.Volatile, true, false)
			check(deviceAddr("far"), envelope.Volatile, true, false)
			check(user("alice"), envelope.Volatile, true, false)
			check(room("alone"), envelope.Volatile, true, true) // the sender gets no copy
			check(room("both"), envelope.Volatile, true, false)
		}
		if e := to(deviceAddr("nobody"), "2", "x"); true {
			e.Receipt = true
			if ack := alice.send(e); ack.Offline || ack.Seq == 0 { // it waits
				t.Errorf("a durable one: %+v", ack)
			}
		}
		other.close() // its server tells the others, who remember the way
		pass(time.Second)
		check(user("alice"), envelope.Volatile, true, true)
		check(room("both"), envelope.Volatile, true, true)
	})
}

// While nobody can say where an address is, the sender is told to try again,
// and nothing else waits.
func TestOfflineWhileTheStoreIsAway(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.raw("alice", "a")
		alice.hello("")
		alice.control("caught_up")
		m.at("a").store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "edges" {
					return errAway
				}
				return nil
			}
		})
		start := time.Now()
		alice.send(`{"id":"1","dest_id":"nobody","class":"volatile","receipt":true}`)
		alice.send(`{"id":"2","dest_id":"alice","class":"volatile"}`)
		alice.message("")
		if c := alice.control("ack"); c.ID != "2" || time.Since(start) > time.Second {
			t.Errorf("got %+v after %v", c, time.Since(start))
		}
		c := alice.control("nack")
		if took := time.Since(start); c.ID != "1" || c.Code != envelope.Busy || c.RetryMS == 0 || took < routeWithin || took > routeWithin+time.Second {
			t.Errorf("got %+v after %v", c, took)
		}
		m.at("a").store.set(func(s *faultyStore) { s.before = nil })
		alice.send(`{"id":"1","dest_id":"nobody","class":"volatile","receipt":true}`)
		if c := alice.control("ack"); c.ID != "1" || !c.Offline {
			t.Errorf("got %+v", c)
		}
	})
}
