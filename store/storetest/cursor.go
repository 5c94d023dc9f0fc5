package storetest

import (
	"fmt"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

func (s *suite) cursors(node envelope.NodeID, want ...inbox.Cursor) {
	s.Helper()
	got, err := s.store.Cursors(s.Context(), node)
	s.noError(err)
	s.equal("cursors of "+string(node), sorted(got), sorted(want))
}

func cursorForward(s *suite) {
	s.cursors(bob)
	log := bob.Address()
	for _, step := range []struct{ delivered, read, wantDelivered, wantRead uint64 }{
		{5, 0, 5, 0},
		{5, 0, 5, 0},
		{3, 2, 5, 2},
		{9, 1, 9, 2},
		{0, 9, 9, 9},
		{1 << 40, 0, 1 << 40, 9},
	} {
		s.noError(s.store.Advance(s.Context(), []inbox.Cursor{
			{Node: bob, Log: log, Delivered: step.delivered, Read: step.read},
		}))
		s.cursors(bob, inbox.Cursor{Node: bob, Log: log, Delivered: step.wantDelivered, Read: step.wantRead})
	}
	s.noError(s.store.Advance(s.Context(), nil))
}

func cursorScope(s *suite) {
	logs := []envelope.Address{
		bob.Address(), envelope.ClientID(bob).Address(), envelope.SessionID(bob).Address(), envelope.SessionID("r").Address(),
	}
	nodes := []envelope.NodeID{bob, "b", "bo", "bob", "bob.phone", alice}
	want := map[envelope.NodeID][]inbox.Cursor{}
	for i, node := range nodes {
		for j, log := range logs[:1+i%len(logs)] {
			c := inbox.Cursor{Node: node, Log: log, Delivered: uint64(10*i + j + 1), Read: uint64(j)}
			s.noError(s.store.Advance(s.Context(), []inbox.Cursor{c}))
			want[node] = append(want[node], c)
		}
	}
	for _, node := range nodes {
		s.cursors(node, want[node]...)
	}
	s.cursors("nobody")
}

func cursorMany(s *suite) {
	var many, want []inbox.Cursor
	for i := range 40 {
		log := envelope.SessionID(fmt.Sprint("room", i)).Address()
		many = append(many,
			inbox.Cursor{Node: alice, Log: log, Delivered: uint64(i + 2), Read: 1},
			inbox.Cursor{Node: alice, Log: log, Delivered: uint64(i + 1), Read: 2}) // the same one again
		want = append(want, inbox.Cursor{Node: alice, Log: log, Delivered: uint64(i + 2), Read: 2})
	}
	many = append(many, inbox.Cursor{Node: bob, Log: bob.Address(), Delivered: 7})
	empty := envelope.SessionID("empty").Address()
	many = append(many, inbox.Cursor{Node: alice, Log: empty}, inbox.Cursor{Node: alice, Log: empty, Delivered: 3})
	want = append(want, inbox.Cursor{Node: alice, Log: empty, Delivered: 3})
	s.noError(s.store.Advance(s.Context(), many))
	found, err := s.store.Readers(s.Context(), empty, 10)
	s.noError(err)
	s.equal("readers", found, want[len(want)-1:])
	s.cursors(alice, want...)
	s.cursors(bob, inbox.Cursor{Node: bob, Log: bob.Address(), Delivered: 7})
}

func cursorRace(s *suite) {
	log := bob.Address()
	s.noErrors(race(8, func(i int) error {
		for n := range 10 {
			err := s.store.Advance(s.Context(), []inbox.Cursor{
				{Node: bob, Log: log, Delivered: uint64(8*n + i + 1)},
				{Node: sender(i), Log: log, Delivered: uint64(n + 1), Read: uint64(n + 1)},
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	s.cursors(bob, inbox.Cursor{Node: bob, Log: log, Delivered: 80})
	for i := range 8 {
		s.cursors(sender(i), inbox.Cursor{Node: sender(i), Log: log, Delivered: 10, Read: 10})
	}
}

func readers(s *suite) {
	ctx := s.Context()
	log := envelope.SessionID("room").Address()
	var want []inbox.Cursor
	for i := range 7 {
		c := inbox.Cursor{Node: sender(i), Log: log, Delivered: uint64(i + 1), Read: uint64(i)}
		want = append(want, c)
		other := c
		other.Log = envelope.SessionID("room2").Address()
		s.noError(s.store.Advance(ctx, []inbox.Cursor{c, other, {Node: c.Node, Log: envelope.NodeID("room").Address(), Delivered: 1}}))
	}
	want[0].Delivered = 9
	s.noError(s.store.Advance(ctx, want[:1]))
	for _, limit := range []int{7, 8, 1000} {
		got, err := s.store.Readers(ctx, log, limit)
		s.noError(err)
		s.equal(fmt.Sprint("readers, limit ", limit), sorted(got), sorted(want))
	}
	for _, limit := range []int{1, 3, 6} {
		got, err := s.store.Readers(ctx, log, limit)
		s.noError(err)
		s.equal(fmt.Sprint("number of readers, limit ", limit), len(got), limit)
		for _, c := range got {
			if !slices.Contains(want, c) {
				s.Fatalf("%+v is none of the readers", c)
			}
		}
	}
	got, err := s.store.Readers(ctx, envelope.SessionID("roo").Address(), 10)
	s.noError(err)
	s.equal("readers of a log without any", len(got), 0)
}

func cursorsOfHooks(s *suite) {
	ctx, log := s.Context(), envelope.Address{Kind: envelope.KindHook, ID: "3"}
	s.appendN(log, 5)
	s.equal("entries", len(s.read(s.store, log)), 5)
	c := inbox.Cursor{Node: "!hook", Log: log, Delivered: 3}
	s.noError(s.store.Advance(ctx, []inbox.Cursor{c}))
	s.cursors("!hook", c)
}
