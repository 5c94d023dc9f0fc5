package node

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

// PeerPath is where a server takes peer links.
const PeerPath = "/peer"

// Between two servers the one with the smaller id dials; the other one does
// when it has been without a link for this long.
const dialAfter = 3 * time.Second

// A server that starts is not ready before it has links to all it knows of, or
// has tried for this long: without a link it reaches nobody's clients.
const linkGrace = 5 * time.Second

// dialPause is how long it takes at most until the second attempt to open a
// link. The pause doubles with each, up to [Timing.PeerRetry].
const dialPause = 100 * time.Millisecond

// peers keeps one link to every other living server and says things over them.
type peers struct {
	n       *Node
	key     []byte
	client  *http.Client
	wakeup  chan struct{}
	buffers sync.Pool // of *[]byte, for records
	hearing hearing

	// Of serversChanged: the records of who was alive when it was called last, and the
	// last one of each that ever was.
	alive, seen map[envelope.ServerID]graph.Record

	mu      sync.Mutex
	links   map[envelope.ServerID]*link    // guarded by mu
	dialing map[envelope.ServerID]struct{} // guarded by mu
	failed  map[envelope.ServerID]int      // guarded by mu; attempts in a row
	revived map[envelope.ServerID][]byte   // guarded by mu; what to say to who was taken for dead, until its record counts it
	running sync.WaitGroup
	ctx     context.Context // guarded by mu; nil after run has ended
	started chan struct{}   // closed when run has begun
	settled chan struct{}   // closed when the first links are up, or do not come
}

func newPeers(n *Node) (*peers, error) {
	key, err := peerKey(n.cfg.MeshKey)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: n.cfg.PeerTLS, DialContext: n.cfg.PeerDial} // no proxy from the environment: peers are addressed directly
	return &peers{
		n: n, key: key,
		client:  &http.Client{Transport: transport},
		wakeup:  make(chan struct{}, 1),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
		seen:    make(map[envelope.ServerID]graph.Record),
		revived: make(map[envelope.ServerID][]byte),
		links:   make(map[envelope.ServerID]*link),
		dialing: make(map[envelope.ServerID]struct{}),
		failed:  make(map[envelope.ServerID]int),
		started: make(chan struct{}),
		settled: make(chan struct{}),
	}, nil
}

// wake makes run look at the servers now.
func (p *peers) wake() {
	poke(p.wakeup)
}

// serversChanged is called after servers have come or gone, never twice at a time.
// One that is taken for dead is told nothing. It may be back, with all its
// connections and perhaps its link to here as they were; then it has missed
// something, and is to know that it was given up.
func (p *peers) serversChanged() {
	alive := make(map[envelope.ServerID]graph.Record)
	for _, r := range p.n.graph.Servers() {
		alive[r.ID] = r
		came, was := p.alive[r.ID].Boot != r.Boot, p.seen[r.ID]
		switch {
		case came && was.Boot == r.Boot:
			// With the count that it had then: others may have told it meanwhile.
			p.tellRevived(r.ID, binary.AppendUvarint(envelope.AppendString(nil, r.Boot), was.Revivals))
		case came && p.link(r.ID) != nil:
			p.send(r.ID, recordLossy, nil)
		}
		if was.Boot != r.Boot || was.Revivals != r.Revivals {
			p.mu.Lock()
			delete(p.revived, r.ID) // it knows
			p.mu.Unlock()
		}
		p.seen[r.ID] = r
	}
	p.alive = alive
	p.wake()
}

// tellRevived tells a server that it was taken for dead: now, and over each new link
// until its record counts that.
func (p *peers) tellRevived(to envelope.ServerID, body []byte) {
	p.mu.Lock()
	p.revived[to] = body
	p.mu.Unlock()
	p.send(to, recordLossy, body)
}

// linked returns the servers there is a link to.
func (p *peers) linked() []envelope.ServerID {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]envelope.ServerID, 0, len(p.links))
	for id := range p.links {
		ids = append(ids, id)
	}
	return ids
}

func (p *peers) link(id envelope.ServerID) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[id]
}

// run opens links to the living servers until ctx ends, and returns when all
// links have ended.
func (p *peers) run(ctx context.Context) {
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	close(p.started)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	missing := make(map[envelope.ServerID]time.Time)
	began, settled := time.Now(), false
	for {
		p.n.owners.refresh()
		p.dialMissing(ctx, missing)
		p.listen()
		if !settled && (len(missing) == 0 || time.Since(began) >= linkGrace) {
			settled = true
			close(p.settled)
		}
		select {
		case <-ticker.C:
		case <-p.wakeup:
		case <-ctx.Done():
			p.mu.Lock()
			p.ctx = nil // nobody starts any more
			p.mu.Unlock()
			p.running.Wait()
			return
		}
	}
}

// dialMissing dials the servers without a link. missing remembers since when.
func (p *peers) dialMissing(ctx context.Context, missing map[envelope.ServerID]time.Time) {
	self := p.n.cfg.Graph.Self.ID
	there := make(map[envelope.ServerID]bool)
	for _, r := range p.n.graph.Servers() {
		if r.ID == self || r.PeerURL == "" {
			continue
		}
		there[r.ID] = true
		if p.link(r.ID) != nil {
			delete(missing, r.ID)
			continue
		}
		since, known := missing[r.ID]
		if !known {
			since = time.Now()
			missing[r.ID] = since
		}
		if self < r.ID || time.Since(since) >= dialAfter {
			p.dial(ctx, r)
		}
	}
	for id := range missing {
		if !there[id] {
			delete(missing, id)
			p.forget(id)
		}
	}
	p.n.clocks.keep(there)
}

func (p *peers) forget(id envelope.ServerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failed, id)
}

// dial opens a link to a server, unless somebody is at it.
func (p *peers) dial(ctx context.Context, r graph.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, busy := p.dialing[r.ID]; busy {
		return
	}
	p.dialing[r.ID] = struct{}{}
	p.running.Go(func() {
		err := p.dialOnce(ctx, r)
		if err != nil && ctx.Err() == nil {
			level := slog.LevelDebug
			if errors.Is(err, errPeerAuth) {
				level = slog.LevelWarn // it will not mend itself
			}
			p.n.log.Log(ctx, level, "no peer link", "peer", r.ID, "err", err)
			select {
			case <-time.After(p.pause(r.ID)):
			case <-ctx.Done():
			}
		}
		p.mu.Lock()
		delete(p.dialing, r.ID)
		p.mu.Unlock()
		p.wake()
	})
}

// pause returns how long to wait after another attempt that failed.
func (p *peers) pause(id envelope.ServerID) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := min(p.n.timing.PeerRetry, dialPause<<min(p.failed[id], 16))
	p.failed[id]++
	return rand.N(longest) + 1
}

// dialOnce opens a link and returns when it is over, or could not be opened.
func (p *peers) dialOnce(ctx context.Context, r graph.Record) error {
	u, err := url.Parse(r.PeerURL)
	if err != nil {
		return err
	}
	if p.n.cfg.PeerTLS != nil && u.Scheme != "wss" {
		return errors.New("it offers a plain link only, and certificates are configured here")
	}
	shaking, cancel := context.WithTimeout(ctx, peerHandshake)
	defer cancel()
	ws, _, err := websocket.Dial(shaking, u.JoinPath(PeerPath).String(), &websocket.DialOptions{
		HTTPClient: p.client, Subprotocols: []string{peerProtocol},
	})
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	peer, err := p.introduceDial(shaking, ws, r.ID)
	if err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.dialing, r.ID) // if this link breaks the next may be dialled
	p.mu.Unlock()
	return p.serve(ctx, newLink(peer, ws, &p.n.flusher))
}

// ServePeer answers the peer end point with a link.
func (n *Node) ServePeer(w http.ResponseWriter, r *http.Request) {
	p := n.peers
	select {
	case <-p.started: // in a moment: others may know of us before Run is called
	case <-r.Context().Done():
		return
	}
	p.mu.Lock()
	ctx := p.ctx
	if ctx == nil {
		p.mu.Unlock()
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()

	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{peerProtocol}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	shaking, cancel := context.WithTimeout(ctx, peerHandshake)
	defer cancel()
	peer, err := p.introduceAccept(shaking, ws)
	if err != nil {
		n.log.Warn("peer link refused", "from", r.RemoteAddr, "err", err)
		return
	}
	if err := p.serve(ctx, newLink(peer, ws, &p.n.flusher)); err != nil && ctx.Err() == nil {
		n.log.Debug("peer link ended", "peer", peer.ID, "err", err)
	}
}

// serve makes l the link to its peer, in place of an older one, and returns
// when it is over.
func (p *peers) serve(ctx context.Context, l *link) error {
	p.mu.Lock()
	old := p.links[l.peer]
	p.links[l.peer] = l
	delete(p.failed, l.peer)
	revived := p.revived[l.peer]
	p.mu.Unlock()
	if revived != nil {
		p.queue(l, recordLossy, revived)
	}
	if old != nil {
		_ = old.ws.CloseNow()
	}
	p.n.log.Info("peer link up", "peer", l.peer)
	p.n.owners.refresh()
	p.wake() // run waits for all links
	p.resync()

	err := l.run(ctx, p.n.timing.PeerBeat, p.n.timeHere, &p.n.stats, func(frame []byte) error { return p.receive(l, frame) })

	p.mu.Lock()
	current := p.links[l.peer] == l
	if current {
		delete(p.links, l.peer)
	}
	p.mu.Unlock()
	l.close()
	p.n.owners.refresh()
	p.n.owners.lost(l)
	if current {
		p.n.log.Info("peer link down", "peer", l.peer, "err", err)
		p.resync()
		p.send(l.peer, recordLossy, nil) // by way of another server: a queue has gone with the link
	}
	p.wake()
	return err
}

// resync is what a link that came or went calls for: hints may have been lost
// in between: about edges, about messages, about who has come and gone.
func (p *peers) resync() {
	p.hearing.interrupt(time.Since(p.n.began))
	p.n.graph.FlushRoutes()
	p.n.sweeps.request()
	p.n.watchers.lookAgain(lookSoon)
}

// askUnlinked asks the servers without a link for all their connections. What
// they say goes by way of others, where it can be lost unnoticed by both ends.
func (p *peers) askUnlinked() {
	for _, r := range p.n.graph.Servers() {
		if r.ID != p.n.cfg.Graph.Self.ID && p.link(r.ID) == nil {
			p.send(r.ID, recordRoll, nil)
		}
	}
}

// deliver sends a message for an address to servers. It is encoded once.
func (p *peers) deliver(to []envelope.ServerID, addr envelope.Address, env *envelope.Envelope) {
	if len(to) == 0 {
		return
	}
	buf := p.buffers.Get().(*[]byte)
	*buf = appendDelivery((*buf)[:0], addr, env)
	for _, id := range to {
		p.send(id, recordDeliver, *buf)
	}
	if cap(*buf) <= maxSpare {
		p.buffers.Put(buf)
	}
}

// refresh tells a server that a device may have joined or left a session.
func (p *peers) refresh(to envelope.ServerID, device envelope.NodeID, id envelope.SessionID) {
	p.send(to, recordRefresh, envelope.AppendString(envelope.AppendString(nil, string(device)), string(id)))
}

// announce tells every server that this one has new edges for addresses.
func (p *peers) announce(addrs []envelope.Address) {
	if len(addrs) == 0 {
		return
	}
	p.n.watchers.hint(addrs...)
	p.broadcast(recordEdges, addressesBody(addrs...))
}

// gone tells every server that this one has no edges for addresses any more.
func (p *peers) gone(addrs []envelope.Address) {
	p.n.watchers.hint(addrs...)
	p.broadcast(recordGone, addressesBody(addrs...))
}

// broadcast sends a record to all other servers.
func (p *peers) broadcast(kind byte, body []byte) {
	for _, r := range p.n.graph.Servers() {
		if r.ID != p.n.cfg.Graph.Self.ID {
			p.send(r.ID, kind, body)
		}
	}
}

// send queues a record for a server: over its link, or through a server that
// has one. It keeps nothing of body.
func (p *peers) send(to envelope.ServerID, kind byte, body []byte) {
	if l := p.link(to); l != nil {
		p.queue(l, kind, body)
		return
	}
	p.relay(relay{to: to, kind: kind, body: body})
}

func (p *peers) queue(l *link, kind byte, body []byte) {
	if !l.send(kind, body) {
		p.n.stats.PeerDropped.Add(1)
	}
}

// relay passes a record on towards its server.
func (p *peers) relay(r relay) {
	r.via = append(r.via[:len(r.via):len(r.via)], p.n.cfg.Graph.Self.ID)
	next, ok := p.n.graph.NextHop(r.to, func(id envelope.ServerID) bool { return !r.passed(id) && p.link(id) != nil })
	l := p.link(next)
	if !ok || l == nil || len(r.via) > maxHops {
		p.n.stats.PeerUnreachable.Add(1)
		return
	}
	if len(r.via) > 1 {
		p.n.stats.PeerRelayed.Add(1)
	}
	p.queue(l, recordRelay, r.encode())
}
