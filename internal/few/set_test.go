package few

import (
	"maps"
	"math/rand/v2"
	"testing"
)

type item struct{ key, value int }

func (i item) Key() int { return i.key }

// A set is what a map would be, while it is small and while it is not.
func TestSet(t *testing.T) {
	var set Set[int, item]
	want := make(map[int]item)
	var mapped bool
	for i := range 10_000 {
		one := item{rand.N(3 * most), i + 1}
		if got := set.Get(one.key); got != want[one.key] {
			t.Fatalf("%d: got %v, want %v", one.key, got, want[one.key])
		}
		if i/100%2 == 0 == (rand.N(3) > 0) { // it grows for a while, then it shrinks
			set.Put(one)
			want[one.key] = one
		} else {
			if got := set.Remove(one.key); got != want[one.key] {
				t.Fatalf("%d: removed %v, want %v", one.key, got, want[one.key])
			}
			delete(want, one.key)
		}
		got := make(map[int]item)
		for one := range set.All() {
			got[one.key] = one
			if len(got) == len(want)/2 {
				break
			}
		}
		for one := range set.All() {
			got[one.key] = one
		}
		if !maps.Equal(got, want) || set.Len() != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		mapped = mapped || set.by != nil
		if len(want) == 0 && (set.by != nil || set.list != nil) {
			t.Fatal("an empty set has memory")
		}
	}
	if !mapped {
		t.Error("it was never large")
	}
}

// What a set is for: three things take no more than a list of them.
func TestFewAreSmall(t *testing.T) {
	var set Set[int, item]
	grown := testing.AllocsPerRun(10, func() {
		set = Set[int, item]{}
		for i := range 3 {
			set.Put(item{key: i})
		}
	})
	if set.by != nil || cap(set.list) > 4 || grown > 3 {
		t.Errorf("room for %d, %v allocations", cap(set.list), grown)
	}
}
