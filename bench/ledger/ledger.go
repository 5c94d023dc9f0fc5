// Package ledger keeps account of messages: what was lost, came twice or out of
// order.
package ledger

import "sync"

// Stream is the messages from one device to another. They are numbered from 1
// in the order of sending.
type Stream struct{ From, To int }

// Ledger keeps account of every message. Its methods are safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	streams map[Stream]*stream
	count   Verdict // but Lost
}

type stream struct {
	sent     int
	taken    Bits
	received Bits
	last     int // highest number received
}

// Verdict is what the ledger shows.
type Verdict struct {
	Sent       int `json:"sent"`
	Taken      int `json:"acknowledged"`
	Refused    int `json:"refused"`      // for good, or without an answer
	Received   int `json:"received"`     // each message once
	Lost       int `json:"lost"`         // acknowledged and not received
	Duplicated int `json:"duplicated"`   // received again
	OutOfOrder int `json:"out_of_order"` // received after a later one of its stream
	Strange    int `json:"strange"`      // received though never sent
}

// Add adds another account.
func (v *Verdict) Add(o Verdict) {
	v.Sent += o.Sent
	v.Taken += o.Taken
	v.Refused += o.Refused
	v.Received += o.Received
	v.Lost += o.Lost
	v.Duplicated += o.Duplicated
	v.OutOfOrder += o.OutOfOrder
	v.Strange += o.Strange
}

// Good reports whether everything acknowledged was received once and in order.
func (v Verdict) Good() bool {
	return v.Lost == 0 && v.Duplicated == 0 && v.OutOfOrder == 0 && v.Strange == 0
}

// New returns an empty ledger.
func New() *Ledger { return &Ledger{streams: make(map[Stream]*stream)} }

// Send counts a message as sent, and returns its number in its stream.
func (l *Ledger) Send(s Stream) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.streams[s]
	if st == nil {
		st = new(stream)
		l.streams[s] = st
	}
	st.sent++
	l.count.Sent++
	return st.sent
}

// Take counts a message as acknowledged: from now on it must arrive.
func (l *Ledger) Take(s Stream, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st := l.streams[s]; st != nil && st.taken.Set(n) {
		l.count.Taken++
	}
}

// Refuse counts a message that may arrive or not.
func (l *Ledger) Refuse(Stream, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Refused++
}

// Receive counts a message as received.
func (l *Ledger) Receive(s Stream, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.streams[s]
	if st == nil || n < 1 || n > st.sent {
		l.count.Strange++
		return
	}
	if !st.received.Set(n) {
		l.count.Duplicated++
		return
	}
	l.count.Received++
	if n < st.last {
		l.count.OutOfOrder++
		return
	}
	st.last = n
}

// Progress returns how many messages were acknowledged and received so far.
func (l *Ledger) Progress() (taken, received int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count.Taken, l.count.Received
}

// Verdict returns the account so far; what is still on its way is lost in it.
func (l *Ledger) Verdict() Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.count
	for _, st := range l.streams {
		v.Lost += st.taken.without(&st.received)
	}
	return v
}
