package node

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// A connection believes its device to be in a session, and the entry that would
// tell it otherwise is trimmed before it is read: what comes behind that is not
// for it.
func TestLeaveThatWasTrimmed(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.listens("bob", "b")
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`) // 1
		m.must("bob", "/v1/sessions/r/join", "")              // 2
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"for bob"}`)
		if got := bob.take(); !strings.Contains(got, "for bob") {
			t.Fatalf("got %s", got)
		}
		away := func(ops ...string) {
			m.at("b").store.set(func(s *faultyStore) {
				s.before = func(op string) error {
					for _, o := range ops {
						if o == op {
							return errAway
						}
					}
					return nil
				}
			})
		}
		m.cut("a", "b")
		away("read", "memberships")
		m.must("bob", "/v1/sessions/r/leave", "") // 4
		m.must("alice", "/v1/messages", `{"id":"2","dest_session_id":"r","payload":"secret"}`)
		m.must("bob", "/v1/sessions/r/join", "") // 6
		m.must("alice", "/v1/messages", `{"id":"3","dest_session_id":"r","payload":"for bob again"}`)
		pass(2 * time.Second)
		if err := m.store.Trim(t.Context(), room("r"), 5, time.Now()); err != nil {
			t.Fatal(err)
		}
		away("memberships") // or it would learn it there
		m.heal("a", "b")
		m.at("b").sweeps.request()
		pass(10 * time.Second)
		if got := bob.take(); strings.Contains(got, "secret") || !strings.Contains(got, "for bob again") || !strings.Contains(got, `"floor":5`) {
			t.Errorf("got %s", got)
		}
	})
}

// A device connects from now on while it leaves: its leaving entry lies before
// that now, and what comes after is not for it.
func TestLeaveThatWasPassedOver(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		var once sync.Once
		m.at("b").store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "heads" { // the memberships have been read
					once.Do(func() {
						m.must("bob", "/v1/sessions/r/leave", "")
						m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"secret"}`)
						m.at("b").store.set(func(s *faultyStore) {
							s.delay = func(op string) time.Duration { return map[string]time.Duration{"memberships": time.Second}[op] }
						})
					})
				}
				return nil
			}
		})
		bob := m.raw("bob", "b")
		bob.send(`{"control":"hello","resume":false}`)
		pass(500 * time.Millisecond)
		m.must("alice", "/v1/messages", `{"id":"2","dest_session_id":"r","payload":"secret"}`)
		for _, name := range []string{"hello", "caught_up"} {
			bob.control(name)
		}
		bob.quiet(10 * time.Second)
	})
}
