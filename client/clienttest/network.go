package clienttest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// Network connects HTTP clients with servers by host name over [net.Pipe], so
// that it works in a testing/synctest bubble. The zero value is ready.
type Network struct {
	mu    sync.Mutex
	hosts map[string]*listener
}

// Listen returns a listener for "host:port".
func (n *Network) Listen(addr string) net.Listener {
	l := &listener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = make(map[string]*listener)
	}
	n.hosts[addr] = l
	return l
}

// Client returns an HTTP client of the network; it keeps no idle connections.
func (n *Network) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.dial}}
}

func (n *Network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

type listener struct {
	addr   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.addr) }

type addr string

func (addr) Network() string  { return "pipe" }
func (a addr) String() string { return string(a) }
