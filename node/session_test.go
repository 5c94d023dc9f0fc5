package node

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

func TestSessionCalls(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, bob, eve := m.api("alice", "alice", "a"), m.api("bob", "bob", "b"), m.api("eve", "eve", "b")
		ctx := t.Context()
		code := func(what string, err error, want envelope.Code) {
			t.Helper()
			if got := envelope.CodeOf(err); got != want {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		first, err := alice.CreateSession(ctx, "open", envelope.Settings{})
		code("create", err, "")
		again, err := alice.CreateSession(ctx, "open", envelope.Settings{})
		code("create again", err, "")
		if first.ID != again.ID || first.CreatedMS != again.CreatedMS || again.Owner != "alice" {
			t.Errorf("created %+v, then %+v", first, again)
		}
		_, err = alice.CreateSession(ctx, "open", envelope.Settings{AnyoneCanJoin: new(false)})
		code("create with another rule", err, envelope.Conflict)
		_, err = bob.CreateSession(ctx, "open", envelope.Settings{})
		code("create another's", err, envelope.Conflict)
		made, err := alice.CreateSession(ctx, "", envelope.Settings{})
		if err != nil || !envelope.ValidID(string(made.ID)) {
			t.Errorf("made %+v, %v", made, err)
		}
		_, err = alice.CreateSession(ctx, "closed", envelope.Settings{AnyoneCanJoin: new(false)})
		code("create closed", err, "")
		_, err = alice.CreateSession(ctx, "not an id", envelope.Settings{AnyoneCanJoin: new(false)})
		code("create with a bad id", err, envelope.BadRequest)

		one, err := bob.JoinSession(ctx, "open")
		code("join", err, "")
		two, err := bob.JoinSession(ctx, "open")
		if err != nil || one.Seq != two.Seq || one.Seq != 2 {
			t.Errorf("joined at %d, then at %d, %v", one.Seq, two.Seq, err)
		}
		s, err := bob.Session(ctx, "open")
		if err != nil || len(s.Members) != 2 {
			t.Errorf("members %+v, %v", s.Members, err)
		}
		left, err := bob.LeaveSession(ctx, "open")
		code("leave", err, "")
		twice, err := bob.LeaveSession(ctx, "open")
		if err != nil || twice.Seq != left.Seq || left.Seq != 3 {
			t.Errorf("left at %d, then at %d, %v", left.Seq, twice.Seq, err)
		}
		back, err := bob.JoinSession(ctx, "open")
		if err != nil || back.Seq != 4 {
			t.Errorf("rejoined at %d, %v", back.Seq, err)
		}
		code("owner leaves", second(alice.LeaveSession(ctx, "closed")), "")
		code("owner rejoins", second(alice.JoinSession(ctx, "closed")), "")

		// For someone outside, a closed session and none look the same.
		for _, call := range []struct {
			name string
			do   func(id envelope.SessionID) error
		}{
			{"join", func(id envelope.SessionID) error {
				if id == "open" {
					return envelope.Errorf(envelope.NotFound, "no such session, or not yours to see") // may be joined
				}
				return second(eve.JoinSession(ctx, id))
			}},
			{"leave", func(id envelope.SessionID) error { return second(eve.LeaveSession(ctx, id)) }},
			{"members", func(id envelope.SessionID) error { return second(eve.Session(ctx, id)) }},
			{"send", func(id envelope.SessionID) error { return second(eve.SendHTTP(ctx, to(id.Address(), "x", "x"))) }},
			{"send to a member", func(id envelope.SessionID) error {
				e := to(id.Address(), "y", "y")
				e.DestNode = "alice"
				return second(eve.SendHTTP(ctx, e))
			}},
		} {
			want := call.do("none")
			code(call.name, want, envelope.NotFound)
			for _, id := range []envelope.SessionID{"open", "closed"} {
				if got := call.do(id); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s %s: %v; for no session: %v", call.name, id, got, want)
				}
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// payloads returns the texts of a session's messages, without joins and leaves.
func (d *device) payloads() []string {
	var all []string
	for _, m := range d.messages() {
		if !m.HasType {
			all = append(all, text(m.Envelope))
		}
	}
	return all
}

// Who comes back sees nothing of what was said in between, whatever cursors it
// claims; what was said before it left still arrives.
func TestBetweenLeaveAndRejoin(t *testing.T) {
	for _, claimed := range []map[envelope.Address]uint64{nil, {room("r"): 0}, {room("r"): 4}, {room("r"): 1 << 40}} {
		inMesh(t, 2, func(t *testing.T, m *mesh) {
			alice := m.client("alice", "a").connected(m)
			bob := m.api("bob", "bob", "b")
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			do(second(alice.CreateSession(t.Context(), "r", envelope.Settings{}))) // 1
			do(second(bob.JoinSession(t.Context(), "r")))                          // 2
			alice.send(to(room("r"), "1", "before"))                               // 3
			do(second(bob.LeaveSession(t.Context(), "r")))                         // 4
			alice.send(to(room("r"), "2", "secret"))                               // 5
			alice.send(to(room("r"), "3", "secret"))                               // 6
			do(second(bob.JoinSession(t.Context(), "r")))                          // 7
			alice.send(to(room("r"), "4", "after"))                                // 8
			d := m.deviceWith("bob", "bob", client.Options{Cursors: claimed}, "b") // sees 2–4 and 7–
			pass(3 * time.Second)
			do(second(bob.LeaveSession(t.Context(), "r")))
			alice.send(to(room("r"), "5", "secret"))
			pass(3 * time.Second)
			want := []string{"before", "after"}
			if claimed[room("r")] == 4 {
				want = want[1:]
			}
			if got := d.payloads(); !slices.Equal(got, want) {
				t.Errorf("cursors %v: got %q, want %q", claimed, got, want)
			}
			if n := len(m.at("b").conns.logs()); n != 2 {
				t.Errorf("cursors %v: %d logs are still followed", claimed, n)
			}
		})
	}
}

// What a member had not fetched when it left arrives when it connects, and
// the session is forgotten then.
func TestLeftWhileAway(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.api("bob", "bob", "a")
		_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
		_, _ = bob.JoinSession(t.Context(), "r")
		alice.send(to(room("r"), "1", "before"))
		_, _ = bob.LeaveSession(t.Context(), "r")
		alice.send(to(room("r"), "2", "secret"))
		_, _ = alice.CreateSession(t.Context(), "quiet", envelope.Settings{})
		_, _ = bob.JoinSession(t.Context(), "quiet")
		_, _ = bob.LeaveSession(t.Context(), "quiet")
		d := m.client("bob", "a")
		pass(3 * time.Second)
		if got := delivered(m, "bob", room("quiet")); got != 3 {
			t.Errorf("the cursor of a session without messages is at %d", got)
		}
		if got := d.payloads(); !slices.Equal(got, []string{"before"}) {
			t.Errorf("got %q", got)
		}
		d.close()
		if got := delivered(m, "bob", room("r")); got < 4 {
			t.Errorf("the cursor is at %d", got)
		}
		d = m.client("bob", "a")
		pass(3 * time.Second)
		if got := d.payloads(); len(got) != 0 {
			t.Errorf("again: %q", got)
		}
	})
}

// A membership that was read before a leave, and is noted after it, does not
// let the device in again.
func TestLeaveDuringRefollow(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "a").connected(m)
		_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
		_, _ = bob.JoinSession(t.Context(), "r")
		pass(time.Second)
		hold, held := make(chan struct{}), false
		m.at("a").store.set(func(f *faultyStore) {
			f.after = func(op string) error {
				f.mu.Lock()
				first := op == "member" && !held
				held = held || first
				f.mu.Unlock()
				if first {
					<-hold
				}
				return nil
			}
		})
		m.at("a").refresh("bob", "r")
		synctest.Wait()
		m.at("a").store.set(func(*faultyStore) {
			if !held {
				t.Error("nobody reads the membership")
			}
		})
		if _, err := bob.LeaveSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		close(hold)
		synctest.Wait()
		alice.send(to(room("r"), "1", "secret"))
		pass(time.Second)
		if got := bob.payloads(); len(got) != 0 {
			t.Errorf("got %q", got)
		}
	})
}

// A sweep that finds a new session for a connection that ends meanwhile leaves
// nothing behind.
func TestSweepDuringDisconnect(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		a := m.at("a")
		alice := m.client("alice", "a").connected(m)
		bob := m.raw("bob", "a")
		bob.hello("")
		bob.control("caught_up")
		_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
		pass(time.Second)
		elsewhere := session.New(m.store, a.appendNotice, nil) // tells nobody
		if _, err := elsewhere.Join(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, "r", session.As{}); err != nil {
			t.Fatal(err)
		}
		hold := make(chan struct{})
		a.store.set(func(f *faultyStore) {
			f.after = func(op string) error {
				if op == "heads" {
					<-hold
				}
				return nil
			}
		})
		a.sweeps.request()
		pass(sweepSpacing)
		_ = bob.ws.CloseNow()
		synctest.Wait()
		close(hold)
		pass(time.Second)
		if got := a.conns.eachFollower(room("r"), func(*follow) {}); got != 1 {
			t.Errorf("%d connections follow the session, want alice's", got)
		}
	})
}

// A member writes as soon as its join is acknowledged, wherever it joined, even
// if it had tried before.
func TestWriteRightAfterJoin(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		_, _ = m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{})
		bob := m.client("bob", "b").connected(m)
		if _, err := bob.Send(t.Context(), to(room("r"), "1", "x")); envelope.CodeOf(err) != envelope.NotFound {
			t.Fatalf("got %v", err)
		}
		if _, err := m.api("bob", "bob", "a").JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		bob.send(to(room("r"), "2", "x"))
	})
}

// A membership change that broke off at any step is completed by whoever looks
// next, with one entry in the log.
func TestInterruptedMembership(t *testing.T) {
	for _, leave := range []bool{false, true} {
		for step, fault := range map[string]func(f *faultyStore){
			"intent not written":        func(f *faultyStore) { f.before = failNth("put member", 1) },
			"intent's answer lost":      func(f *faultyStore) { f.after = failNth("put member", 1) },
			"entry refused":             func(f *faultyStore) { f.append = func(envelope.Address, string) error { return errAway } },
			"outcome not written":       func(f *faultyStore) { f.before = failNth("put member", 2) },
			"outcome's answer lost":     func(f *faultyStore) { f.after = failNth("put member", 2) },
			"membership cannot be read": func(f *faultyStore) { f.before = failNth("member", 1) },
		} {
			t.Run(fmt.Sprintf("leave %v, %s", leave, step), func(t *testing.T) {
				inMesh(t, 2, func(t *testing.T, m *mesh) {
					alice := m.api("alice", "alice", "b")
					_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
					bob := m.api("bob", "bob", "a")
					entries := 2 // alice joins, bob joins
					if leave {
						entries = 3
						if _, err := bob.JoinSession(t.Context(), "r"); err != nil {
							t.Fatal(err)
						}
					}
					m.at("a").store.set(fault)
					change := func() error { return second(bob.JoinSession(t.Context(), "r")) }
					if leave {
						change = func() error { return second(bob.LeaveSession(t.Context(), "r")) }
					}
					if err := change(); envelope.CodeOf(err) != envelope.Busy {
						t.Fatalf("got %v, want busy", err)
					}
					m.at("a").store.set(func(f *faultyStore) { f.before, f.after, f.append = nil, nil, nil })
					// Whoever looks next: the device's connection, at another server.
					d := m.client("bob", "b").connected(m)
					pass(time.Second)
					row, err := m.store.Member(t.Context(), "r", "bob")
					done := err == nil && (row.State == session.Joined || row.State == session.Left)
					if !done && step != "intent not written" && step != "membership cannot be read" {
						t.Errorf("the membership is %+v, %v", row, err)
					}
					if leave {
						err = second(d.LeaveSession(t.Context(), "r"))
					} else {
						err = second(d.JoinSession(t.Context(), "r"))
					}
					if err != nil {
						t.Fatal(err)
					}
					log, err := m.store.Read(t.Context(), room("r"), 0, 100, 1<<20)
					if err != nil || len(log) != entries {
						t.Errorf("%d entries, want %d: %v, %v", len(log), entries, log, err)
					}
				})
			})
		}
	}
}

// The connection of the device that it concerns completes such a change at once,
// and does not wait for a sweep.
func TestInterruptedKick(t *testing.T) {
	for step, fault := range map[string]func(f *faultyStore){
		"intent's answer lost":  func(f *faultyStore) { f.after = failNth("put member", 1) },
		"entry refused":         func(f *faultyStore) { f.append = func(envelope.Address, string) error { return errAway } },
		"outcome not written":   func(f *faultyStore) { f.before = failNth("put member", 2) },
		"outcome's answer lost": func(f *faultyStore) { f.after = failNth("put member", 2) },
	} {
		t.Run(step, func(t *testing.T) {
			inMesh(t, 2, func(t *testing.T, m *mesh) {
				alice := m.api("alice", "alice", "a")
				_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
				if _, err := m.api("bob", "bob", "a").JoinSession(t.Context(), "r"); err != nil {
					t.Fatal(err)
				}
				m.client("bob", "b").connected(m)
				pass(time.Second)
				m.at("a").store.set(fault)
				_, err := alice.Kick(t.Context(), "r", "bob")
				if envelope.CodeOf(err) != envelope.Busy {
					t.Fatalf("got %v, want busy", err)
				}
				m.at("a").store.set(func(f *faultyStore) { f.before, f.after, f.append = nil, nil, nil })
				m.within(5*time.Second, "bob is out", func() bool {
					row, err := m.store.Member(t.Context(), "r", "bob")
					return err == nil && row.State == session.Left
				})
			})
		})
	}
}

// failNth returns a fault of the n-th call of an operation.
func failNth(op string, n int) func(string) error {
	calls := 0
	return func(called string) error {
		if called == op {
			if calls++; calls == n {
				return errAway
			}
		}
		return nil
	}
}

// A server with no member of a session hears of a changed membership, too: what
// it remembers from a moment ago does not let anybody write.
func TestMembershipIsForgottenEverywhere(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		if code := m.post("alice", "a", "/v1/sessions", `{"session_id":"r"}`); code != "" {
			t.Fatal(code)
		}
		if code := m.post("bob", "b", "/v1/sessions/r/join", ""); code != "" {
			t.Fatal(code)
		}
		n := 0
		sends := func(want envelope.Code) {
			t.Helper()
			n++
			if code := m.post("bob", "c", "/v1/messages", fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":""}`, n)); code != want {
				t.Errorf("message %d: %q, want %q", n, code, want)
			}
		}
		sends("")
		for _, step := range []struct {
			call, body string
			want       envelope.Code
		}{
			{"role", `{"node_id":"bob","role":"reader"}`, envelope.Forbidden},
			{"role", `{"node_id":"bob","role":"member"}`, ""},
			{"kick", `{"node_id":"bob"}`, envelope.NotFound},
		} {
			if code := m.post("alice", "a", "/v1/sessions/r/"+step.call, step.body); code != "" {
				t.Fatal(code)
			}
			synctest.Wait()
			sends(step.want)
		}
	})
}
