package node

import (
	"context"
	"sync"
)

// lines are who ends with a context: thousands of connections live as long as the
// same one, and a [context.AfterFunc] for each would be a quarter of a kilobyte.
// The zero lines is ready.
type lines struct {
	mu sync.Mutex
	of map[context.Context]*tied // guarded by mu
}

// ender is who is told of the end of a context, and does not wait.
type ender interface{ cancel(why error) }

// tied are those who end with one context. Guarded by lines.mu.
type tied struct {
	all  map[ender]struct{}
	stop func() bool // ends listening to the context
}

// tie has one end with a context.
func (l *lines) tie(to context.Context, one ender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.of[to]
	if at == nil {
		at = &tied{all: make(map[ender]struct{})}
		at.stop = context.AfterFunc(to, func() { l.cut(to, at) })
		if l.of == nil {
			l.of = make(map[context.Context]*tied)
		}
		l.of[to] = at
	}
	at.all[one] = struct{}{}
}

// untie takes back tie.
func (l *lines) untie(from context.Context, one ender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.of[from]
	if at == nil {
		return
	}
	if delete(at.all, one); len(at.all) == 0 {
		at.stop()
		delete(l.of, from)
	}
}

// cut ends those who end with a context.
func (l *lines) cut(with context.Context, at *tied) {
	l.mu.Lock()
	all := at.all
	at.all = nil
	if l.of[with] == at {
		delete(l.of, with)
	}
	l.mu.Unlock()
	for one := range all {
		one.cancel(context.Cause(with))
	}
}
