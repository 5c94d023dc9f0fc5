package storetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

func (s *suite) servers(want ...graph.Record) {
	s.Helper()
	got, err := s.store.Servers(s.Context())
	s.noError(err)
	got, want = sorted(got), sorted(want)
	for i := range got {
		if len(got[i].Links) == 0 {
			got[i].Links = nil
		}
	}
	s.equal("servers", got, want)
}

func claim(s *suite) {
	ctx := s.Context()
	s.servers()
	a := graph.Record{ID: "server.1", Boot: "boot1", Beat: 1, Addr: "127.0.0.1:1"}
	s.noError(s.store.Claim(ctx, a, ""))
	s.servers(a)
	s.isError("Claim again", s.store.Claim(ctx, graph.Record{ID: a.ID, Boot: "boot2"}, ""), graph.ErrRecordExists)
	s.isError("Claim again with the same boot", s.store.Claim(ctx, a, ""), graph.ErrRecordExists)
	s.servers(a)
	b := graph.Record{ID: "server", Boot: "boot1"}
	s.noError(s.store.Claim(ctx, b, ""))
	s.servers(a, b)
}

func claimRace(s *suite) {
	for round := range 5 {
		id := envelope.ServerID(fmt.Sprint("server", round))
		winner := s.oneWinner(race(8, func(i int) error {
			return s.store.Claim(s.Context(), graph.Record{ID: id, Boot: fmt.Sprint("boot", i)}, "")
		}), graph.ErrRecordExists)
		records, err := s.store.Servers(s.Context())
		s.noError(err)
		for _, r := range records {
			if r.ID == id {
				s.equal("boot stored", r.Boot, fmt.Sprint("boot", winner))
			}
		}
		s.equal("records", len(records), round+1)

		winner = s.oneWinner(race(8, func(i int) error {
			return s.store.Claim(s.Context(), graph.Record{ID: id, Boot: fmt.Sprint("next", i)}, fmt.Sprint("boot", winner))
		}), graph.ErrTakenOver)
		s.noError(s.store.Renew(s.Context(), graph.Record{ID: id, Boot: fmt.Sprint("next", winner), Beat: 1}))
	}
}

func takeover(s *suite) {
	ctx := s.Context()
	first := graph.Record{ID: "server", Boot: "boot1", Zone: "z", Load: 3, Draining: true}
	second := graph.Record{ID: "server", Boot: "boot2"}
	s.isError("takeover of nothing", s.store.Claim(ctx, second, "boot1"), graph.ErrTakenOver)
	s.servers()
	s.noError(s.store.Claim(ctx, first, ""))
	s.isError("takeover of another boot", s.store.Claim(ctx, second, "boot0"), graph.ErrTakenOver)
	s.servers(first)
	s.noError(s.store.Claim(ctx, second, "boot1"))
	s.servers(second)
	s.isError("takeover too late", s.store.Claim(ctx, graph.Record{ID: "server", Boot: "boot3"}, "boot1"), graph.ErrTakenOver)
	s.isError("Renew after the takeover", s.store.Renew(ctx, first), graph.ErrTakenOver)
	s.noError(s.store.Release(ctx, "server", "boot1"))
	s.servers(second)
}

func renewRelease(s *suite) {
	ctx := s.Context()
	a := graph.Record{ID: "a", Boot: "boot1", Beat: 1, Links: []envelope.ServerID{"b"}}
	b := graph.Record{ID: "b", Boot: "boot1", Beat: 1}
	s.isError("Renew of nothing", s.store.Renew(ctx, a), graph.ErrTakenOver)
	s.noError(s.store.Release(ctx, "a", "boot1"))
	s.noError(s.store.Claim(ctx, a, ""))
	s.noError(s.store.Claim(ctx, b, ""))
	for beat := range uint64(5) {
		a.Beat, a.Load, a.Links = beat+2, int(beat), nil
		s.noError(s.store.Renew(ctx, a))
		s.servers(a, b)
	}
	s.noError(s.store.Release(ctx, "a", "boot0"))
	s.servers(a, b)
	s.noError(s.store.Release(ctx, "a", "boot1"))
	s.servers(b)
	s.isError("Renew after Release", s.store.Renew(ctx, a), graph.ErrTakenOver)
	s.servers(b)
	s.noError(s.store.Claim(ctx, a, ""))
	s.servers(a, b)
}

func recordFields(s *suite) {
	r := graph.Record{
		ID: "server.1:a@b", Boot: "boot", Beat: 1 << 40,
		Addr: "127.0.0.1:8080", URL: "https://a.example", ProxyURL: "https://proxy.example/a", PeerURL: "wss://a.example:9/peer",
		Gossip: "127.0.0.1:7946", Zone: "eu-1", Load: 12, MaxLoad: 100, Draining: true,
		Links: []envelope.ServerID{"b", "c.d"}, Revivals: 3,
	}
	s.noError(s.store.Claim(s.Context(), r, ""))
	s.servers(r)
	r.Draining, r.Links = false, []envelope.ServerID{"c.d"}
	s.noError(s.store.Renew(s.Context(), r))
	s.servers(r)
}

func (s *suite) edges(addr envelope.Address, want ...graph.Edge) {
	s.Helper()
	got, err := s.store.Edges(s.Context(), addr)
	s.noError(err)
	s.equal("edges of "+addr.String(), sorted(got), sorted(want))
}

func edges(s *suite) {
	ctx := s.Context()
	addr := bob.Address()
	s.edges(addr)
	one := graph.Edge{Addr: addr, Server: "s.1", Boot: "boot1", Gen: 1, Conn: "conn1"}
	two := graph.Edge{Addr: addr, Server: "s", Boot: "boot2", Gen: 1, Conn: "conn2"}
	s.noError(s.store.PutEdges(ctx, []graph.Edge{one, two}))
	s.edges(addr, one, two)

	one.Boot, one.Gen, one.Conn = "boot3", 2, "conn3"
	s.noError(s.store.PutEdges(ctx, []graph.Edge{one}))
	s.edges(addr, one, two)

	// The same id as another kind, and ids that start alike, are other addresses.
	var others []graph.Edge
	for i, a := range []envelope.Address{
		envelope.ClientID(bob).Address(), envelope.SessionID(bob).Address(), (bob + "2").Address(), bob[:len(bob)-1].Address(),
	} {
		others = append(others, graph.Edge{Addr: a, Server: "s", Boot: "boot2", Gen: uint64(i + 2)})
	}
	s.noError(s.store.PutEdges(ctx, others))
	s.edges(addr, one, two)
	for _, e := range others {
		s.edges(e.Addr, e)
	}
	both, err := s.store.Edges(ctx, addr, envelope.NodeID("nobody").Address(), others[0].Addr)
	s.noError(err)
	s.equal("edges of several addresses", sorted(both), sorted([]graph.Edge{one, two, others[0]}))
	none, err := s.store.Edges(ctx)
	s.noError(err)
	s.equal("edges of no address", len(none), 0)
	s.noError(s.store.PutEdges(ctx, nil))
	s.noError(s.store.DeleteEdges(ctx, nil))
}

func deleteEdges(s *suite) {
	ctx := s.Context()
	e := graph.Edge{Addr: bob.Address(), Server: "s", Boot: "boot", Gen: 5, Conn: "conn"}
	other := graph.Edge{Addr: alice.Address(), Server: "s", Boot: "boot", Gen: 6, Conn: "conn"}
	s.noError(s.store.PutEdges(ctx, []graph.Edge{e, other}))
	for _, change := range []func(*graph.Edge){
		func(e *graph.Edge) { e.Gen = 4 },
		func(e *graph.Edge) { e.Gen = 6 },
		func(e *graph.Edge) { e.Boot = "boo" },
		func(e *graph.Edge) { e.Server = "t" },
		func(e *graph.Edge) { e.Addr = envelope.ClientID(bob).Address() },
	} {
		wrong := e
		change(&wrong)
		s.noError(s.store.DeleteEdges(ctx, []graph.Edge{wrong}))
		s.edges(e.Addr, e)
	}
	wrong, right := other, e
	wrong.Gen--
	right.Conn = "" // what Conn says decides nothing
	s.noError(s.store.DeleteEdges(ctx, []graph.Edge{wrong, right}))
	s.edges(e.Addr)
	s.edges(other.Addr, other)
	s.noError(s.store.DeleteEdges(ctx, []graph.Edge{e})) // gone already
	s.noError(s.store.PutEdges(ctx, []graph.Edge{e}))
	s.edges(e.Addr, e)
}

func dropEdges(s *suite) {
	ctx := s.Context()
	var all, left []graph.Edge
	for i := range 30 {
		e := graph.Edge{
			Addr: envelope.NodeID(fmt.Sprint("node", i/3)).Address(), Server: envelope.ServerID(fmt.Sprint("s", i%3)),
			Boot: fmt.Sprint("boot", i%2), Gen: uint64(i + 1),
		}
		all = append(all, e)
		if e.Server != "s1" || e.Boot != "boot1" {
			left = append(left, e)
		}
	}
	s.noError(s.store.PutEdges(ctx, all))
	s.noError(s.store.DropEdges(ctx, "s1", "boot"))
	s.noError(s.store.DropEdges(ctx, "s", "boot1"))
	check := func(want []graph.Edge) {
		s.Helper()
		for i := range 10 {
			addr := envelope.NodeID(fmt.Sprint("node", i)).Address()
			var of []graph.Edge
			for _, e := range want {
				if e.Addr == addr {
					of = append(of, e)
				}
			}
			s.edges(addr, of...)
		}
	}
	check(all)
	ofBoot := func(server envelope.ServerID, boot string) []graph.Edge {
		s.Helper()
		of, err := s.store.EdgesOf(ctx, server, boot)
		s.noError(err)
		return of
	}
	for _, e := range ofBoot("s1", "boot1") {
		if !slices.Contains(all, e) || slices.Contains(left, e) {
			s.Errorf("EdgesOf has %+v", e)
		}
	}
	if of := ofBoot("s1", "boot1"); len(of) != len(all)-len(left) {
		s.Errorf("EdgesOf has %d edges, want %d", len(of), len(all)-len(left))
	}
	s.noError(s.store.DropEdges(ctx, "s1", "boot1"))
	check(left)
	if of := ofBoot("s1", "boot1"); len(of) > 0 {
		s.Errorf("EdgesOf has %v after they were dropped", of)
	}
	s.noError(s.store.DropEdges(ctx, "s1", "boot1"))
	check(left)
}

// givenUp writes edges without waiting for the answer. Once a later write of
// the same edge has returned, the earlier one must not show again.
func givenUp(s *suite) {
	edge := graph.Edge{Addr: bob.Address(), Server: "s", Boot: "boot"}
	for range 20 {
		ctx, giveUp := context.WithCancel(s.Context())
		gone := make(chan struct{})
		go func() {
			giveUp()
			close(gone)
		}()
		edge.Gen++
		_ = s.store.PutEdges(ctx, []graph.Edge{edge}) // either is right
		<-gone
		edge.Gen++
		s.noError(s.store.PutEdges(s.Context(), []graph.Edge{edge}))
		s.edges(edge.Addr, edge)
	}
	for range 3 {
		s.edges(edge.Addr, edge)
	}
}

func (s *suite) sightings(want []graph.Sighting, addrs ...envelope.Address) {
	s.Helper()
	got, err := s.store.Sightings(s.Context(), addrs...)
	s.noError(err)
	s.equal("sightings", sorted(got), sorted(want))
}

func sightings(s *suite) {
	ctx := s.Context()
	device, user := bob.Address(), envelope.ClientID(bob).Address()
	s.sightings(nil, device, user)
	s.sightings(nil)
	s.noError(s.store.PutSightings(ctx, nil))
	for _, step := range []struct{ at, want int64 }{
		{1_700_000_000_000, 1_700_000_000_000},
		{1_700_000_000_000, 1_700_000_000_000},
		{1_600_000_000_000, 1_700_000_000_000},
		{1_700_000_000_001, 1_700_000_000_001},
		{0, 1_700_000_000_001},
	} {
		s.noError(s.store.PutSightings(ctx, []graph.Sighting{{Addr: device, At: step.at}}))
		s.sightings([]graph.Sighting{{Addr: device, At: step.want}}, device, user)
	}
	// One call may name an address twice, and ids that start alike differ.
	others := []graph.Sighting{
		{Addr: user, At: 7}, {Addr: user, At: 5}, {Addr: (bob + "2").Address(), At: 8}, {Addr: bob[:len(bob)-1].Address(), At: 9},
	}
	s.noError(s.store.PutSightings(ctx, others))
	s.sightings([]graph.Sighting{others[0]}, user)
	s.sightings([]graph.Sighting{others[0], others[2], others[3]}, user, alice.Address(), others[2].Addr, others[3].Addr)

	s.noErrors(race(8, func(i int) error {
		for n := range 5 {
			err := s.store.PutSightings(ctx, []graph.Sighting{{Addr: alice.Address(), At: int64(8*n + i + 1)}})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	s.sightings([]graph.Sighting{{Addr: alice.Address(), At: 40}}, alice.Address())
}
