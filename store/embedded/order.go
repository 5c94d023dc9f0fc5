package embedded

import (
	"slices"

	"github.com/allsparkrt/allspark/envelope"
)

// order puts entries in the order of logs. A memtable finds the place of a row
// that follows the one before at once, and else by a walk through its skip list,
// which is the dearest part of storing a message.
type order struct {
	groups map[envelope.Address]int // which group a log's entries are
	group  []int                    // of each entry
	ends   []int                    // of each group; its place while they are put there
	places []int
}

// of returns the places of entries, those of one log after one another as they
// came. It is valid until the next call.
func (o *order) of(entries []entry) []int {
	if o.groups == nil {
		o.groups = make(map[envelope.Address]int)
	}
	defer clear(o.groups) // they keep messages
	o.group, o.ends = o.group[:0], o.ends[:0]
	for i := range entries {
		g, ok := o.groups[entries[i].log]
		if !ok {
			g = len(o.ends)
			o.groups[entries[i].log] = g
			o.ends = append(o.ends, 0)
		}
		o.group = append(o.group, g)
		o.ends[g]++
	}
	sum := 0
	for g, n := range o.ends {
		o.ends[g], sum = sum, sum+n
	}
	o.places = slices.Grow(o.places[:0], len(entries))[:len(entries)]
	for i, g := range o.group {
		o.places[o.ends[g]] = i
		o.ends[g]++
	}
	return o.places
}
