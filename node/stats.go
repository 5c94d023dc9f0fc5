package node

import (
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/envelope"
)

// Stats counts what has happened since the start. Every message that is not
// delivered where it might have been adds to one of the Dropped counters.
type Stats struct {
	Connected, Disconnected, Replaced atomic.Uint64 // connections
	RefusedFull                       atomic.Uint64 // connections beyond the limit
	ClosedSlow                        atomic.Uint64 // connections that made no progress
	ClosedRevoked                     atomic.Uint64 // connections whose credentials were revoked
	FramesIn, FramesOut               atomic.Uint64

	Stored    atomic.Uint64 // entries appended here, for other servers too
	Volatile  atomic.Uint64 // volatile and latest messages taken
	Delivered atomic.Uint64 // live messages handed to local readers
	Replayed  atomic.Uint64 // entries read from logs for readers that were behind
	Conflated atomic.Uint64 // latest messages replaced by newer ones

	DroppedAway   atomic.Uint64 // volatile, nobody connected
	DroppedSlow   atomic.Uint64 // volatile and latest, the reader's window was full
	DroppedRate   atomic.Uint64 // volatile and without an id, their sender's limit was reached
	DroppedNotice atomic.Uint64 // receipts, marks and presence, the reader's window was full
	SightingsLost atomic.Uint64 // times somebody was connected, not noted because the store was away for long
	Expired       atomic.Uint64 // messages whose time to live had passed when it was their turn

	Receipts          atomic.Uint64 // told to senders who had asked
	ReceiptsForgotten atomic.Uint64 // messages that asked, beyond what a connection remembers; their log is read when it matters
	ReceiptsUnknown   atomic.Uint64 // entries not looked at for receipts, because they were too many at once

	ReadErrors atomic.Uint64
	Sweeps     atomic.Uint64 // comparisons of positions with the heads
	Repaired   atomic.Uint64 // readers that a sweep or a peer had to tell of entries they were not sent

	PeerFrames, PeerRecords atomic.Uint64 // sent to other servers
	PeerDropped             atomic.Uint64 // records that found a link's queue full
	PeerUnreachable         atomic.Uint64 // records for a server that no path led to
	PeerRelayed             atomic.Uint64 // records passed on for others
	Forwarded               atomic.Uint64 // appends handed to the server that owns the log
	TakenBack               atomic.Uint64 // of these, appended here because the owner was lost
	PeerMissed              atomic.Uint64 // messages for addresses nobody has here

	Trimmed    atomic.Uint64 // entries removed by retention
	TidyErrors atomic.Uint64 // logs that could not be looked at for it

	mu       sync.Mutex
	refusals map[envelope.Code]uint64 // guarded by mu
}

func (s *Stats) refused(code envelope.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals == nil {
		s.refusals = make(map[envelope.Code]uint64)
	}
	s.refusals[code]++
}

// Refused implements [gateway.Core].
func (n *Node) Refused(code envelope.Code) { n.stats.refused(code) }

// Refusals returns how often each code was given.
func (s *Stats) Refusals() map[envelope.Code]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[envelope.Code]uint64, len(s.refusals))
	for code, n := range s.refusals {
		out[code] = n
	}
	return out
}

// Stats returns the node's counters.
func (n *Node) Stats() *Stats { return &n.stats }

// Connections returns how many clients are connected.
func (n *Node) Connections() int { return n.conns.len() }

// PeerLinks returns how many servers a link is open to.
func (n *Node) PeerLinks() int { return len(n.peers.linked()) }

// CursorsLost returns how many acknowledgements were dropped unsaved.
func (n *Node) CursorsLost() uint64 { return n.inbox.Lost() }
