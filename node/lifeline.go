package node

import (
	"context"
	"sync"
	"time"
)

// lifeline is the context of a connection. It ends with the one before it or when
// it is cut, and says why. Package context has the same, for half a kilobyte more:
// here a channel exists only when somebody waits.
type lifeline struct {
	context.Context // the one before it, whose end has to cut it: see lines. Static after construction

	mu    sync.Mutex
	why   error                // guarded by mu; nil: it has not ended
	done  chan struct{}        // guarded by mu; nil: nobody has asked
	after map[*afterEnd]func() // guarded by mu; what is to be called at the end
}

// afterEnd names one call of AfterFunc.
type afterEnd struct{ _ byte }

// cut ends l and reports whether it has not ended before.
func (l *lifeline) cut(why error) bool {
	if why == nil {
		why = context.Canceled
	}
	l.mu.Lock()
	if l.why != nil {
		l.mu.Unlock()
		return false
	}
	l.why = why
	if l.done != nil {
		close(l.done)
	}
	after := l.after
	l.after = nil
	l.mu.Unlock()
	for _, f := range after {
		go f()
	}
	return true
}

// cause returns why l has ended, or nil.
func (l *lifeline) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// Done implements [context.Context].
func (l *lifeline) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.why != nil {
			close(l.done)
		}
	}
	return l.done
}

// Err implements [context.Context].
func (l *lifeline) Err() error {
	if l.cause() != nil {
		return context.Canceled
	}
	return nil
}

// within returns a context that ends with l, or after d.
func (l *lifeline) within(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(l.Context, d) // not behind l, which would have to make its channel
	stop := l.AfterFunc(cancel)
	return ctx, func() { stop(); cancel() }
}

// AfterFunc is what package context looks for, to derive contexts without a
// goroutine for each.
func (l *lifeline) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		go f()
		return func() bool { return false }
	}
	if l.after == nil {
		l.after = make(map[*afterEnd]func())
	}
	name := new(afterEnd)
	l.after[name] = f
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, waits := l.after[name]
		if delete(l.after, name); len(l.after) == 0 {
			l.after = nil
		}
		return waits
	}
}
