package nginx

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// backend is a server behind the proxy that remembers what reached it and, on
// request, refuses. A WebSocket gets back what it sends, with the name in front.
type backend struct {
	name string
	addr string

	sockets sync.WaitGroup // open WebSockets
	next    chan struct{}  // one for each further event of a stream

	mu      sync.Mutex
	seen    []*http.Request
	refuses bool
}

func newBackend(t *testing.T, name string) *backend {
	t.Helper()
	b := &backend{name: name, next: make(chan struct{})}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	b.addr = s.Listener.Addr().String()
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.seen = append(b.seen, r)
	refuses := b.refuses
	b.mu.Unlock()
	switch {
	case refuses:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Header.Get("Upgrade") != "":
		b.echo(w, r)
	case r.URL.Path == "/v1/stream":
		b.stream(w, r)
	default:
		_, _ = io.WriteString(w, b.name)
	}
}

func (b *backend) echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"allspark.v2.json"}})
	if err != nil {
		return
	}
	b.sockets.Add(1)
	defer b.sockets.Done()
	defer ws.CloseNow()
	for {
		kind, frame, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		if err := ws.Write(r.Context(), kind, append([]byte(b.name+":"), frame...)); err != nil {
			return
		}
	}
}

// stream sends one event, and the next when it is told to.
func (b *backend) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	for {
		_, _ = io.WriteString(w, "data: "+b.name+"\n\n")
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-b.next:
		case <-r.Context().Done():
			return
		}
	}
}

func (b *backend) requests() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

func (b *backend) last(t *testing.T) *http.Request {
	t.Helper()
	seen := b.requests()
	if len(seen) == 0 {
		t.Fatalf("nothing reached server %s", b.name)
	}
	return seen[len(seen)-1]
}

func (b *backend) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = true
}

// call makes one request and returns the status and the body of the answer.
func call(t *testing.T, c *http.Client, method, url string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestBalance checks that pre-connection calls go to all servers, and only to
// those that take them.
func TestBalance(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	calls := []struct{ method, path string }{
		{"POST", "/v1/connect"},
		{"GET", "/connectV3?get_pre_connection_info=True"},
		{"GET", "/v1/sessions/s"},
		{"POST", "/create_session"},
		{"GET", "/join_session?session_id=s"},
		{"GET", "/unjoin_session?session_id=s"},
		{"GET", "/get_session_info?session_id=s"},
		{"GET", "/reveal_anonymity?session_id=s"},
		{"POST", "/push_message"},
	}
	for _, c := range calls {
		count := make(map[string]int)
		for range 20 {
			status, body := call(t, http.DefaultClient, c.method, p.http+c.path, nil)
			if status != http.StatusOK {
				t.Fatalf("%s: status %d", c.path, status)
			}
			count[body]++
		}
		if count["a"] < 5 || count["b"] < 5 {
			t.Errorf("%s: 20 calls went to %v", c.path, count)
		}
	}

	a.refuse()
	for _, c := range calls[:2] {
		for range 10 {
			if status, body := call(t, http.DefaultClient, c.method, p.http+c.path, nil); status != http.StatusOK || body != "b" {
				t.Errorf("%s with server a full: status %d from %q, want b", c.path, status, body)
			}
		}
	}
}

// TestLeastConnections checks that new sockets go where fewest are open.
func TestLeastConnections(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	open := make(map[string][]socket)
	for range 20 {
		ws := dial(t, http.DefaultClient, p.http+"/ws")
		server := ws.exchange(t, "x")[:1]
		open[server] = append(open[server], ws)
	}
	if len(open["a"]) != 10 || len(open["b"]) != 10 {
		t.Fatalf("of 20 sockets %d went to a and %d to b", len(open["a"]), len(open["b"]))
	}
	for _, ws := range open["a"] {
		_ = ws.CloseNow()
	}
	a.sockets.Wait() // nginx has counted them off before it closed them
	for range 10 {
		if from := dial(t, http.DefaultClient, p.http+"/ws").exchange(t, "x"); from != "a:x" {
			t.Errorf("a socket went to %s, where more are open", from[:1])
		}
	}
}

// TestOneServer checks that a server's path leads to it and to no other, and
// is gone when the request arrives there.
func TestOneServer(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	tests := []struct{ path, uri string }{
		{"/ws", "/ws"},
		{"/ws?token=a%2Fb&x=%20", "/ws?token=a%2Fb&x=%20"},
		{"/connectV3?auth_key=k", "/connectV3?auth_key=k"},
		{"/join_session?auth_key=k&session_id=s", "/join_session?auth_key=k&session_id=s"},
		{"/v1/connect", "/v1/connect"},
		{"/v1/sessions/a:b@c/join", "/v1/sessions/a:b@c/join"},
		{"/v1/sessions/%E2%82%AC", "/v1/sessions/%E2%82%AC"},
	}
	for _, server := range []*backend{a, b} {
		for _, test := range tests {
			status, body := call(t, http.DefaultClient, "GET", p.http+"/node/"+server.name+test.path, nil)
			if status != http.StatusOK || body != server.name {
				t.Errorf("%s of server %s: status %d from %q", test.path, server.name, status, body)
				continue
			}
			if got := server.last(t).RequestURI; got != test.uri {
				t.Errorf("%s arrived as %s, want %s", test.path, got, test.uri)
			}
		}
	}
}

// TestNotExposed checks that nothing but what clients use can be reached.
func TestNotExposed(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	for _, path := range []string{
		"/", "/metrics", "/peer", "/peer/x", "/debug/pprof/", "/healthz", "/WS", "/ws/x", "/v1%2Fx/../../metrics",
		"/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/..%2Fmetrics", "//metrics", "/ws/../peer",
		"/node", "/node/", "/node/a", "/node/a/", "/node/a/metrics", "/node/a/peer", "/node/a/v1", "/node/a/ws/x",
		"/node/a/v1/../metrics", "/node/a/v1/..%2Fmetrics", "/node/a/v1/%2e%2e/peer", "/node/a/ws/..%2fmetrics",
		"/node/a/v1/x%0D%0AHost:%20evil", "/node/c/ws", "/node//ws", "/node/../peer", "/node/a/../b/metrics",
		"/node/" + a.addr + "/ws", "/node/127.0.0.1/ws", "/node/allspark/ws", "/node/a/push_message",
	} {
		// A client of net/http would tidy the path up.
		if status := raw(t, p, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); status != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, status)
		}
	}
	for _, server := range []*backend{a, b} {
		for _, r := range server.requests() {
			t.Errorf("%s reached server %s", r.RequestURI, server.name)
		}
	}
}

// raw sends text over a connection of its own and returns the status of the answer.
func raw(t *testing.T, p *proxy, text string) int {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// socket is an open WebSocket.
type socket struct{ *websocket.Conn }

func dial(t *testing.T, c *http.Client, url string) socket {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{
		HTTPClient:   c,
		Subprotocols: []string{"allspark.v2.json", "bearer.token"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return socket{ws}
}

// exchange sends a frame and returns the answer.
func (s socket) exchange(t *testing.T, frame string) string {
	t.Helper()
	if err := s.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	_, answer, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestWebSocket checks that sockets pass, with and without TLS, with the
// protocol they ask for.
func TestWebSocket(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}}
	defer c.CloseIdleConnections()
	for _, entry := range []string{p.http, p.https} {
		for _, test := range []struct{ path, from string }{
			{"/ws", "ab"},
			{"/connectV3?auth_key=k", "ab"},
			{"/node/a/ws", "a"},
			{"/node/b/ws?token=t", "b"},
			{"/node/b/connectV3", "b"},
		} {
			ws := dial(t, c, entry+test.path)
			if ws.Subprotocol() != "allspark.v2.json" {
				t.Errorf("%s speaks %q", test.path, ws.Subprotocol())
			}
			for _, frame := range []string{"hello", strings.Repeat("x", 20_000)} {
				from, got, _ := strings.Cut(ws.exchange(t, frame), ":")
				if got != frame || !strings.Contains(test.from, from) {
					t.Errorf("%s%s: %d bytes from %s, want %d from one of %s", entry, test.path, len(got), from, len(frame), test.from)
				}
			}
		}
	}
}

// TestStream checks that each server-sent event passes when it is sent, and that
// a server learns when the client has left.
func TestStream(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}, Timeout: patience}
	defer c.CloseIdleConnections()
	for _, entry := range []string{p.http, p.https} {
		resp, err := c.Get(entry + "/node/b/v1/stream?last_event_id=E~nbob~3")
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			if i > 0 {
				b.next <- struct{}{}
			}
			for _, want := range []string{"data: b\n", "\n"} {
				if line, err := lines.ReadString('\n'); err != nil || line != want {
					t.Fatalf("event %d: got %q, %v", i, line, err)
				}
			}
		}
		_ = resp.Body.Close()
		select {
		case <-b.last(t).Context().Done():
		case <-time.After(patience):
			t.Error("the server does not know that the client has left")
		}
	}
}

// TestForwardedHeaders checks that a server learns who calls from nginx and
// not from the caller.
func TestForwardedHeaders(t *testing.T) {
	a, b := newBackend(t, "a"), newBackend(t, "b")
	p := start(t, a.addr, b.addr)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}}
	defer c.CloseIdleConnections()
	for _, test := range []struct{ entry, scheme string }{{p.http, "http"}, {p.https, "https"}} {
		for _, path := range []string{"/node/a/v1/x", "/node/a/ws"} {
			call(t, c, "GET", test.entry+path, http.Header{
				"Authorization":     {"Bearer secret"},
				"X-Forwarded-For":   {"6.6.6.6"},
				"X-Forwarded-Proto": {"gopher"},
				"X-Forwarded-Host":  {"evil.example.com"},
				"X-Real-Ip":         {"6.6.6.6"},
				"Forwarded":         {"for=6.6.6.6"},
			})
			_, host, _ := strings.Cut(test.entry, "://")
			got := a.last(t)
			want := map[string][]string{
				"Authorization":     {"Bearer secret"},
				"X-Forwarded-For":   {"127.0.0.1"},
				"X-Forwarded-Proto": {test.scheme},
				"X-Forwarded-Host":  {host},
				"X-Real-Ip":         {"127.0.0.1"},
				"Forwarded":         nil,
				"Connection":        nil,
			}
			for name, values := range want {
				if !slices.Equal(got.Header[name], values) {
					t.Errorf("%s%s: %s is %q, want %q", test.entry, path, name, got.Header[name], values)
				}
			}
			if got.Host != host {
				t.Errorf("%s%s: host is %q, want %q", test.entry, path, got.Host, host)
			}
		}
	}
}

// TestNoTokensInLogs checks that no credential is written to any log, whether
// the request goes well or not.
func TestNoTokensInLogs(t *testing.T) {
	const secret = "OPENSESAME"
	a := newBackend(t, "a")
	p := start(t, a.addr, freeAddr(t)) // nobody is at b
	header := http.Header{
		"Authorization":          {"Bearer " + secret},
		"Referer":                {"https://example.com/?token=" + secret},
		"Sec-Websocket-Protocol": {"allspark.v2.json, bearer." + secret},
		"Cookie":                 {"key=" + secret},
		"User-Agent":             {secret},
	}
	wants := map[string]int{
		"/node/a/ws":             http.StatusOK,
		"/node/b/ws":             http.StatusBadGateway,
		"/node/b/connectV3":      http.StatusBadGateway,
		"/node/b/v1/x":           http.StatusBadGateway,
		"/node/a/create_session": http.StatusOK,
		"/node/b/join_session":   http.StatusBadGateway,
		"/peer":                  http.StatusNotFound,
		"/node/c/ws":             http.StatusNotFound,
	}
	for path, want := range wants {
		if status, _ := call(t, http.DefaultClient, "GET", p.http+path+"?token="+secret, header); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	for range 4 { // some of them try b first
		call(t, http.DefaultClient, "POST", p.http+"/v1/connect?auth_key="+secret, header)
	}
	for _, malformed := range []string{
		"GET /ws?token=" + secret + " HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + secret + "\r\n\r\n",
		"GET /ws?token=" + secret + " HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"GET /ws?token=" + secret + " HTTP/9.9\r\nHost: x\r\n\r\n",
		"GET /ws?token=" + secret + " HTTP/1.1\r\nAuthorization: Bearer " + strings.Repeat(secret, 10_000) + "\r\n\r\n",
		"POST /v1/messages?token=" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
	} {
		if status := raw(t, p, malformed); status < 400 {
			t.Errorf("%.40q: status %d", malformed, status)
		}
	}
	p.stop()

	logs, err := filepath.Glob(filepath.Join(p.dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	access := ""
	for _, file := range logs {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if strings.Contains(line, secret) {
				t.Errorf("%s: %s", filepath.Base(file), line)
			}
		}
		if filepath.Base(file) == "allspark-access.log" {
			access = string(content)
		}
	}
	// The log is there, and says what an operator needs.
	for path, status := range wants {
		path = "/" + strings.TrimPrefix(strings.TrimPrefix(path, "/node/a/"), "/node/b/")
		if line := fmt.Sprintf(" GET /%s HTTP/1.1 %d ", strings.TrimLeft(path, "/"), status); !strings.Contains(access, line) {
			t.Errorf("the access log lacks %q:\n%s", line, access)
		}
	}
}
