package node

import "iter"

// followers are the places of this server's connections in one log, the oldest first.
// The places hold the list together: it takes no memory of its own, however many they
// are, and who hands a message to all has each one's place at hand. The zero followers
// is empty.
type followers struct{ first, last *follow }

// add adds a place that is in no list: at the end, where those are that have not been
// told yet where the log begins.
func (l *followers) add(f *follow) {
	if f.prev = l.last; f.prev != nil {
		f.prev.next = f
	} else {
		l.first = f
	}
	l.last = f
}

// remove takes out a place that is in the list.
func (l *followers) remove(f *follow) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.last = f.prev
	}
	f.prev, f.next = nil, nil
}

func (l followers) none() bool { return l.first == nil }

func (l followers) all() iter.Seq[*follow] {
	return func(yield func(*follow) bool) {
		for f := l.first; f != nil && yield(f); f = f.next {
		}
	}
}
