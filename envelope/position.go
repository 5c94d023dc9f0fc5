package envelope

// Position is a place in a log: behind the entry with that seq. A list of them has
// each log once; where there are one or two, as in an acknowledgement, it takes a
// fraction of a map's memory.
type Position struct {
	Log Address
	Seq uint64
}

// PositionsOf returns the positions of a map, in any order.
func PositionsOf(m map[Address]uint64) []Position {
	list := make([]Position, 0, len(m))
	for log, seq := range m {
		list = append(list, Position{log, seq})
	}
	return list
}

// ByLog returns a list's positions as a map.
func ByLog(list []Position) map[Address]uint64 {
	m := make(map[Address]uint64, len(list))
	for _, p := range list {
		m[p.Log] = p.Seq
	}
	return m
}
