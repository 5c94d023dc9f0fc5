package client

import (
	"container/heap"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// defaultRetry is the wait after a refusal that names none.
const defaultRetry = 250 * time.Millisecond

// outbox keeps the messages that are not answered yet. It decides what is sent
// next, and does no I/O. All of it is guarded by Client.mu.
//
// The order of messages to one destination holds across refusals and
// reconnects. When the server refuses a message for the time being, its lane is
// held: nothing more is sent to that destination until everything on its way
// there is answered (the server refuses what came behind the refused message)
// and the wait is over; then the refused and the held messages leave in the
// order in which the user gave them.
type outbox struct {
	given uint64 // messages added so far
	byID  map[string]*pending
	lanes map[envelope.Address]*lane
	held  map[*lane]struct{}
	ready readyHeap // may be sent now, unless their lane is held
}

// pending is one message that is not answered yet.
type pending struct {
	n     uint64 // place in the order of the user's calls
	id    string // "" when no answer is expected
	dest  envelope.Address
	lane  *lane // nil when no answer is expected
	frame []byte
	class envelope.Class
	sent  bool // on its way, on the present connection
	done  func(Ack, error)
}

// lane is what is known of one destination.
type lane struct {
	size     int // messages not answered
	inFlight int // of these, on their way
	held     bool
	until    time.Time  // end of the wait; with held
	waiting  []*pending // refused, or kept back; with held
}

func newOutbox() outbox {
	return outbox{
		byID:  make(map[string]*pending),
		lanes: make(map[envelope.Address]*lane),
		held:  make(map[*lane]struct{}),
	}
}

// add takes a message over. Its id is not that of another one in the outbox.
func (o *outbox) add(p *pending) {
	o.given++
	p.n = o.given
	if p.id == "" {
		heap.Push(&o.ready, p)
		return
	}
	l := o.lanes[p.dest]
	if l == nil {
		l = new(lane)
		o.lanes[p.dest] = l
	}
	l.size++
	p.lane = l
	o.byID[p.id] = p
	if l.held {
		l.waiting = append(l.waiting, p)
		return
	}
	heap.Push(&o.ready, p)
}

// next returns the message to write now, or nil. One without an id is out of
// the outbox then.
func (o *outbox) next() *pending {
	for len(o.ready) > 0 {
		p := heap.Pop(&o.ready).(*pending)
		if p.lane == nil {
			return p
		}
		if p.lane.held {
			p.lane.waiting = append(p.lane.waiting, p)
			continue
		}
		p.sent = true
		p.lane.inFlight++
		return p
	}
	return nil
}

// answered removes the message that the server has taken or refused for good,
// and returns it; nil when there is none on its way.
func (o *outbox) answered(id string) *pending {
	p := o.byID[id]
	if p == nil || !p.sent {
		return nil
	}
	p.lane.inFlight--
	o.remove(p)
	return p
}

// refused puts a message back that the server wants to have later.
func (o *outbox) refused(id string, until time.Time) {
	p := o.byID[id]
	if p == nil || !p.sent {
		return
	}
	l := p.lane
	p.sent = false
	l.inFlight--
	if !l.held || until.After(l.until) {
		l.until = until
	}
	l.held = true
	o.held[l] = struct{}{}
	l.waiting = append(l.waiting, p)
}

// release ends the holds that are over. It returns when the next one may be,
// or the zero time when that takes an answer first, or there is none.
func (o *outbox) release(now time.Time) (next time.Time) {
	for l := range o.held {
		switch {
		case l.inFlight > 0:
		case now.Before(l.until):
			if next.IsZero() || l.until.Before(next) {
				next = l.until
			}
		default:
			for _, p := range l.waiting {
				heap.Push(&o.ready, p)
			}
			l.waiting, l.held = nil, false
			delete(o.held, l)
		}
	}
	return next
}

// disconnected makes everything ready to be sent again from the first on, and
// returns the messages that are not to be: those that are not stored.
func (o *outbox) disconnected() (lost []*pending) {
	for _, p := range o.ready {
		if p.lane == nil {
			lost = append(lost, p)
		}
	}
	o.ready = o.ready[:0]
	clear(o.held)
	for _, l := range o.lanes {
		l.inFlight, l.held, l.waiting = 0, false, nil
	}
	for _, p := range o.byID {
		if p.class != envelope.Durable {
			o.remove(p)
			lost = append(lost, p)
			continue
		}
		p.sent = false
		o.ready = append(o.ready, p)
	}
	heap.Init(&o.ready)
	return lost
}

// empty removes and returns everything.
func (o *outbox) empty() []*pending {
	all := o.disconnected()
	for _, p := range o.byID {
		all = append(all, p)
	}
	*o = newOutbox()
	return all
}

func (o *outbox) remove(p *pending) {
	delete(o.byID, p.id)
	if p.lane.size--; p.lane.size == 0 {
		delete(o.held, p.lane)
		delete(o.lanes, p.dest)
	}
}

// readyHeap gives the message first that the user gave first.
type readyHeap []*pending

func (h readyHeap) Len() int           { return len(h) }
func (h readyHeap) Less(i, j int) bool { return h[i].n < h[j].n }
func (h readyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *readyHeap) Push(x any)        { *h = append(*h, x.(*pending)) }
func (h *readyHeap) Pop() any {
	old := *h
	last := len(old) - 1
	p := old[last]
	old[last] = nil
	*h = old[:last]
	return p
}
