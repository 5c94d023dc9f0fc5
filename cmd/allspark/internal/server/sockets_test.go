package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/gateway"
)

// from is a network connection of some address.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr { return f }
func (f *from) Network() string      { return "tcp" }
func (f *from) String() string       { return f.addr }
func (f *from) Close() error         { f.closed = true; return nil }

// The bounds of 4 in all and 2 of one address. Each step names a connection by
// the address and a letter, and what becomes of it; "lend" and "back" are of one
// that the node lets in.
func TestSocketBounds(t *testing.T) {
	const a, b, c = "203.0.113.1:1", "203.0.113.2:1", "203.0.113.3:1"
	for name, test := range map[string]struct {
		steps                string
		over, overAddress, n int
		closed               string // letters
	}{
		"room":                          {"+w" + a + " +x" + a + " +y" + b + " +z" + b, 0, 0, 4, ""},
		"who comes last":                {"+w" + a + " +x" + a + " +y" + b + " +z" + b + " +v" + c, 1, 0, 4, "v"},
		"the one that is idle":          {"+w" + a + " +x" + a + " +y" + b + " +z" + b + " iy +v" + c, 1, 0, 4, "y"},
		"the one that is idle longest":  {"+w" + a + " +x" + a + " +y" + b + " +z" + b + " iy iw +v" + c, 1, 0, 4, "y"},
		"not the one that has a call":   {"+w" + a + " +x" + a + " +y" + b + " +z" + b + " iy iw ay +v" + c, 1, 0, 4, "w"},
		"by address":                    {"+w" + a + " +x" + a + " +y" + a, 0, 1, 2, "y"},
		"an idle one of the address":    {"+z" + b + " iz +w" + a + " +x" + a + " ix +y" + a, 0, 1, 3, "x"},
		"gone":                          {"+w" + a + " +x" + a + " cw +y" + a, 0, 0, 2, ""},
		"a socket":                      {"+w" + a + " +x" + a + " hw hx +y" + a, 0, 0, 1, ""},
		"let in":                        {"+w" + a + " +x" + a + " aw lw +y" + a, 0, 0, 2, ""},
		"let in, and back":              {"+w" + a + " aw lw +x" + a + " bw +y" + a, 0, 1, 2, "y"},
		"let in, and gone":              {"+w" + a + " aw lw cw bw +x" + a, 0, 0, 1, ""},
		"this machine":                  {"+w127.0.0.1:1 +x127.0.0.1:1 +y127.0.0.1:1 +z[::1]:1 +v127.0.0.1:1", 1, 0, 4, "v"},
		"a proxy":                       {"+w10.0.0.1:1 +x10.0.0.1:1 +y10.0.0.1:1", 0, 0, 3, ""},
		"IPv6 by network":               {"+w[2001:db8::1]:1 +x[2001:db8::2]:1 +y[2001:db8::3]:1 +z[2001:db8:0:1::1]:1", 0, 1, 3, "y"},
		"what was closed says so later": {"+w" + a + " +x" + a + " iw +y" + a + " aw iw cw", 0, 1, 2, "w"},
	} {
		t.Run(name, func(t *testing.T) {
			proxies, err := gateway.ParseProxies([]string{"10.0.0.0/8"})
			if err != nil {
				t.Fatal(err)
			}
			s := newSockets(4, 100, proxies)
			conns, backs := map[byte]*from{}, map[byte]func(){}
			for step := range strings.SplitSeq(test.steps, " ") {
				k := step[1]
				switch step[0] {
				case '+':
					conns[k] = &from{addr: step[2:]}
					s.changed(conns[k], http.StateNew)
				case 'i':
					s.changed(conns[k], http.StateIdle)
				case 'a':
					s.changed(conns[k], http.StateActive)
				case 'h':
					s.changed(conns[k], http.StateHijacked)
				case 'c':
					s.changed(conns[k], http.StateClosed)
				case 'l':
					r := httptest.NewRequest(http.MethodGet, "/", nil)
					backs[k] = s.lend(r.WithContext(context.WithValue(t.Context(), connKey{}, net.Conn(conns[k]))))
				case 'b':
					backs[k]()
				}
			}
			for k, c := range conns {
				if c.closed != (test.closed == string(k)) {
					t.Errorf("%c is closed: %v", k, c.closed)
				}
			}
			if over, of := int(s.over.Load()), int(s.overAddress.Load()); over != test.over || of != test.overAddress {
				t.Errorf("counted %d and %d by address, want %d and %d", over, of, test.over, test.overAddress)
			}
			all := 0
			for _, n := range s.from {
				all += n
			}
			if s.count != test.n || all != test.n {
				t.Errorf("%d are known, %d by address, want %d", s.count, all, test.n)
			}
		})
	}
}

// However many connections strangers keep, who comes is served, and no more
// descriptors are taken than there may be.
func TestStrangersKeepConnections(t *testing.T) {
	s := started(t, func(*config.Config) {})
	keep := func(s *Server, l net.Listener, ask string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", ask); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 4<<10)); n == 0 {
			t.Fatalf("no answer: %v", err)
		}
		return conn
	}
	for _, port := range []struct {
		name    string
		l       net.Listener
		sockets *sockets
		max     int
	}{
		{"clients", s.clients, s.sockets, maxSockets},
		{"servers", s.peers, s.peerSockets, maxPeerSockets},
	} {
		const more = 20
		first := keep(s, port.l, "/healthz")
		for range port.max + more - 1 {
			keep(s, port.l, "/healthz")
		}
		if over := port.sockets.over.Load(); over != more {
			t.Errorf("%s: %d were closed, want %d", port.name, over, more)
		}
		port.sockets.mu.Lock()
		if port.sockets.count != port.max {
			t.Errorf("%s: %d are open, want %d", port.name, port.sockets.count, port.max)
		}
		port.sockets.mu.Unlock()
		_, _ = first.Read(make([]byte, 4<<10)) // what is left of the answer
		if n, err := first.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the first is open still", port.name)
		}
	}
	counted := httptest.NewRecorder()
	s.metricsHandler().ServeHTTP(counted, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`allspark_limited_total{limit="http_connections"} 20`, `allspark_limited_total{limit="address_http_connections"} 0`,
		`allspark_limited_total{limit="peer_http_connections"} 20`, `allspark_accept_errors_total 0`,
	} {
		if !strings.Contains(counted.Body.String(), line+"\n") {
			t.Errorf("the metrics do not say %s", line)
		}
	}
}

// A stream counts among the connections that the node has let in, and among the
// others no more; when it is over, its connection does again.
func TestStreamsAreNotAmongStrangers(t *testing.T) {
	s := started(t, func(*config.Config) {})
	count := func() int {
		s.sockets.mu.Lock()
		defer s.sockets.mu.Unlock()
		return s.sockets.count
	}
	until := func(what string, want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); count() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections are nobody's, want %d", what, count(), want)
			}
		}
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	call := func(path string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+mintKey(t, "ann"))
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		return resp
	}
	stream := call("/v1/stream")
	until("while a stream is open", 0)
	if err := stream.Body.Close(); err != nil {
		t.Fatal(err)
	}
	until("the client has closed its connection", 0)
	for s.Node().Connections() > 0 {
		time.Sleep(time.Millisecond)
	}
	poll := call("/v1/poll?wait=10ms")
	var said bytes.Buffer
	if _, err := said.ReadFrom(poll.Body); err != nil {
		t.Fatal(err)
	}
	if err := poll.Body.Close(); err != nil {
		t.Fatal(err)
	}
	until("a poll has been answered", 1)
}

// Who opens links without end and does not shake hands is refused more.
func TestLinksBeingOpened(t *testing.T) {
	s := started(t, func(*config.Config) {})
	s.links.Store(maxPeerSockets) // so many are
	resp, err := http.Get("http://" + s.peers.Addr().String() + "/peer")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || s.peerSockets.over.Load() != 1 {
		t.Errorf("answered %s, counted %d", resp.Status, s.peerSockets.over.Load())
	}
	if n := s.links.Load(); n != maxPeerSockets {
		t.Errorf("%d links are counted after the call", n)
	}
}

// shortListener has no descriptor for some connections.
type shortListener struct {
	net.Listener
	left atomic.Int64
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// That connections cannot be accepted is a warning, but not one for each try;
// what else net/http has to say is not.
func TestAcceptErrorsAreWarnings(t *testing.T) {
	var out bytes.Buffer
	var failed atomic.Uint64
	logged := slog.New(slog.NewTextHandler(&out, nil))
	accept := &webLog{log: logged, failed: &failed}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	short := &shortListener{Listener: l}
	short.left.Store(3)
	web := &webServers{failed: make(chan error, 1), log: log.New(accept, "", 0)}
	web.serve(short, http.NotFoundHandler(), nil)
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	web.close()
	if warned := strings.Count(out.String(), "level=WARN"); warned != 1 || failed.Load() != 3 || !strings.Contains(out.String(), syscall.EMFILE.Error()) {
		t.Errorf("%d failed, logged:\n%s", failed.Load(), out.String())
	}
	out.Reset()
	synctest.Test(t, func(t *testing.T) {
		accept := log.New(&webLog{log: logged, failed: &failed}, "", 0)
		for range 25 {
			accept.Printf("http: Accept error: %v; retrying in 1s", errors.New("none left"))
			accept.Print("http: TLS handshake error")
			time.Sleep(time.Second)
		}
		if warned := strings.Count(out.String(), "level="); warned != 3 {
			t.Errorf("in 25 s, logged:\n%s", out.String())
		}
	})
}
