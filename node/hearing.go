package node

import (
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// hearing is how far this server has heard what the others tell. A server that
// changes a membership tells all others before it answers whoever asked for the
// change. So a membership that was read while everything told has arrived here
// without a break is what the store says, until something else is told.
//
// Links are FIFO, and a sign of life gives back the time by our clock that its
// sender had heard last: all that it had told by then has arrived before. A link
// that comes or goes, or says that it has dropped something, is a break, and so is
// a living server without a link. While others may take this server for dead they
// tell it nothing; who finds it alive again says so as if it had dropped something,
// see [peers.serversChanged].
type hearing struct {
	mu     sync.Mutex
	since  time.Duration // guarded by mu; the last break, since the node began
	upto   time.Duration // guarded by mu; all that was told until then has arrived
	broken bool          // guarded by mu; some server has no link
}

// A server that starts is not ready before it has links to all that it found in
// the store, or [linkGrace] has passed. So whoever has read the store this
// recently knows all servers that may tell something.
const knowsServers = linkGrace - time.Second

// When it is so long ago that everything is known to have arrived, that is a break
// as well. With a sign of life each second it is 2 s at most.
const unheard = 3 * time.Second

// heard returns since when, without a break, and up to when everything that
// other servers have told has arrived here; both since the node began.
func (h *hearing) heard() (since, upto time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.upto
}

// interrupt notes a break.
func (h *hearing) interrupt(now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = max(h.since, now)
}

// measure notes up to when everything has arrived; 0: nobody knows.
func (h *hearing) measure(now, upto time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	broken := upto == 0 || now-upto >= unheard
	if broken || h.broken {
		h.since = now
	}
	h.upto, h.broken = upto, broken
}

// listen finds out how far everything has been heard.
func (p *peers) listen() {
	upto := min( // before the servers are asked for
		p.n.graph.Polled().Add(knowsServers).Sub(p.n.began),
		p.n.graph.Renewed().Add(p.n.graph.Tolerance()-unheard).Sub(p.n.began),
	)
	for _, r := range p.n.graph.Servers() {
		if r.ID != p.n.cfg.Graph.Self.ID {
			upto = min(upto, p.echoed(r.ID))
		}
	}
	p.hearing.measure(time.Since(p.n.began), max(upto, 0))
}

// echoed returns the time by our clock that a server has given back; 0: none.
func (p *peers) echoed(id envelope.ServerID) time.Duration {
	l := p.link(id)
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.echo
}

// heard is what package session asks, see [session.Hearing].
func (n *Node) heard() (since, upto time.Time) {
	from, to := n.peers.hearing.heard()
	return n.began.Add(from), n.began.Add(to)
}
