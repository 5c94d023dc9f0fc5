package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/allsparkrt/allspark/client/clienttest"
)

const peerSuffix = ".peer"

func peerHost(id string) string { return id + peerSuffix }

// peerNet carries peer links and can be cut between any two servers. A cut is
// a black hole: what is sent vanishes, ends are not seen, dials time out.
type peerNet struct {
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex
	holes map[[2]string]bool
	jams  map[[2]string]bool
	dead  map[string]bool // servers that nobody is linked to
	moved *sync.Cond      // a jam ended
	wires map[*wire]struct{}
	pumps sync.WaitGroup
}

// wire is one connection, pumped between two pipes.
type wire struct {
	pair [2]string
	ends [2]net.Conn // those of the network
	lost bool        // guarded by peerNet.mu; bytes are missing: it never works again
}

func newPeerNet(n *clienttest.Network) *peerNet {
	p := &peerNet{
		dialer: n.Client().Transport.(*http.Transport).DialContext,
		holes:  make(map[[2]string]bool), jams: make(map[[2]string]bool), dead: make(map[string]bool), wires: make(map[*wire]struct{}),
	}
	p.moved = sync.NewCond(&p.mu)
	return p
}

func pairOf(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

func (n *peerNet) cut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holes[pairOf(a, b)] = cut
}

// jam makes what is sent between two servers wait.
func (n *peerNet) jam(a, b string, jam bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jams[pairOf(a, b)] = jam
	n.moved.Broadcast()
}

// reset breaks all connections of a server, visibly for the others.
func (n *peerNet) reset(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.wires {
		if (w.pair[0] == id || w.pair[1] == id) && !n.holes[w.pair] {
			_ = w.ends[0].Close()
			_ = w.ends[1].Close()
		}
	}
}

// kill is reset, and has the server make no other connections: others would
// still hear of what it does as it ends.
func (n *peerNet) kill(id string) {
	n.mu.Lock()
	n.dead[id] = true
	n.mu.Unlock()
	n.reset(id)
}

// start ends what kill began.
func (n *peerNet) start(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.dead, id)
}

// release ends all jams.
func (n *peerNet) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.jams)
	n.moved.Broadcast()
}

func (n *peerNet) close() {
	n.mu.Lock()
	for w := range n.wires {
		_ = w.ends[0].Close()
		_ = w.ends[1].Close()
	}
	n.mu.Unlock()
	n.pumps.Wait()
}

// dialFrom returns the PeerDial of a server.
func (n *peerNet) dialFrom(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		to, isPeer := strings.CutSuffix(host, peerSuffix)
		if !isPeer {
			return nil, errors.New("not a peer")
		}
		pair := pairOf(from, to)
		n.mu.Lock()
		hole := n.holes[pair]
		n.mu.Unlock()
		if hole {
			select {
			case <-time.After(time.Minute):
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ETIMEDOUT}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		far, err := n.dialer(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		here, near := net.Pipe()
		w := &wire{pair: pair, ends: [2]net.Conn{near, far}}
		n.mu.Lock()
		dead := n.dead[from] || n.dead[to]
		if !dead {
			n.wires[w] = struct{}{}
		}
		n.mu.Unlock()
		if dead {
			_, _ = near.Close(), far.Close()
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		n.pumps.Go(func() { n.pump(w, near, far) })
		n.pumps.Go(func() { n.pump(w, far, near) })
		return here, nil
	}
}

func (n *peerNet) pump(w *wire, from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		n.mu.Lock()
		for n.jams[w.pair] {
			n.moved.Wait()
		}
		w.lost = w.lost || n.holes[w.pair]
		lost := w.lost
		n.mu.Unlock()
		if err != nil {
			if !lost {
				_ = to.Close()
			}
			return
		}
		if !lost {
			_, _ = to.Write(buf[:k]) // an end that has gone does not read
		}
	}
}

// silence is a gossip transport that reaches nobody: servers find each other
// through the store. Gossip is tested in package graph.
type silence struct {
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func newSilence() *silence {
	return &silence{make(chan *memberlist.Packet), make(chan net.Conn)}
}

func (*silence) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(10, 0, 0, 1), 7946, nil
}
func (*silence) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }
func (s *silence) PacketCh() <-chan *memberlist.Packet     { return s.packets }
func (*silence) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, syscall.EHOSTUNREACH
}
func (s *silence) StreamCh() <-chan net.Conn { return s.streams }
func (*silence) Shutdown() error             { return nil }
