package node

import (
	"encoding/binary"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Each end of a link says now and then what time it is by its clock. With that
// it gives back the time that it has heard last, and how long ago that was; so
// the other end knows how long a word and its answer have been on their way, and
// that it has heard all that was said before the answer. For that each is answered
// at once, but for the answers.

// beat queues a sign of life, unless one waits already, or something was dropped:
// there may be room for it, but it would say that all before it has arrived, and
// come before the word that it has not. sign says what time it is.
func (l *link) beat(sign []byte, answer bool) {
	l.mu.Lock()
	if l.beats || l.lossy {
		l.mu.Unlock()
		return
	}
	l.beats = !answer // which says as much, but calls for none
	if !l.toldAt.IsZero() {
		sign = binary.AppendUvarint(sign, uint64(l.told))
		sign = binary.AppendUvarint(sign, uint64(time.Since(l.toldAt)))
	}
	l.mu.Unlock()
	if answer {
		sign = append(sign, 1)
	}
	l.send(recordBeat, sign)
}

// beaten takes a sign of life from a server.
func (p *peers) beaten(l *link, from envelope.ServerID, r *envelope.Reader) {
	here := time.Since(p.n.began)
	process, now := r.String(), nanoseconds(r.Uvarint())
	if r.Err() != nil {
		return
	}
	p.n.clocks.heard(from, process, now, here)
	if from != l.peer { // by way of another server
		return
	}
	l.mu.Lock()
	l.told, l.toldAt = now, time.Now()
	if len(r.Rest()) > 0 {
		sent, held := nanoseconds(r.Uvarint()), nanoseconds(r.Uvarint())
		if took := here - sent - held; took >= 0 && r.Err() == nil {
			l.roundTrip, l.echo = took, sent
		}
	}
	l.mu.Unlock()
	p.listen()
	if answer := len(r.Rest()) > 0; !answer {
		l.beat(p.n.timeHere(), true)
	}
}
