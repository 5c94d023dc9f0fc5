package graph

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// remembered returns how many addresses take memory.
func (s *server) remembered() int {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	return len(s.holds.held)
}

func TestAttach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		if got := a.attach(node("n"), session("s")); len(got) != 2 {
			t.Fatalf("changed %v", got)
		}
		if n := a.store.count("put"); n != 1 {
			t.Errorf("%d calls of PutEdges", n)
		}
		edges := store.edgesOf("a")
		if e := edges[node("n")]; e.Boot != a.Boot() || e.Conn != "conn" || e.Gen == 0 {
			t.Errorf("edge %+v", e)
		}
		if e := edges[session("s")]; e.Conn != "" || e.Gen == edges[node("n")].Gen {
			t.Errorf("edge %+v", e)
		}
		if got := a.attach(session("s"), session("s2")); len(got) != 1 || got[0] != session("s2") {
			t.Fatalf("changed %v", got)
		}
		a.Detach(t.Context(), []envelope.Address{session("s"), session("s2")})
		a.Detach(t.Context(), []envelope.Address{session("unknown")})
		time.Sleep(time.Second)
		if edges := store.edgesOf("a"); len(edges) != 2 || edges[session("s")].Gen == 0 {
			t.Fatalf("edges %v", edges)
		}
		a.Detach(t.Context(), []envelope.Address{session("s"), node("n")})
		a.Detach(t.Context(), []envelope.Address{session("s")}) // once too often
		time.Sleep(time.Second)
		if edges := store.edgesOf("a"); len(edges) != 0 {
			t.Fatalf("edges %v", edges)
		}
		if n := a.remembered(); n != 0 {
			t.Errorf("%d addresses remembered", n)
		}
	})
}

func TestAttachFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		a.attach(node("held"))
		a.store.setAway(true)
		addrs := []envelope.Address{node("n"), node("held")}
		if _, err := a.Attach(t.Context(), "c", addrs); envelope.CodeOf(err) != envelope.Busy || !errors.Is(err, errAway) {
			t.Fatalf("err = %v", err)
		}
		a.store.setAway(false)
		time.Sleep(10 * time.Second)
		if edges := store.edgesOf("a"); len(edges) != 1 || a.remembered() != 1 {
			t.Fatalf("edges %v", edges)
		}

		a.store.mu.Lock()
		a.store.delay = 3 * time.Second
		a.store.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Attach(ctx, "c", addrs); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err = %v", err)
		}
		time.Sleep(20 * time.Second)
		if edges := store.edgesOf("a"); len(edges) != 1 {
			t.Fatalf("edges %v", edges)
		}
		if _, _, edged := a.counts(); len(edged) != 0 {
			t.Errorf("OnEdges got %v", edged)
		}
	})
}

// A delete whose reply was lost, and that arrives once more much later, does
// not remove the edge of a holder that came in between.
func TestLateDelete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		a.attach(node("n"))
		late := store.edgesOf("a")[node("n")]
		a.store.mu.Lock()
		a.store.hook = func(op string) error {
			if op == "delete" {
				return errors.New("lost")
			}
			return nil
		}
		a.store.mu.Unlock()
		a.Detach(t.Context(), []envelope.Address{node("n")})
		time.Sleep(10 * time.Millisecond)
		if got := a.attach(node("n")); len(got) != 1 {
			t.Fatalf("changed %v", got)
		}
		if err := store.DeleteEdges(t.Context(), []Edge{late}); err != nil {
			t.Fatal(err)
		}
		if len(store.edgesOf("a")) != 1 {
			t.Fatal("the late delete removed the newer edge")
		}
		a.Detach(t.Context(), []envelope.Address{node("n")})
		a.store.mu.Lock()
		a.store.hook = nil
		a.store.mu.Unlock()
		time.Sleep(5 * time.Second)
		if edges := store.edgesOf("a"); len(edges) != 0 {
			t.Fatalf("edges %v", edges)
		}
	})
}

// When a delete and then a put have failed, either edge may be in the store:
// both are deleted in the end.
func TestTwoPossibleEdges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		a.attach(node("n"))
		a.store.mu.Lock()
		a.store.hook = func(op string) error {
			if op == "delete" || op == "put" {
				return errors.New("lost")
			}
			return nil
		}
		a.store.mu.Unlock()
		a.Detach(t.Context(), []envelope.Address{node("n")})
		time.Sleep(10 * time.Millisecond)
		if _, err := a.Attach(t.Context(), "c", []envelope.Address{node("n")}); envelope.CodeOf(err) != envelope.Busy {
			t.Fatalf("err = %v", err)
		}
		a.store.mu.Lock()
		a.store.hook = nil
		a.store.mu.Unlock()
		time.Sleep(5 * time.Second)
		if edges := store.edgesOf("a"); len(edges) != 0 || a.remembered() != 0 {
			t.Fatalf("edges %v", edges)
		}
	})
}

// Whatever holders do, whenever the store fails, and whenever the boot id
// changes: what Attach promised holds at its return and in the end.
func TestAttachDetachRaces(t *testing.T) {
	const holders, addresses, rounds = 24, 6, 60
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, network := newMemStore(), newMemNet()
				a := start(t, "a", store, network, nil)
				chance := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex // guards chance
				dice := func(n int) int { mu.Lock(); defer mu.Unlock(); return chance.IntN(n) }
				fault := func(op string) error {
					time.Sleep(time.Duration(dice(5)) * time.Millisecond)
					if (op == "put" || op == "delete" || op == "claim") && dice(10) == 0 {
						return errAway
					}
					return nil
				}
				a.store.mu.Lock()
				a.store.hook = fault
				if seed%2 == 1 {
					a.store.hook, a.store.after = nil, fault // applied although it failed
				}
				a.store.mu.Unlock()

				var held [holders]envelope.Address
				var wg sync.WaitGroup
				for i := range holders {
					wg.Go(func() {
						for range rounds {
							addr := session(fmt.Sprint(dice(addresses)))
							if _, err := a.Attach(t.Context(), fmt.Sprint(i), []envelope.Address{addr}); err == nil {
								held[i] = addr
								if e, ok := store.edgesOf("a")[addr]; !ok {
									t.Errorf("no edge for %v after Attach: %+v", addr, e)
								}
							}
							time.Sleep(time.Duration(dice(3)) * time.Millisecond)
							if !held[i].IsZero() && (dice(20) > 0) {
								a.Detach(t.Context(), []envelope.Address{held[i]})
								held[i] = envelope.Address{}
							} else if !held[i].IsZero() {
								return // keeps it
							}
						}
					})
				}
				if seed >= 3 {
					wg.Go(func() {
						for range 3 {
							time.Sleep(time.Duration(dice(100)) * time.Millisecond)
							a.freeze(time.Minute)
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Minute)
				want := make(map[envelope.Address]bool)
				for _, addr := range held {
					if !addr.IsZero() {
						want[addr] = true
					}
				}
				edges := store.edgesOf("a")
				for addr, e := range edges {
					if !want[addr] || e.Boot != a.Boot() {
						t.Errorf("stale edge %+v", e)
					}
				}
				if len(edges) != len(want) || a.remembered() != len(want) {
					t.Errorf("%d edges, %d remembered, want %d", len(edges), a.remembered(), len(want))
				}
			})
		})
	}
}
