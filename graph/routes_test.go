package graph

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func TestRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		c := start(t, "c", store, network, nil)
		for _, s := range []*server{a, b, c} {
			s.attach(session("s"))
		}
		for range 3 {
			if got := a.ask(session("s"), 0); !slices.Equal(got, []envelope.ServerID{"b", "c"}) {
				t.Fatalf("route %v", got)
			}
		}
		if n := a.store.count("edges"); n != 1 {
			t.Errorf("%d lookups", n)
		}
		// A cached answer comes before Route returns.
		called := false
		a.Route(session("s"), 0, func([]envelope.ServerID) { called = true })
		if !called {
			t.Error("the cached answer was not given at once")
		}
		// Old entries are looked up again.
		c.Detach(t.Context(), []envelope.Address{session("s")})
		time.Sleep(routeAge)
		if got := a.ask(session("s"), 0); !slices.Equal(got, []envelope.ServerID{"b"}) {
			t.Fatalf("route %v", got)
		}
		b.Detach(t.Context(), []envelope.Address{session("s")})
		time.Sleep(time.Second)
		a.Invalidate(session("s"))
		if got := a.ask(session("s"), 0); len(got) != 0 {
			t.Fatalf("route %v", got)
		}
	})
}

// A device connects just after its address was looked up.
func TestStaleNegativeRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		n := node("n")
		if last, known := a.EdgeChanged(n); known || last != 0 {
			t.Errorf("EdgeChanged = %d, %v", last, known)
		}
		if got := a.ask(n, 6); len(got) != 0 {
			t.Fatalf("route %v", got)
		}
		b.attach(n)
		for _, seq := range []uint64{7, 0, 5} {
			if got := a.ask(n, seq); len(got) != 0 {
				t.Fatalf("route %v", got) // nobody has told
			}
		}
		if last, known := a.EdgeChanged(n); !known || last != 7 {
			t.Errorf("EdgeChanged = %d, %v", last, known)
		}
		if last, known := a.EdgeChanged(n); !known || last != 7 {
			t.Errorf("EdgeChanged for a second peer = %d, %v", last, known)
		}
		if got := a.ask(n, 8); len(got) != 1 {
			t.Fatalf("route %v", got)
		}
		// Neither age nor Invalidate nor a flush makes it forget the seq.
		a.Invalidate(n)
		a.FlushRoutes()
		time.Sleep(2 * routeAge)
		if last, known := a.EdgeChanged(n); !known || last != 8 {
			t.Errorf("EdgeChanged = %d, %v", last, known)
		}
	})
}

// gate holds up the lookups of a store until released.
type gate struct {
	mu   sync.Mutex
	shut chan struct{}
}

func (g *gate) close(s *memStore, when func(op string) bool) {
	shut := make(chan struct{})
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = func(op string) error {
		if when(op) {
			<-shut
		}
		return nil
	}
}

func (g *gate) open(s *memStore) {
	s.mu.Lock()
	s.after = nil
	s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
}

func isEdges(op string) bool { return op == "edges" }

func TestEdgeChangedDuringLookup(t *testing.T) {
	for _, tt := range []struct {
		name string
		hint func(*server)
	}{
		{"EdgeChanged", func(s *server) { s.EdgeChanged(node("n")) }},
		{"Invalidate", func(s *server) { s.Invalidate(node("n")) }},
		{"FlushRoutes", func(s *server) { s.FlushRoutes() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store, network := newMemStore(), newMemNet()
				a := start(t, "a", store, network, nil)
				b := start(t, "b", store, network, nil)
				time.Sleep(settle)
				var g gate
				g.close(a.store, isEdges) // the answer is read, but held up
				var got []envelope.ServerID
				a.Route(node("n"), 1, func(s []envelope.ServerID) { got = slices.Clone(s) })
				synctest.Wait()
				b.attach(node("n"))
				tt.hint(a)
				g.open(a.store)
				synctest.Wait()
				if len(got) != 1 || a.store.count("edges") != 2 {
					t.Fatalf("route %v after %d lookups", got, a.store.count("edges"))
				}
			})
		})
	}
}

// A hint that comes while the waiting calls are answered counts for the next one.
func TestEdgeChangedDuringAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		time.Sleep(settle)
		a.Route(node("n"), 9, func([]envelope.ServerID) {
			b.attach(node("n"))
			if last, known := a.EdgeChanged(node("n")); !known || last != 9 {
				t.Errorf("EdgeChanged = %d, %v", last, known)
			}
		})
		synctest.Wait()
		if got := a.ask(node("n"), 10); len(got) != 1 {
			t.Fatalf("route %v", got)
		}
	})
}

// An entry that was evicted while its lookup was under way is kept after all.
func TestEvictedDuringLookup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, func(c *Config) { c.Cache = 1 })
		time.Sleep(settle)
		shut := make(chan struct{})
		held := true
		a.store.mu.Lock()
		a.store.after = func(op string) error {
			if op == "edges" && held { // only the first lookup, which reads it before the others begin
				held = false
				<-shut
			}
			return nil
		}
		a.store.mu.Unlock()
		a.Route(node("n"), 5, func([]envelope.ServerID) {})
		synctest.Wait()
		a.ask(node("other"), 1)
		if last, known := a.EdgeChanged(node("other")); !known || last != 1 {
			t.Errorf("EdgeChanged = %d, %v", last, known)
		}
		close(shut)
		synctest.Wait()
		if last, known := a.EdgeChanged(node("n")); !known || last != 5 {
			t.Errorf("EdgeChanged = %d, %v", last, known)
		}
	})
}

func TestRouteOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		a.store.mu.Lock()
		a.store.delay = 5 * time.Millisecond
		a.store.mu.Unlock()
		const addresses, calls = 50, 2000
		var mu sync.Mutex
		got := make(map[envelope.Address][]uint64)
		var wg sync.WaitGroup
		for i := range addresses {
			addr := node(fmt.Sprint(i))
			wg.Go(func() {
				for seq := range uint64(calls) {
					a.Route(addr, seq, func([]envelope.ServerID) {
						mu.Lock()
						got[addr] = append(got[addr], seq)
						mu.Unlock()
					})
					if seq%100 == uint64(i) {
						a.EdgeChanged(addr)
					}
					if seq%64 == 0 {
						time.Sleep(time.Duration(i%7) * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		total := 0
		for addr, seqs := range got {
			total += len(seqs)
			if !slices.IsSorted(seqs) {
				t.Errorf("%v out of order", addr)
			}
		}
		drops := int(a.Stats().RouteDrops)
		if total+drops != addresses*calls {
			t.Errorf("%d answered and %d dropped of %d", total, drops, addresses*calls)
		}
		if hits := a.Stats().RouteHits; hits == 0 {
			t.Error("the cache was of no use")
		}
	})
}

func TestRouteOverflowAndRetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		b.attach(node("n"))
		time.Sleep(settle)
		a.store.setAway(true)
		var got []uint64
		for seq := uint64(1); seq <= routeWaiters+10; seq++ {
			a.Route(node("n"), seq, func(s []envelope.ServerID) {
				if len(s) != 1 {
					t.Errorf("route %v", s)
				}
				got = append(got, seq)
			})
		}
		time.Sleep(20 * time.Second)
		if n := a.store.count("edges"); n < 8 || n > 20 {
			t.Errorf("%d lookups in 20 s of outage", n)
		}
		if len(got) > 0 {
			t.Fatal("answered without a store")
		}
		a.store.setAway(false)
		time.Sleep(settle)
		synctest.Wait()
		if len(got) != routeWaiters || got[0] != 11 || !slices.IsSorted(got) || a.Stats().RouteDrops != 10 {
			t.Fatalf("%d answered from %v on, %d dropped", len(got), got[:1], a.Stats().RouteDrops)
		}
		if last, _ := a.EdgeChanged(node("n")); last != routeWaiters+10 {
			t.Errorf("last = %d", last)
		}
	})
}

func TestLookupsAreShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		var g gate
		g.close(a.store, isEdges)
		answered := 0
		var mu sync.Mutex
		const addrs = 2000
		for i := range addrs {
			for range 3 {
				a.Route(node(fmt.Sprint(i)), 0, func([]envelope.ServerID) { mu.Lock(); answered++; mu.Unlock() })
			}
		}
		synctest.Wait()
		asking := a.store.count("edges") // each with what was waiting then
		if asking > routeWorkers {
			t.Errorf("%d questions at a time", asking)
		}
		g.open(a.store)
		synctest.Wait()
		if n := a.store.count("edges"); answered != 3*addrs || n > asking+addrs/routeBatch+1 {
			t.Errorf("%d answers from %d questions", answered, n)
		}
	})
}

// An edge may show a boot id that no poll has shown yet, or one that no record
// stands behind.
func TestRouteUnknownBoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		fresh := Record{ID: "b", Boot: "fresh", Beat: 1, PeerURL: "ws://b"}
		if err := store.Claim(t.Context(), fresh, ""); err != nil {
			t.Fatal(err)
		}
		if err := store.PutEdges(t.Context(), []Edge{
			{Addr: node("n"), Server: "b", Boot: "fresh", Gen: 1},
			{Addr: node("n"), Server: "c", Boot: "ghost", Gen: 1},
		}); err != nil {
			t.Fatal(err)
		}
		if got := a.ask(node("n"), 1); !slices.Equal(got, []envelope.ServerID{"b"}) {
			t.Fatalf("route %v", got)
		}
		if len(store.edgesOf("c")) != 0 {
			t.Error("the ghost's edge is still there")
		}
	})
}

func TestRouteClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		a.store.setAway(true)
		a.Route(node("n"), 1, func([]envelope.ServerID) { t.Error("called") })
		time.Sleep(settle)
		a.crash()
		a.Route(node("n"), 2, func([]envelope.ServerID) { t.Error("called") })
		if n := a.Stats().RouteDrops; n != 2 {
			t.Errorf("%d drops", n)
		}
	})
}

func BenchmarkRouteCached(b *testing.B) {
	store, network := newMemStore(), newMemNet()
	c := testConfig("a", store, network.host())
	g, err := Start(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	r := Record{ID: "b", Boot: "boot", Beat: 1}
	g.view.poll([]Record{r}, time.Now())
	addrs := make([]envelope.Address, 10_000)
	edges := make([]Edge, len(addrs))
	for i := range addrs {
		addrs[i] = node(fmt.Sprintf("device-%d", i))
		edges[i] = Edge{Addr: addrs[i], Server: "b", Boot: "boot", Gen: 1}
	}
	if err := store.PutEdges(b.Context(), edges); err != nil {
		b.Fatal(err)
	}
	// Lookups in memStore scan, so the cache is filled by hand.
	g.routes.mu.Lock()
	leases := make(map[envelope.Address][]*lease)
	g.view.resolve(edges[:1], leases)
	for _, addr := range addrs {
		g.routes.cache.Add(addr, &route{leases: leases[addrs[0]], at: time.Now().Add(time.Hour)})
	}
	g.routes.mu.Unlock()
	n := 0
	f := func(servers []envelope.ServerID) { n += len(servers) }
	for _, addr := range addrs {
		g.Route(addr, 1, f)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.Route(addrs[i%len(addrs)], uint64(i), f)
		i++
	}
	if n != i+len(addrs) {
		b.Fatalf("%d servers in %d routes", n, i)
	}
}

// Whose store is its own knows that nobody else has an edge, writes its own, and gossips with nobody.
func TestSole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := start(t, "a", newMemStore(), newMemNet(), func(c *Config) { c.Sole = true })
		a.attach(session("s"))
		called := false
		a.Route(session("s"), 1, func(servers []envelope.ServerID) { called = len(servers) == 0 })
		servers, settled := a.Settled(session("s"), 2)
		if !called || !settled || len(servers) != 0 {
			t.Errorf("called %v, settled %v at %v", called, settled, servers)
		}
		if n := a.store.count("edges"); n != 0 {
			t.Errorf("the store was asked %d times", n)
		}
		if edges, err := a.store.Edges(t.Context(), session("s")); err != nil || len(edges) != 1 {
			t.Errorf("edges %v, %v", edges, err)
		}
		if at := a.Self().Gossip; at != "" {
			t.Errorf("it gossips at %s", at)
		}
		if err := a.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
