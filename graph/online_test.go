package graph

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func (s *server) online(addrs ...envelope.Address) []envelope.Address {
	s.t.Helper()
	found, err := s.Online(s.t.Context(), addrs)
	if err != nil {
		s.t.Fatalf("online: %v", err)
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b envelope.Address) int { return compare(envelope.ServerID(a.ID), envelope.ServerID(b.ID)) })
}

func TestOnline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		c := start(t, "c", store, network, nil)
		time.Sleep(settle)
		one, two, three, none := node("1"), node("2"), node("3"), node("none")
		a.attach(one)
		b.attach(two)
		c.attach(two, three)
		expect := func(when string, want ...envelope.Address) {
			t.Helper()
			if got := a.online(one, two, three, none); !slices.Equal(got, want) {
				t.Errorf("%s: online are %v, want %v", when, got, want)
			}
		}
		expect("all there", one, two, three)
		c.crash()
		expect("before the lease has ended", one, two, three)
		time.Sleep(10 * time.Second)
		expect("after a crash", one, two)
		b.Detach(t.Context(), []envelope.Address{two})
		time.Sleep(settle)
		expect("after the last one left", one)
		a.Detach(t.Context(), []envelope.Address{one})
		expect("at once, of our own")
		a.store.setAway(true)
		if _, err := a.Online(t.Context(), []envelope.Address{two}); err == nil {
			t.Error("an answer without a store")
		}
	})
}

// Many addresses cost few questions.
func TestOnlineInBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		time.Sleep(settle)
		addrs := make([]envelope.Address, 2*onlineBatch)
		for i := range addrs {
			addrs[i] = node(fmt.Sprint(i))
		}
		b.attach(addrs...)
		before := a.store.count("edges")
		if got := a.online(addrs...); len(got) != len(addrs) {
			t.Errorf("%d are online", len(got))
		}
		if n := a.store.count("edges") - before; n != 2 {
			t.Errorf("%d questions", n)
		}
	})
}

// OnGone is told of what nobody holds any more, once its edge is not in the
// store.
func TestOnGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		one := node("1")
		told := func() int {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.left)
		}
		a.attach(one)
		a.attach(one)
		a.Detach(t.Context(), []envelope.Address{one})
		time.Sleep(settle)
		if told() != 0 {
			t.Error("told although it is still held")
		}
		a.store.setAway(true)
		a.Detach(t.Context(), []envelope.Address{one})
		time.Sleep(settle)
		if told() != 0 {
			t.Error("told before the edge was deleted")
		}
		a.store.setAway(false)
		time.Sleep(settle)
		if told() != 1 || len(store.edgesOf("a")) != 0 {
			t.Errorf("told %d times, edges %v", told(), store.edgesOf("a"))
		}
	})
}
