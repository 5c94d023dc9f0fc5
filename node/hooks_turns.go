package node

import "sync"

// turns has what a sender is told told in the order of its messages. Whether
// somebody is away whom a message is for is found out for some sooner than for
// others; without turns, the acknowledgement of one that waits for that would
// come behind those of later ones to the same address.
type turns struct {
	mu sync.Mutex
	of map[stream][]*turn // guarded by mu; none is empty
}

type turn struct {
	of   stream
	told func() // guarded by mu of its turns; nil: it is not known yet
}

// take gives the next message of a stream its turn.
func (t *turns) take(of stream) *turn {
	mine := &turn{of: of}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[stream][]*turn)
	}
	t.of[of] = append(t.of[of], mine)
	return mine
}

// alone reports whether none of a stream's messages waits.
func (t *turns) alone(of stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.of[of]) == 0
}

// tell calls told when it is the message's turn, and what waited for that.
func (t *turns) tell(mine *turn, told func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine.told = told
	if t.of[mine.of][0] != mine {
		return
	}
	// While it is being told a turn stays the first, so that no later one overtakes it.
	for q := t.of[mine.of]; q[0].told != nil; q = t.of[mine.of] {
		first := q[0].told
		t.mu.Unlock()
		first()
		t.mu.Lock()
		if q = t.of[mine.of][1:]; len(q) == 0 {
			delete(t.of, mine.of)
			return
		}
		t.of[mine.of] = q
	}
}
