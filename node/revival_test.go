package node

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/hook"
)

// In these tests b cannot reach the database for a while, and all its links and
// connections stay up. The others take it for dead after 8 s, and then it is back.

func sharing(c *Config) { c.SharedStore = true }

// What others stored while they took b for dead is delivered soon after.
func TestRevivedServerDelivers(t *testing.T) {
	for _, gap := range []time.Duration{15 * time.Second, 30 * time.Second} {
		for at := time.Duration(0); at < 30*time.Second; at += 10 * time.Second {
			t.Run(fmt.Sprintf("%v at %v", gap, at), func(t *testing.T) {
				inMeshOf(t, 3, sharing, func(t *testing.T, m *mesh) {
					bob := m.client("bob", "b").connected(m)
					alice := m.client("alice", "a").connected(m)
					pass(5*time.Second + at)
					b := m.at("b")
					b.store.dead.Store(true)
					pass(gap - 2*time.Second)
					alice.send(to(deviceAddr("bob"), "1", "one"))
					pass(2 * time.Second)
					b.store.dead.Store(false)
					m.within(10*time.Second, "delivered", func() bool { return slices.Equal(bob.texts(), []string{"one"}) })
				})
			})
		}
	}
}

// Nobody tells b of a kick meanwhile. 2 s after b is back the device may not send
// there, whatever b remembers. It sends over HTTP: nobody reads the session at b.
func TestRevivedServerForgetsMembers(t *testing.T) {
	cut := map[string]func(b *server, is bool){
		"no reads or writes": func(b *server, is bool) { b.store.dead.Store(is) },
		"no renewals": func(b *server, is bool) {
			b.store.set(func(f *faultyStore) {
				f.before = func(op string) error {
					if is && op == "renew" {
						return errAway
					}
					return nil
				}
			})
		},
	}
	for name, cut := range cut {
		t.Run(name, func(t *testing.T) {
			inMeshOf(t, 3, sharing, func(t *testing.T, m *mesh) {
				if _, err := m.api("alice", "alice", "a").CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
					t.Fatal(err)
				}
				bob := m.api("bob", "bob", "b")
				if _, err := bob.JoinSession(t.Context(), "r"); err != nil {
					t.Fatal(err)
				}
				pass(5 * time.Second)
				if _, err := bob.SendHTTP(t.Context(), to(room("r"), "0", "x")); err != nil {
					t.Fatal(err)
				}
				b := m.at("b")
				cut(b, true)
				pass(15 * time.Second)
				if m.at("a").graph.Lives("b") {
					t.Fatal("b is not taken for dead")
				}
				kick(t, m)
				pass(2 * time.Second)
				if _, err := bob.SendHTTP(t.Context(), to(room("r"), "1", "x")); err == nil {
					t.Error("a message was taken 2 s after the kick, while b was cut off")
				}
				cut(b, false)
				for i := range 20 {
					if _, err := bob.SendHTTP(t.Context(), to(room("r"), fmt.Sprint("after", i), "x")); err == nil {
						t.Fatalf("a message was taken %d s after the kick", i+2)
					}
					pass(time.Second)
				}
			})
		})
	}
}

// The backend was told that the devices of b are lost. It is told that they are
// not, and each time anew; and when b does die, that they are.
func TestRevivedServerKeepsConnections(t *testing.T) {
	for name, gap := range map[string]time.Duration{"same boot": 20 * time.Second, "another boot": 2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			inHookMeshOf(t, 3, sharing, func(t *testing.T, m *mesh, r *receiver) {
				bob := m.client("bob", "b").connected(m)
				alice := m.client("alice", "a").connected(m)
				pass(5 * time.Second)
				want := []string{"connected node:bob bob bob"}
				b := m.at("b")
				for i := range 2 {
					b.store.dead.Store(true)
					pass(gap)
					b.store.dead.Store(false)
					pass(2 * time.Minute)
					alice.send(to(deviceAddr("bob"), fmt.Sprint(i), "x"))
					pass(time.Second)
					if len(bob.texts()) != i+1 {
						t.Fatalf("bob has got %q", bob.texts())
					}
					want = append(want, "disconnected node:bob bob lost", "connected node:bob bob bob kept")
				}
				m.kill("b")
				pass(2 * time.Minute)
				want = append(want, "disconnected node:bob bob lost")
				got := r.toldOf("bob") // b may still have said that the connection is closed
				got = slices.DeleteFunc(got, func(e string) bool { return strings.HasSuffix(e, " closed") })
				if !slices.Equal(got, want) {
					t.Errorf("the backend was told\n%q, not\n%q", got, want)
				}
			})
		})
	}
}

// toldOf returns what the backend was told of the connections of a device.
func (r *receiver) toldOf(device string) (told []string) {
	for _, e := range r.told(hook.Connected, hook.Disconnected) {
		if strings.Contains(e, " node:"+device+" ") {
			told = append(told, e)
		}
	}
	return told
}

// However many tell it so, and whenever each of them finds out.
func TestRevivedServerCountsOnce(t *testing.T) {
	inHookMeshOf(t, 1, sharing, func(t *testing.T, m *mesh, r *receiver) {
		for _, id := range []string{"b", "c", "d"} {
			pass(310 * time.Millisecond)
			m.start(id)
		}
		m.linked()
		m.client("bob", "b").connected(m)
		pass(5 * time.Second)
		b := m.at("b")
		b.store.dead.Store(true)
		pass(20 * time.Second)
		b.store.dead.Store(false)
		pass(2 * time.Minute)
		if times, told := b.graph.Self().Revivals, r.toldOf("bob"); times != 1 || len(told) != 3 {
			t.Errorf("b was revived %d times, and the backend was told %q", times, told)
		}
	})
}

// It is told when its links have been away as well.
func TestRevivedServerBehindPartition(t *testing.T) {
	for _, id := range []string{"a", "b", "c"} {
		for at := time.Duration(0); at < 2*time.Second; at += 600 * time.Millisecond {
			t.Run(fmt.Sprint(id, " at ", at), func(t *testing.T) {
				inHookMeshOf(t, 3, sharing, func(t *testing.T, m *mesh, r *receiver) {
					m.client("bob", id).connected(m)
					pass(5*time.Second + at)
					s := m.at(id)
					apart := func(is bool) {
						s.store.dead.Store(is)
						for _, other := range m.ids() {
							if other != id {
								m.peers.cut(id, other, is)
							}
						}
					}
					apart(true)
					pass(40 * time.Second)
					apart(false)
					pass(2 * time.Minute)
					if told := r.toldOf("bob"); !strings.HasSuffix(told[len(told)-1], "kept") {
						t.Errorf("bob is connected, and the backend was told %q", told)
					}
				})
			})
		}
	}
}

// It does not say that its devices are there before all can tell the next loss from this one.
func TestRevivedServerDiesSoon(t *testing.T) {
	inHookMeshOf(t, 3, sharing, func(t *testing.T, m *mesh, r *receiver) {
		m.client("bob", "b").connected(m)
		pass(5 * time.Second)
		store := m.at("b").store
		var renewals atomic.Int64 // that succeed yet
		store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "renew" && renewals.Add(-1) < 0 {
					return errAway
				}
				return nil
			}
		})
		pass(20 * time.Second)
		renewals.Store(1)
		pass(20 * time.Second)
		m.kill("b")
		pass(3 * time.Minute)
		if told := r.toldOf("bob"); !strings.HasSuffix(told[len(told)-1], "lost") {
			t.Errorf("b is dead, and the backend was told %q", told)
		}
	})
}

// Nobody says that a device is lost once its server has said that it is not,
// though recording that has taken until now.
func TestRevivedServerHasTheLastWord(t *testing.T) {
	inHookMeshOf(t, 3, sharing, func(t *testing.T, m *mesh, r *receiver) {
		m.client("zoe", "b").connected(m)
		pass(5 * time.Second)
		b := m.at("b")
		m.connections(b, 600)
		for _, id := range []string{"a", "c"} {
			m.at(id).store.set(func(f *faultyStore) { f.hookDelay = 40 * time.Second })
		}
		b.store.dead.Store(true)
		pass(86 * time.Second)
		b.store.dead.Store(false)
		pass(5 * time.Minute)
		if told := r.toldOf("zoe"); strings.HasSuffix(told[len(told)-1], "lost") {
			t.Errorf("zoe is connected, and the backend was told %q", told)
		}
	})
}

// What a dead server leaves is cleaned up, however long it takes to record who
// was connected to it.
func TestManyLost(t *testing.T) {
	inHookMeshOf(t, 3, sharing, func(t *testing.T, m *mesh, r *receiver) {
		const devices = 600
		boot := m.at("b").graph.Boot()
		m.connections(m.at("b"), devices)
		for _, id := range []string{"a", "c"} { // three batches: more than the half of a lease
			m.at(id).store.set(func(f *faultyStore) { f.hookDelay = 1500 * time.Millisecond })
		}
		m.kill("b")
		pass(3 * time.Minute)
		left, err := m.store.EdgesOf(t.Context(), "b", boot)
		if told := len(r.told(hook.Disconnected)); err != nil || len(left) > 0 || told != devices {
			t.Errorf("%d edges are left, and %d of %d devices were told as lost; %v", len(left), told, devices, err)
		}
	})
}

// connections puts the edges of so many connections to a server into the store.
func (m *mesh) connections(to *server, n int) {
	m.t.Helper()
	edges := make([]graph.Edge, n)
	for i := range edges {
		edges[i] = graph.Edge{
			Addr: envelope.NodeID(fmt.Sprint("d", i)).Address(), Server: envelope.ServerID(to.id), Boot: to.graph.Boot(), Gen: uint64(i), Conn: fmt.Sprint("c", i),
		}
	}
	if err := m.store.PutEdges(m.t.Context(), edges); err != nil {
		m.t.Fatal(err)
	}
}
