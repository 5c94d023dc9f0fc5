package embedded

import (
	"cmp"
	"slices"
)

// order puts entries in the order of logs. A memtable finds the place of a row
// that follows the one before at once, and else by a walk through its skip list,
// which is the dearest part of storing a message.
type order struct{ places []int }

// of returns the places of entries, those of one log after one another as they
// came. It is valid until the next call.
func (o *order) of(entries []entry) []int {
	o.places = o.places[:0]
	for i := range entries {
		o.places = append(o.places, i)
	}
	slices.SortFunc(o.places, func(i, j int) int {
		return cmp.Or(entries[i].log.Compare(entries[j].log), i-j)
	})
	return o.places
}
