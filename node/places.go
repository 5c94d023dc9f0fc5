package node

import (
	"context"
	"sync"
)

// places bounds how many are at something at once. A channel with so many tokens
// does the same; this costs nothing while nobody has to wait. Its methods are
// called with the mutex of its owner held. The zero places is ready.
type places struct {
	taken int
	freed chan struct{} // closed when somebody leaves; nil: nobody waits
}

// take waits for a place, of so many; it gives mu up meanwhile. It reports false
// when ctx ended first.
func (p *places) take(ctx context.Context, mu *sync.Mutex, most int) bool {
	for p.taken >= most {
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		freed := p.freed
		mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
		}
		mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	p.taken++
	return true
}

// leave gives a place back.
func (p *places) leave() {
	p.taken--
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}
