package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// speaks has bob, a member that is connected to b, say something each half second,
// and returns how often its server has asked the store for a membership.
func speaks(t *testing.T, m *mesh, bob *device, lasts time.Duration) (asked int64) {
	t.Helper()
	var members atomic.Int64
	m.at("b").store.set(func(f *faultyStore) {
		f.before = func(op string) error {
			if op == "member" {
				members.Add(1)
			}
			return nil
		}
	})
	for since := time.Duration(0); since < lasts; since += 500 * time.Millisecond {
		if _, err := bob.Send(t.Context(), to(room("r"), "", "x")); err != nil {
			t.Fatal(err)
		}
		pass(500 * time.Millisecond)
	}
	m.at("b").store.set(func(f *faultyStore) { f.before = nil })
	return members.Load()
}

func withMember(t *testing.T, m *mesh) (bob *device) {
	t.Helper()
	_, _ = m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{})
	bob = m.client("bob", "b").connected(m)
	if _, err := bob.JoinSession(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	pass(5 * time.Second)
	return bob
}

// What was known before nothing had arrived for a while does not count after it.
func TestHearingStandsStill(t *testing.T) {
	var h hearing
	h.interrupt(10 * time.Second)
	for now := 11 * time.Second; now < 20*time.Second; now += time.Second {
		h.measure(now, now-time.Second)
	}
	if since, _ := h.heard(); since != 10*time.Second {
		t.Fatalf("all is heard since %v", since)
	}
	for now := 20 * time.Second; now < 25*time.Second; now += time.Second {
		h.measure(now, 18*time.Second)
	}
	h.measure(25*time.Second, 24*time.Second)
	if since, upto := h.heard(); since != 25*time.Second || upto != 24*time.Second {
		t.Errorf("all is heard since %v, up to %v", since, upto)
	}
}

// While the servers hear one another, who speaks often is not looked up again.
func TestHeardMembershipIsTrusted(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		bob := withMember(t, m)
		if asked := speaks(t, m, bob, time.Minute); asked > 1 {
			t.Errorf("the store was asked %d times", asked)
		}
		m.cut("b", "c")
		pass(20 * time.Second)
		if asked := speaks(t, m, bob, 10*time.Second); asked < 3 {
			t.Errorf("without a link the store was asked %d times", asked)
		}
		m.heal("b", "c")
		m.linked()
		pass(5 * time.Second)
		if asked := speaks(t, m, bob, 20*time.Second); asked > 1 {
			t.Errorf("with a new link the store was asked %d times", asked)
		}
	})
}

// Two seconds after somebody has been put out nobody takes its messages any more,
// whatever has become of the links and whenever that was.
func TestKickWithBrokenLinks(t *testing.T) {
	for name, fault := range map[string]func(m *mesh){
		"none":             func(*mesh) {},
		"cut":              func(m *mesh) { m.cut("a", "b") },
		"all cut":          func(m *mesh) { m.cut("a", "b"); m.cut("b", "c") },
		"nothing gets out": func(m *mesh) { m.peers.jam("a", "b", true) },
		"cut and healed": func(m *mesh) {
			m.cut("a", "b")
			time.AfterFunc(700*time.Millisecond, func() { m.heal("a", "b") })
		},
	} {
		for before := time.Duration(0); before <= 8*time.Second; before += 800 * time.Millisecond {
			t.Run(fmt.Sprintf("%s, %v before", name, before), func(t *testing.T) {
				inMesh(t, 3, func(t *testing.T, m *mesh) {
					bob := withMember(t, m)
					speaks(t, m, bob, 4*time.Second)
					fault(m)
					if before > 0 {
						speaks(t, m, bob, before)
					}
					kick(t, m)
					pass(2 * time.Second)
					mayNotSpeak(t, bob)
					m.peers.jam("a", "b", false)
				})
			})
		}
	}
}

// Who asks again for a change that was made, but that nobody was told of, has it told.
func TestChangeToldWhenAskedAgain(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := withMember(t, m)
		speaks(t, m, bob, 4*time.Second)
		dying := session.New(m.store, func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
			return inbox.Wait(ctx, func(done func(uint64, error)) { m.store.Append(log, env, done) })
		}, nil)
		if _, err := dying.Kick(t.Context(), as("alice"), "r", "bob"); err != nil {
			t.Fatal(err)
		}
		kick(t, m)
		pass(100 * time.Millisecond)
		mayNotSpeak(t, bob)
	})
}

// kick has alice put bob out.
func kick(t *testing.T, m *mesh) {
	t.Helper()
	if _, err := m.api("alice", "alice", "a").Kick(t.Context(), "r", "bob"); err != nil {
		t.Fatal(err)
	}
}

// mayNotSpeak fails the test unless what bob says is refused.
func mayNotSpeak(t *testing.T, bob *device) {
	t.Helper()
	if _, err := bob.Send(t.Context(), to(room("r"), "", "x")); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("got %v", err)
	}
}
