package node

import "sync"

// late counts the events that the outbox has refused and that wait in the queue
// for it, by what they are about: a later one must not overtake them.
type late struct {
	mu sync.Mutex
	of map[string]int // guarded by mu; none is 0
}

func (l *late) add(subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[string]int)
	}
	l.of[subject]++
}

func (l *late) remove(subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[subject]--; l.of[subject] <= 0 {
		delete(l.of, subject)
	}
}

func (l *late) has(subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[subject] > 0
}
