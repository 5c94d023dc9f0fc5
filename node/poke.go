package node

// poke wakes whoever waits on c, a channel with room for one. Of several calls
// before it looks it sees one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
