package node

import "sync"

// passage is the time between the check that no earlier message was refused
// and the end of the append that follows it at once. A refusal is noted before it
// or after it, never within: the message would overtake the refused one. Its
// methods are called with the mutex of its owner held, but for end.
type passage struct {
	number uint64        // of the message that passes; 0: none
	over   chan struct{} // closed at the end; nil: nobody waits
}

func (p *passage) begin(number uint64) { p.number = number }

// wait returns when no other message than that one passes. An append does not
// block, so it is short; and it must be, for the store's committer may be who waits.
func (p *passage) wait(mu *sync.Mutex, number uint64) {
	for p.number != 0 && p.number != number {
		if p.over == nil {
			p.over = make(chan struct{})
		}
		over := p.over
		mu.Unlock()
		<-over
		mu.Lock()
	}
}

func (p *passage) end(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
	p.number = 0
	if p.over != nil {
		close(p.over)
		p.over = nil
	}
}
