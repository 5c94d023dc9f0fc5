package session

import (
	"github.com/allsparkrt/allspark/envelope"
)

// Header is the retained document of a session, as its log has it, and what it
// is about to become.
type Header struct {
	Session envelope.SessionID
	Seq     uint64          // of its entry in the session's log; 0: there is none yet
	By      envelope.NodeID // who has set it, by the name it has in the session
	Payload []byte          // JSON
	Version uint64          // rises by one with each change

	// Op is the id of an entry that is being written with the document Next, by
	// NextBy; "" when there is none.
	Op     string
	NextBy envelope.NodeID
	Next   []byte

	Paid int64 // see [allowance]
}

// First returns the seq of the first entry that is seen in a stay.
func (s Span) First() uint64 {
	if s.Since != 0 {
		return s.Since
	}
	return s.From
}

// Sees reports whether the entry with that seq is seen in a stay.
func (s Span) Sees(seq uint64) bool { return seq >= s.First() && (s.Until == 0 || seq <= s.Until) }
