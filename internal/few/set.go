// Package few has sets that mostly hold a few things each. There may be several for
// each of ten thousands of connections, and a map would take more memory than what is in it.
package few

import (
	"iter"
	"slices"
)

// most is how many things a set holds without a map.
const most = 8

// Keyed is what a set holds: things that know what they are found by.
type Keyed[K comparable] interface{ Key() K }

// Set holds things, one for each key. The zero Set is empty. It is not safe for
// concurrent use.
type Set[K comparable, V Keyed[K]] struct {
	list []V
	by   map[K]V // nil: list has them all
}

// Get returns the thing with a key; the zero V when there is none.
func (s *Set[K, V]) Get(key K) V {
	if s.by != nil {
		return s.by[key]
	}
	if i := s.index(key); i >= 0 {
		return s.list[i]
	}
	var none V
	return none
}

// index returns the place of a key in the list, or -1.
func (s *Set[K, V]) index(key K) int {
	for i := range s.list {
		if s.list[i].Key() == key {
			return i
		}
	}
	return -1
}

// Put enters a thing, in place of the one with its key if there is one.
func (s *Set[K, V]) Put(one V) {
	if s.by != nil {
		s.by[one.Key()] = one
	} else if i := s.index(one.Key()); i >= 0 {
		s.list[i] = one
	} else if len(s.list) < most {
		s.list = append(s.list, one)
	} else {
		s.by = make(map[K]V, 2*most)
		for _, other := range append(s.list, one) {
			s.by[other.Key()] = other
		}
		s.list = nil
	}
}

// Remove takes out the thing with a key and returns it; the zero V when there is none.
func (s *Set[K, V]) Remove(key K) V {
	one := s.Get(key)
	if delete(s.by, key); len(s.by) == 0 {
		s.by = nil
	}
	if i := s.index(key); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
	}
	if len(s.list) == 0 {
		s.list = nil
	}
	return one
}

// Len returns how many things there are.
func (s *Set[K, V]) Len() int { return len(s.list) + len(s.by) }

// All goes through the things, in any order. None is entered or taken out meanwhile.
func (s *Set[K, V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, one := range s.list {
			if !yield(one) {
				return
			}
		}
		for _, one := range s.by {
			if !yield(one) {
				return
			}
		}
	}
}
