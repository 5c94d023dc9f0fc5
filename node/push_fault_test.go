package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// Whenever the server dies that takes a message, it is pushed once.
func TestPushCrash(t *testing.T) {
	for _, test := range []struct {
		name   string
		before time.Duration // from the acknowledgement to the crash
	}{
		{"at once", 0},
		{"before it is due", 3 * time.Second},
		{"after", 8 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inPushMesh(t, 3, func(t *testing.T, m *mesh, s *service) {
				m.registers("bob", "phone", "a")
				alice := m.client("alice", "b").connected(m)
				alice.send(to(deviceAddr("phone"), "1", "hi"))
				pass(test.before)
				m.kill("b")
				pass(2 * time.Minute)
				if got := s.take(); len(got) != 1 {
					t.Errorf("%d pushes, want one", len(got))
				}
			})
		})
	}
	t.Run("before the append", func(t *testing.T) {
		inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
			m.registers("bob", "phone", "a")
			alice := m.client("alice", "a").connected(m)
			m.at("a").store.set(func(s *faultyStore) {
				s.append = func(envelope.Address, string) error { return errAway }
			})
			if _, err := m.api("alice", "alice-other", "a").SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err == nil {
				t.Fatal("the message was taken")
			}
			pass(time.Minute)
			if got := s.take(); len(got) != 0 {
				t.Errorf("a push of nothing: %+v", got)
			}
			m.at("a").store.set(func(s *faultyStore) { s.append = nil })
			alice.send(to(deviceAddr("phone"), "1", "hi"))
			pass(time.Minute)
			if got := s.take(); len(got) != 1 {
				t.Errorf("%d pushes, want one", len(got))
			}
		})
	})
	t.Run("while it is told", func(t *testing.T) { // then another server does, once the lease is over
		inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
			m.registers("bob", "phone", "a")
			if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
				t.Fatal(err)
			}
			dead := errors.New("the server died")
			for _, id := range m.ids() {
				m.at(id).store.set(func(s *faultyStore) {
					s.before = func(op string) error {
						if op == "cursors" {
							return dead
						}
						return nil
					}
				})
			}
			pass(20 * time.Second)
			var failed uint64
			for _, id := range m.ids() {
				failed += m.at(id).PushStats().Errors.Load()
				m.at(id).store.set(func(s *faultyStore) { s.before = nil })
			}
			if failed == 0 || len(s.take()) != 0 {
				t.Fatalf("%d jobs failed", failed)
			}
			pass(5 * time.Minute)
			if got := s.take(); len(got) != 1 {
				t.Errorf("%d pushes, want one", len(got))
			}
		})
	})
}

// A token that the service says is dead is dropped, unless it was registered again.
func TestPushGone(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		api := m.api("alice", "alice", "a")
		for _, again := range []bool{false, true} {
			m.registers("bob", "phone", "a")
			s.set(func(push.Token) error {
				if again {
					time.Sleep(time.Millisecond)
					tok := push.Token{
						Service: push.FCM, Value: tokenOf("phone"), Node: "phone", Client: "bob", Registered: time.Now().UnixMilli(),
					}
					if err := m.store.PutToken(t.Context(), tok); err != nil {
						t.Error(err)
					}
				}
				return &push.Failure{Reason: "UNREGISTERED", Gone: true}
			})
			if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), fmt.Sprint(again), "hi")); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
			tokens, err := m.store.TokensOf(t.Context(), []envelope.NodeID{"phone"})
			if err != nil || (len(tokens) == 1) != again {
				t.Errorf("registered again %v: %v, %v", again, tokens, err)
			}
		}
		s.set(nil)
		if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), "2", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := s.take(); len(got) != 1 {
			t.Errorf("%d pushes, want one", len(got))
		}
	})
}

// What a service does not take is tried again when it says, and given up in the
// end; the next message is tried anew.
func TestPushRetry(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		api := m.api("alice", "alice", "a")
		m.registers("bob", "phone", "a")
		s.set(func(push.Token) error { return &push.Failure{Reason: "QUOTA", Retry: true, After: 3 * time.Minute} })
		start := time.Now()
		if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		for i := range 24 { // what comes meanwhile does not make it sooner
			pass(5 * time.Second)
			if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), fmt.Sprint("more", i), "hi")); err != nil {
				t.Fatal(err)
			}
		}
		s.set(nil)
		pass(2 * time.Minute)
		if got, tries := s.take(), s.tries(); len(got) != 1 || got[0].at.Sub(start) < 3*time.Minute || tries != 2 {
			t.Fatalf("%d tries, %+v", tries, got)
		}
		s.set(func(push.Token) error { return &push.Failure{Reason: "BUSY", Retry: true} })
		if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), "2", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(45 * time.Minute)
		failed, err := m.store.FailedJobs(t.Context(), "", 10)
		if err != nil || len(failed) != 1 {
			t.Fatalf("%+v, %v", failed, err)
		}
		f, tries := failed[0].Failed, s.tries()
		if tries != 10 || f.Attempts != 10 || f.Reason != "BUSY" || f.Seq != 26 || f.Log != deviceAddr("phone") {
			t.Errorf("%d tries, %+v", tries, f)
		}
		s.set(nil)
		if _, err := api.SendHTTP(t.Context(), to(deviceAddr("phone"), "3", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := s.take(); len(got) != 1 {
			t.Errorf("%d pushes, want one", len(got))
		}
		if failed, err = m.store.FailedJobs(t.Context(), "", 10); err != nil || len(failed) != 0 {
			t.Errorf("%+v, %v", failed, err)
		}
	})
}

// Three servers share the work: each device is woken once, whoever is told of what.
func TestPushServers(t *testing.T) {
	inPushMesh(t, 3, func(t *testing.T, m *mesh, s *service) {
		const devices = 30
		for i := range devices {
			id := fmt.Sprint("phone", i)
			m.registers(id, id, m.ids()[i%3])
		}
		for _, at := range m.ids() {
			api := m.api("alice", "alice-"+at, at)
			for i := range devices {
				if _, err := api.SendHTTP(t.Context(), to(deviceAddr(fmt.Sprint("phone", i)), fmt.Sprint(at, i), "x")); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass(time.Minute)
		of := make(map[envelope.NodeID]int)
		for _, p := range s.take() {
			of[p.to.Node]++
		}
		for i := range devices {
			if n := of[envelope.NodeID(fmt.Sprint("phone", i))]; n != 1 {
				t.Errorf("device %d was woken %d times", i, n)
			}
		}
		var sent uint64
		for _, id := range m.ids() {
			sent += m.at(id).PushStats().Sent.Load()
		}
		if sent != devices {
			t.Errorf("%d sent", sent)
		}
	})
}

// Who is connected and does not acknowledge is woken: its connection may be dead.
func TestPushUnacknowledged(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		for _, at := range m.ids() {
			id := "phone-" + at
			m.registers("bob", id, "a")
			bob := m.rawDevice("bob", id, at)
			bob.hello("")
			bob.control("caught_up")
			pass(time.Second)
			if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(deviceAddr(id), at, "hi")); err != nil {
				t.Fatal(err)
			}
			pass(4 * time.Second)
			if got := s.take(); len(got) != 0 {
				t.Errorf("at %s: woken at once", at)
			}
			pass(6 * time.Second)
			if got := s.take(); len(got) != 1 || string(got[0].to.Node) != id {
				t.Errorf("at %s: woken: %+v", at, got)
			}
		}
	})
}

// A message that the store takes long to store is not missed.
func TestPushSlowAppend(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		m.registers("bob", "phone", "a")
		m.at("a").store.set(func(f *faultyStore) {
			f.take = func(log envelope.Address, id string, done func(uint64, error)) bool {
				env := to(log, id, "hi")
				env.SrcNode, env.SrcClient, env.Timestamp = "alice", "alice", time.Now().UnixMilli()
				time.AfterFunc(10*time.Second, func() { m.store.Append(log, &env, done) })
				return true
			}
		})
		if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := s.take(); len(got) != 1 {
			t.Errorf("%d pushes, want one", len(got))
		}
	})
}

// A server that dies takes nothing with it of what it was to look at: whom the
// message was for had a connection, which died with the server or before.
func TestPushConnectionDiesWithServer(t *testing.T) {
	for _, at := range []string{"a", "b"} {
		t.Run("connected at "+at, func(t *testing.T) {
			inPushMesh(t, 3, func(t *testing.T, m *mesh, s *service) {
				m.registers("bob", "phone", "c")
				bob := m.rawDevice("bob", "phone", at)
				bob.hello("")
				bob.control("caught_up")
				pass(time.Second)
				if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
					t.Fatal(err)
				}
				pass(time.Second)
				m.kill("a")
				pass(2 * time.Minute)
				if got := s.take(); len(got) != 1 {
					t.Errorf("%d pushes, want one", len(got))
				}
			})
		})
	}
}

// A server that is told to end leaves to the others what it was to look at.
func TestPushServerEnds(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		m.registers("bob", "phone", "b")
		bob := m.rawDevice("bob", "phone", "b")
		bob.hello("")
		bob.control("caught_up")
		pass(time.Second)
		if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		m.at("a").end()
		delete(m.servers, "a")
		pass(2 * time.Minute)
		if got := s.take(); len(got) != 1 {
			t.Errorf("%d pushes, want one", len(got))
		}
	})
}
