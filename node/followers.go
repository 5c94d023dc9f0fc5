package node

import "iter"

// followers are the connections that follow a log: mostly one, and that costs no
// map. The zero followers is empty.
type followers struct {
	one  *conn              // nil: none or many
	many map[*conn]struct{} // nil: one or none
}

func (f *followers) add(c *conn) {
	switch {
	case f.many != nil:
		f.many[c] = struct{}{}
	case f.one == nil || f.one == c:
		f.one = c
	default:
		f.many = map[*conn]struct{}{f.one: {}, c: {}}
		f.one = nil
	}
}

func (f *followers) remove(c *conn) {
	if f.one == c {
		f.one = nil
	}
	if delete(f.many, c); len(f.many) == 0 {
		f.many = nil
	}
}

func (f followers) len() int {
	if f.one != nil {
		return 1
	}
	return len(f.many)
}

func (f followers) all() iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		if f.one != nil {
			yield(f.one)
			return
		}
		for c := range f.many {
			if !yield(c) {
				return
			}
		}
	}
}
