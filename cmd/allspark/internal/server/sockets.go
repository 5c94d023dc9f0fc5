package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/node"
)

// How many connections of a port may be nobody's: in a handshake, with a call, or
// idle between calls. Those that the node has let in count among max_connections
// instead. Their descriptors are among those that the doctor asks for.
const (
	maxSockets     = 1000 // of the clients' port
	maxPeerSockets = 100  // of the port between servers, and as many links that are being opened
	// addressShare is the part of them that one address may have, so that one
	// cannot keep out all others.
	addressShare = 2
)

// sockets bound the connections of a port that are nobody's. Beyond a bound the
// one that has been idle longest is closed, for which clients are prepared
// (RFC 9112, section 9.5), or if none is, the one that comes.
type sockets struct {
	max     int             // static
	address int             // static; from one address, 0: any number
	proxies gateway.Proxies // static; their addresses are not bound

	mu    sync.Mutex
	known map[net.Conn]*socket // guarded by mu
	from  map[netip.Addr]int   // guarded by mu; how many count by address, the zero one for those not bound
	count int                  // guarded by mu; in all
	idle  list.List            // guarded by mu; of *socket, the longest first

	over, overAddress atomic.Uint64 // closed
}

// socket is a connection. What changes is guarded by its sockets' mu.
type socket struct {
	conn net.Conn
	from netip.Addr    // by which it is bound; the zero one: by none
	idle *list.Element // nil: it is not
	lent bool          // somebody whom the node has let in uses it, so it does not count
}

// newSockets bounds a port's connections to max, and to as many of them from one
// address as may be of clients, if that is bounded.
func newSockets(max, address int, proxies gateway.Proxies) *sockets {
	return &sockets{
		max: max, address: min(address, max/addressShare), proxies: proxies,
		known: make(map[net.Conn]*socket), from: make(map[netip.Addr]int),
	}
}

// watch has them count the connections of a server that does not serve yet.
func (s *sockets) watch(srv *http.Server) {
	srv.ConnState = s.changed
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
}

// connKey is of the network connection in the context of a request.
type connKey struct{}

// changed implements [http.Server.ConnState]. One that was closed for want of room
// is not known any more.
func (s *sockets) changed(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.open(c)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[c]
	switch {
	case k == nil:
	case state == http.StateIdle:
		k.idle = s.idle.PushBack(k)
	case state == http.StateActive:
		s.rouse(k)
	default:
		s.drop(k)
	}
}

// open counts a connection that comes, or closes one.
func (s *sockets) open(c net.Conn) {
	if out := s.enter(c); out != nil {
		hangUp(out)
	}
}

// enter counts a connection, and returns the one that is to be closed for it; nil:
// there is room.
func (s *sockets) enter(c net.Conn) (out net.Conn) {
	from := s.bound(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.address > 0 && from.IsValid() && s.from[from] >= s.address:
		s.overAddress.Add(1)
		out = s.giveUp(func(k *socket) bool { return k.from == from })
	case s.count >= s.max:
		s.over.Add(1)
		out = s.giveUp(func(*socket) bool { return true })
	default:
		s.add(c, from)
		return nil
	}
	if out == nil {
		return c
	}
	s.add(c, from)
	return out
}

// add counts a connection; under mu.
func (s *sockets) add(c net.Conn, from netip.Addr) {
	k := &socket{conn: c, from: from}
	s.known[c] = k
	s.tally(k, 1)
}

// giveUp takes out the connection that has been idle longest of those that may
// be, and returns it; nil if there is none. Under mu.
func (s *sockets) giveUp(may func(*socket) bool) net.Conn {
	for e := s.idle.Front(); e != nil; e = e.Next() {
		if k := e.Value.(*socket); may(k) {
			s.drop(k)
			return k.conn
		}
	}
	return nil
}

// rouse notes that a connection is not idle; under mu.
func (s *sockets) rouse(k *socket) {
	if k.idle != nil {
		s.idle.Remove(k.idle)
		k.idle = nil
	}
}

// drop takes out a connection; under mu.
func (s *sockets) drop(k *socket) {
	s.rouse(k)
	delete(s.known, k.conn)
	if !k.lent {
		s.tally(k, -1)
	}
}

// tally counts a connection that is entered or taken out; under mu.
func (s *sockets) tally(k *socket, by int) {
	s.count += by
	if s.from[k.from] += by; s.from[k.from] == 0 {
		delete(s.from, k.from)
	}
}

// lend notes that the node has let in who asks, so that the connection counts
// among its own until back is called, before the request has been answered.
func (s *sockets) lend(r *http.Request) (back func()) {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[c]
	if k == nil {
		return func() {}
	}
	k.lent = true
	s.tally(k, -1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.known[c] == k {
			k.lent = false
			s.tally(k, 1)
		}
	}
}

// bound returns the address by which a connection is bound; the zero one when it
// is not: a proxy's clients are bound when they say which they are.
func (s *sockets) bound(c net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	addr := at.Addr().Unmap().WithZone("")
	if s.proxies.Trust(addr) {
		return netip.Addr{}
	}
	return node.BoundAddress(addr)
}

// hangUp closes a connection at once: TLS's goodbye may have to wait.
func hangUp(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	_ = c.Close()
}
