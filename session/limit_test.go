package session_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// counting is a store that counts how often all members are read.
type counting struct {
	session.Store
	reads atomic.Int64
}

// Members implements [session.Store].
func (c *counting) Members(ctx context.Context, id envelope.SessionID) ([]session.Member, error) {
	c.reads.Add(1)
	return c.Store.Members(ctx, id)
}

// A limit holds exactly, also where it is so high that seats are not counted
// for everybody who comes: with two servers at which all come at once, some of
// them more than once, and another limit meanwhile.
func TestHighLimit(t *testing.T) {
	const first, second, comers = 115, 125, 140
	w := newWorld(t)
	ctx := t.Context()
	servers := []*session.Sessions{session.New(w.store, w.append, nil), session.New(w.store, w.append, nil)}
	if _, err := w.Create(ctx, who("alice"), "r", session.Settings{AnyoneCanJoin: true, MemberLimit: first}, session.As{}); err != nil {
		t.Fatal(err)
	}
	// come has everybody join, a few at a time, and returns how many were let in.
	come := func() int64 {
		var in atomic.Int64
		var all sync.WaitGroup
		for k := range servers {
			all.Go(func() {
				for i := k; i < comers; i += len(servers) {
					name := who(fmt.Sprint("n", i))
					for busy := true; busy; {
						_, err := servers[k].Join(ctx, name, "r", session.As{})
						switch busy = false; envelope.CodeOf(err) {
						case "":
							in.Add(1)
						case envelope.Busy:
							busy = true
						case envelope.Conflict:
						default:
							t.Errorf("%s: %v", name.Node, err)
						}
					}
				}
			})
		}
		all.Wait()
		return in.Load()
	}
	check := func(limit int) {
		t.Helper()
		_, members, err := w.Get(ctx, who("alice"), "r")
		if err != nil || len(members) != limit {
			t.Errorf("%d members, %v; the limit is %d", len(members), err, limit)
		}
	}
	if n := come(); n != first-1 {
		t.Errorf("%d let in", n)
	}
	check(first)
	if _, err := w.Update(ctx, who("alice"), "r", envelope.Settings{MemberLimit: new(second)}); err != nil {
		t.Fatal(err)
	}
	come()
	check(second)
}

// Far from the limit the members are read once, and again when it has changed.
func TestFarFromLimit(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	store := &counting{Store: w.store}
	s := session.New(store, w.append, nil)
	if _, err := s.Create(ctx, who("alice"), "r", session.Settings{AnyoneCanJoin: true, MemberLimit: 1000}, session.As{}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := s.Join(ctx, who(fmt.Sprint("n", i)), "r", session.As{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.reads.Swap(0); n != 1 {
		t.Errorf("read %d times", n)
	}
	if _, err := s.Update(ctx, who("alice"), "r", envelope.Settings{MemberLimit: new(900)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Leave(ctx, who("n1"), "r"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Join(ctx, who("n1"), "r", session.As{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.reads.Load(); n != 1 {
		t.Errorf("read %d times", n)
	}
}

// In a large session the members are not read for each who joins, to find out
// who is to be told.
func TestNotifyLastOfMany(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	store := &counting{Store: w.store}
	s := session.New(store, w.append, nil)
	if _, err := s.Create(ctx, who("alice"), "r", session.Settings{AnyoneCanJoin: true, NotifyLast: 3}, session.As{}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1100) { // as if they had joined
		id := envelope.NodeID(fmt.Sprint("n", i))
		m := session.Member{Session: "r", Node: id, Device: id, State: session.Joined, Spans: []session.Span{{From: i + 2}}, Version: 1}
		if err := w.store.PutMember(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	store.reads.Store(0)
	for i := range 20 {
		if _, err := s.Join(ctx, who(fmt.Sprint("late", i)), "r", session.As{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.reads.Load(); n > 3 { // more than one when this takes seconds
		t.Errorf("read %d times for 20 who joined", n)
	}
}
