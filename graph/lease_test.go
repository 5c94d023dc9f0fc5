package graph

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const settle = 3 * time.Second // well over a poll, well under a lease

func TestServersFindEachOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		time.Sleep(settle)
		if !a.sees("a", "b") || !b.sees("a", "b") {
			t.Fatalf("a sees %v, b sees %v", a.Servers(), b.Servers())
		}
		if !a.Alive("b", b.Boot()) || a.Alive("b", "other") || !a.Alive("a", a.Boot()) {
			t.Error("Alive is wrong")
		}
		b.SetDraining(true)
		time.Sleep(settle)
		if r := a.Servers()[1]; !r.Draining || r.Gossip == "" {
			t.Errorf("a knows of b: %+v", r)
		}
		if _, changes, _ := a.counts(); changes < 2 {
			t.Errorf("OnServers was called %d times", changes)
		}
	})
}

func TestClaim(t *testing.T) {
	for _, tt := range []struct {
		name    string
		id      string // of the second server
		addr    string
		dead    bool // the first one has crashed
		force   bool
		refused bool
		after   time.Duration // that Start takes, at least
	}{
		{name: "alive, same id", id: "a", addr: "a:80", refused: true},
		{name: "alive, same id, other address", id: "a", addr: "x:80", refused: true},
		{name: "alive, same address", id: "b", addr: "a:80", refused: true},
		{name: "alive, forced, same id", id: "a", addr: "a:80", force: true},
		{name: "alive, forced, same address", id: "b", addr: "a:80", force: true},
		{name: "dead, same id", id: "a", addr: "a:80", dead: true, after: 8 * time.Second},
		{name: "dead, same address", id: "b", addr: "a:80", dead: true, after: 8 * time.Second},
		{name: "dead, forced", id: "a", addr: "a:80", dead: true, force: true},
		{name: "unrelated", id: "b", addr: "b:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, network := newMemStore(), newMemNet()
				first := start(t, "a", store, network, nil)
				first.attach(node("n"))
				if tt.dead {
					first.crash()
				}
				c := testConfig(tt.id, store, network.host())
				c.Self.Addr = tt.addr
				c.Force = tt.force
				began := time.Now()
				g, err := Start(t.Context(), c)
				if tt.refused {
					if envelope.CodeOf(err) != envelope.Conflict || !strings.Contains(err.Error(), "a:80") || !strings.Contains(err.Error(), "force") {
						t.Fatalf("err = %v", err)
					}
					time.Sleep(settle)
					if store.record("a").Boot != first.Boot() || len(store.edgesOf("a")) != 1 {
						t.Error("the refused server has changed something")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(g.Close)
				if took := time.Since(began); took < tt.after || took > tt.after+2*time.Second {
					t.Errorf("Start took %v", took)
				}
				if r := store.record(envelope.ServerID(tt.id)); r.Boot != g.Boot() {
					t.Errorf("record: %+v", r)
				}
				if tt.addr == "a:80" {
					if n := len(store.edgesOf("a")); n > 0 {
						t.Errorf("%d edges of the old boot are left", n)
					}
					if !tt.dead {
						if err := first.ended(); !errors.Is(err, ErrTakenOver) {
							t.Errorf("the fenced server's Run returned %v", err)
						}
					}
				}
			})
		})
	}
}

func TestClaimCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		start(t, "a", store, network, nil).crash()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Start(ctx, testConfig("a", store, network.host())); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err = %v", err)
		}
	})
}

// However the crash falls between two beats and two polls, the edges are
// unused in time, and not before a lease has passed.
func TestCrash(t *testing.T) {
	for offset := 200 * time.Millisecond; offset < 2*time.Second; offset += 300 * time.Millisecond {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, network := newMemStore(), newMemNet()
				a := start(t, "a", store, network, nil)
				time.Sleep(offset)
				b := start(t, "b", store, network, nil)
				b.attach(node("n"))
				time.Sleep(10*time.Second + 2*offset)
				if got := a.ask(node("n"), 1); len(got) != 1 || got[0] != "b" {
					t.Fatalf("route %v", got)
				}
				b.crash()
				crashed := time.Now()
				for len(a.ask(node("n"), 1)) > 0 {
					time.Sleep(50 * time.Millisecond)
				}
				if took := time.Since(crashed); took > 10*time.Second || took < 5*time.Second {
					t.Errorf("unused after %v", took)
				}
				if !a.sees("a") {
					t.Errorf("a sees %v", a.Servers())
				}
				time.Sleep(2 * time.Minute)
				if store.record("b").ID != "" || len(store.edgesOf("b")) > 0 {
					t.Error("the janitor left something")
				}
			})
		})
	}
}

func TestStoreOutageKillsNobody(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%v", all), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, network := newMemStore(), newMemNet()
				a := start(t, "a", store, network, nil)
				b := start(t, "b", store, network, nil)
				time.Sleep(20 * time.Second)
				for range 3 {
					a.store.setAway(true)
					b.store.setAway(all)
					for range 300 {
						time.Sleep(100 * time.Millisecond)
						if !a.sees("a", "b") {
							t.Fatal("b is dead to a while the store is away")
						}
					}
					a.store.setAway(false)
					for i := range 100 {
						if i == 30 { // later, so that polls come before its next beat
							b.store.setAway(false)
						}
						time.Sleep(100 * time.Millisecond)
						if !a.sees("a", "b") {
							t.Fatal("b is dead to a after the store came back")
						}
					}
				}
				if all {
					return
				}
				if _, changes, _ := a.counts(); changes != 1 {
					t.Errorf("OnServers was called %d times", changes)
				}
			})
		})
	}
}

// A server that could not renew counts as dead, is alive again with its next
// beat, and needs no new boot id for that.
func TestRevival(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		b.attach(node("n"))
		boot := b.Boot()
		time.Sleep(settle)
		b.store.setAway(true)
		time.Sleep(12 * time.Second)
		if a.Alive("b", boot) || len(a.ask(node("n"), 1)) > 0 {
			t.Fatal("alive without a beat")
		}
		b.store.setAway(false)
		time.Sleep(settle)
		if !a.Alive("b", boot) || len(a.ask(node("n"), 2)) != 1 || b.Boot() != boot {
			t.Fatal("not alive again")
		}
	})
}

func TestFrozen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		b.attach(node("n"), session("s"))
		time.Sleep(settle)
		boot := b.Boot()

		b.freeze(3 * time.Second) // not yet half a lease
		time.Sleep(settle)
		if frozen, _, _ := b.counts(); frozen != 0 || b.Boot() != boot {
			t.Fatal("a short pause counts as a freeze")
		}

		b.store.setAway(true) // the claim has to be tried again
		b.freeze(5 * time.Second)
		time.Sleep(settle)
		if frozen, _, _ := b.counts(); frozen != 1 {
			t.Fatal("OnFrozen was not called")
		}
		b.store.setAway(false)
		time.Sleep(settle)
		if b.Boot() == boot || store.record("b").Boot != b.Boot() {
			t.Fatal("no new boot id")
		}
		edges := store.edgesOf("b")
		if len(edges) != 2 || edges[node("n")].Boot != b.Boot() || edges[session("s")].Boot != b.Boot() || edges[node("n")].Conn != "conn" {
			t.Fatalf("edges %v", edges)
		}
		if _, _, edged := b.counts(); len(edged) != 2 {
			t.Errorf("OnEdges got %v", edged)
		}
		if a.Alive("b", boot) || !a.Alive("b", b.Boot()) {
			t.Error("a does not know the new boot id")
		}
		if got := a.ask(node("n"), 1); len(got) != 1 {
			t.Errorf("route %v", got)
		}
	})
}

// A claim that was applied although its reply was lost is found to be ours.
func TestFrozenReplyLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		a.store.mu.Lock()
		a.store.after = func(op string) error {
			if op == "claim" {
				a.store.mu.Lock()
				defer a.store.mu.Unlock()
				a.store.after = nil
				return errors.New("reply lost")
			}
			return nil
		}
		a.store.mu.Unlock()
		boot := a.Boot()
		a.freeze(time.Minute)
		time.Sleep(settle)
		if a.Boot() == boot || store.record("a").Boot != a.Boot() || a.Stats().Boots != 1 {
			t.Fatalf("boot %s, record %+v", a.Boot(), store.record("a"))
		}
	})
}

func TestFencedWhileFrozen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		r := a.Self()
		r.Boot = "other"
		if err := store.Claim(t.Context(), r, a.Boot()); err != nil {
			t.Fatal(err)
		}
		a.freeze(time.Minute)
		if err := a.ended(); !errors.Is(err, ErrTakenOver) {
			t.Fatalf("Run returned %v", err)
		}
		if store.record("a").Boot != "other" {
			t.Error("the fenced server took its record back")
		}
	})
}

func TestStoreLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		a.attach(node("n"))
		time.Sleep(settle)
		boot := a.Boot()
		store.memData.mu.Lock()
		clear(store.records)
		clear(store.edges)
		store.memData.mu.Unlock()
		time.Sleep(settle)
		if a.Boot() == boot || store.edgesOf("a")[node("n")].Boot != a.Boot() {
			t.Fatalf("edges %v", store.edgesOf("a"))
		}
		if !b.sees("a", "b") || len(b.ask(node("n"), 1)) != 1 {
			t.Error("b does not see a")
		}
		if frozen, _, _ := a.counts(); frozen != 0 {
			t.Error("a believes it was frozen")
		}
	})
}

func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		b.attach(node("n"))
		time.Sleep(settle)
		// Gossip alone must be enough.
		a.store.setAway(true)
		boot := b.Boot()
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if a.Alive("b", boot) || !a.sees("a") {
			t.Error("b is still there")
		}
		if store.record("b").ID != "" || len(store.edgesOf("b")) > 0 {
			t.Error("b left something in the store")
		}
		if err := b.ended(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if _, err := b.Attach(t.Context(), "c", []envelope.Address{node("n")}); envelope.CodeOf(err) != envelope.GoingAway {
			t.Errorf("Attach after Leave: %v", err)
		}
		a.store.setAway(false)
	})
}
