package node

import (
	"iter"
	"slices"
)

// followers are the connections that follow a log: mostly one, and that costs no
// more than a pointer. The zero followers is empty.
type followers struct {
	one  *conn  // nil: none or many
	many *crowd // nil: one or none
}

// crowd is many connections: a few in a row, for which a map would take more
// time and memory, or else a set.
type crowd struct {
	few []*conn
	set map[*conn]struct{} // nil: few has them all
}

// maxRow is how many connections stand in a row.
const maxRow = 8

func (f *followers) add(c *conn) {
	switch {
	case f.many != nil:
		f.many.add(c)
	case f.one == nil || f.one == c:
		f.one = c
	default:
		f.one, f.many = nil, &crowd{few: []*conn{f.one, c}}
	}
}

func (f *followers) remove(c *conn) {
	switch {
	case f.one == c:
		f.one = nil
	case f.many != nil:
		if f.many.remove(c); f.many.len() == 0 {
			f.many = nil
		}
	}
}

func (f followers) len() int {
	switch {
	case f.one != nil:
		return 1
	case f.many != nil:
		return f.many.len()
	}
	return 0
}

func (f followers) all() iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		switch {
		case f.one != nil:
			yield(f.one)
		case f.many != nil:
			f.many.each(yield)
		}
	}
}

func (g *crowd) add(c *conn) {
	switch {
	case g.set != nil:
		g.set[c] = struct{}{}
	case slices.Contains(g.few, c):
	case len(g.few) < maxRow:
		g.few = append(g.few, c)
	default:
		g.set = make(map[*conn]struct{}, 2*maxRow)
		for _, other := range append(g.few, c) {
			g.set[other] = struct{}{}
		}
		g.few = nil
	}
}

func (g *crowd) remove(c *conn) {
	delete(g.set, c)
	g.few = slices.DeleteFunc(g.few, func(other *conn) bool { return other == c })
}

func (g *crowd) len() int { return len(g.few) + len(g.set) }

func (g *crowd) each(yield func(*conn) bool) {
	for _, c := range g.few {
		if !yield(c) {
			return
		}
	}
	for c := range g.set {
		if !yield(c) {
			return
		}
	}
}
