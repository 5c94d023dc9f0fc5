package clienttest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// Server is one server. Set its fields before it serves; it is an
// [http.Handler]. Every device may connect; its auth key is its node id, or a
// JWT with a "nid" claim, which is not verified.
type Server struct {
	// Nodes answers the pre-connection call; nil: this server, under the name
	// the caller used.
	Nodes func(device envelope.NodeID) ([]string, error)
	// OnHello sees each opening frame before it is answered.
	OnHello func(c *Conn, hello envelope.Control)
	// OnMessage sees each message before it is stored; true says that it has
	// been dealt with.
	OnMessage func(c *Conn, e envelope.Envelope) (done bool)
	// OnControl sees each control frame but hello and ack; the server does
	// nothing with them.
	OnControl func(c *Conn, f envelope.Control)
	// OnAck sees each acknowledgement.
	OnAck func(c *Conn, cursors map[envelope.Address]uint64)
	// PingS is announced to clients, who give up a server that is silent for
	// longer. The server sends no pings.
	PingS int

	mu    sync.Mutex
	epoch string // "" stands for "first"
	logs  map[envelope.Address][]envelope.Envelope
	acked map[envelope.NodeID]map[envelope.Address]uint64
	conns map[envelope.NodeID]*Conn
	calls int
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/connect":
		s.connect(w, r)
	case "POST /v1/messages":
		s.send(w, r)
	case "GET /ws":
		s.ws(w, r)
	default:
		Refuse(w, envelope.Errorf(envelope.NotFound, "%s", r.URL.Path))
	}
}

// Refuse answers an HTTP call with an error as the real server does.
func Refuse(w http.ResponseWriter, e *envelope.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(map[string]any{
		"status": e.Code.HTTPStatus(), "title": e.Code.Title(), "detail": e.Detail, "code": e.Code, "retry_ms": e.RetryMS,
	})
}

// Calls returns how many pre-connection calls there have been.
func (s *Server) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Log returns the bodies in a log, in order.
func (s *Server) Log(log envelope.Address) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bodies []string
	for _, e := range s.logs[log] {
		bodies = append(bodies, string(e.Body))
	}
	return bodies
}

// Acked returns the cursors that a device has acknowledged.
func (s *Server) Acked(node envelope.NodeID) map[envelope.Address]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[envelope.Address]uint64)
	for log, n := range s.acked[node] {
		out[log] = n
	}
	return out
}

// Conn returns a device's connection, or nil.
func (s *Server) Conn(node envelope.NodeID) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[node]
}

// NewEpoch throws all logs and cursors away, as a new store would.
func (s *Server) NewEpoch(epoch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.logs, s.acked = epoch, nil, nil
}

// Deliver stores a message that comes from no client, and delivers it.
func (s *Server) Deliver(e envelope.Envelope) { s.store(e) }

// store appends e unless it is there, and delivers it; it returns its seq.
func (s *Server) store(e envelope.Envelope) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := e.Dest()
	if s.logs == nil {
		s.logs = make(map[envelope.Address][]envelope.Envelope)
	}
	e.Timestamp = time.Now().UnixMilli()
	if e.Class == envelope.Durable {
		for _, old := range s.logs[log] {
			if e.ID != "" && old.ID == e.ID && old.SrcNode == e.SrcNode {
				return old.Seq
			}
		}
		e.Seq = uint64(len(s.logs[log])) + 1
		s.logs[log] = append(s.logs[log], e)
	}
	if c := s.conns[e.DestNode]; c != nil && c.live {
		c.WriteMessage(e)
	}
	return e.Seq
}

func (s *Server) epochName() string {
	if s.epoch == "" {
		return "first"
	}
	return s.epoch
}

// open answers a hello and replays; what is stored from then on is delivered live.
func (s *Server) open(c *Conn, hello envelope.Control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := c.Node.Address()
	entries := s.logs[log]
	heads := map[string]uint64{}
	if len(entries) > 0 {
		heads[log.String()] = uint64(len(entries))
	}
	c.WriteControl(envelope.Control{
		Control: envelope.ControlHello, NodeID: "test", Epoch: s.epochName(), Heads: heads, Window: 256, PingS: s.PingS,
	})
	after := s.acked[c.Node][log]
	if n, ok := hello.Cursors[log.String()]; ok {
		after = n
	}
	switch {
	case hello.Resume != nil && !*hello.Resume:
		after = uint64(len(entries))
	case hello.Epoch != "" && hello.Epoch != s.epochName() && len(hello.Cursors) > 0:
		for name := range hello.Cursors {
			c.WriteControl(envelope.Control{Control: envelope.ControlGap, Log: name, Floor: 1})
		}
		after = 0
	}
	for _, e := range entries[min(int(after), len(entries)):] {
		c.WriteMessage(e)
	}
	c.WriteControl(envelope.Control{Control: envelope.ControlCaughtUp, Heads: heads})
	c.live = true
	if s.conns == nil {
		s.conns = make(map[envelope.NodeID]*Conn)
	}
	s.conns[c.Node] = c
}

func (s *Server) acknowledge(c *Conn, cursors map[envelope.Address]uint64) {
	if s.OnAck != nil {
		s.OnAck(c, cursors)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked == nil {
		s.acked = make(map[envelope.NodeID]map[envelope.Address]uint64)
	}
	if s.acked[c.Node] == nil {
		s.acked[c.Node] = make(map[envelope.Address]uint64)
	}
	for log, n := range cursors {
		s.acked[c.Node][log] = max(n, s.acked[c.Node][log])
	}
}

func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	device, err := deviceOf(r)
	if err != nil {
		Refuse(w, envelope.Errorf(envelope.Unauthorized, "%v", err))
		return
	}
	urls := []string{"http://" + r.Host}
	if s.Nodes != nil {
		if urls, err = s.Nodes(device); err != nil {
			Refuse(w, envelope.AsError(err))
			return
		}
	}
	type node struct {
		NodeID string `json:"node_id"`
		URL    string `json:"url"`
		Token  string `json:"validation_token"`
	}
	var nodes []node
	for _, u := range urls {
		nodes = append(nodes, node{NodeID: "test", URL: u, Token: string(device)})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"servers": nodes, "expires_in": 60})
}

func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	device, err := deviceOf(r)
	if err != nil {
		Refuse(w, envelope.Errorf(envelope.Unauthorized, "%v", err))
		return
	}
	var raw json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
		Refuse(w, envelope.Errorf(envelope.BadRequest, "%v", err))
		return
	}
	var p envelope.Parser
	e, err := p.Parse(raw)
	if err != nil {
		Refuse(w, envelope.AsError(err))
		return
	}
	e.SrcNode = device
	reply := map[string]any{"id": e.ID}
	if seq := s.store(e); seq > 0 {
		reply["seq"], reply["log"] = seq, e.Dest().String()
	}
	_ = json.NewEncoder(w).Encode(reply)
}

func (s *Server) ws(w http.ResponseWriter, r *http.Request) {
	var device envelope.NodeID
	for p := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if token, ok := strings.CutPrefix(strings.TrimSpace(p), "bearer."); ok {
			device = envelope.NodeID(token)
		}
	}
	if device == "" || r.URL.RawQuery != "" {
		Refuse(w, envelope.Errorf(envelope.Unauthorized, "no token where it belongs"))
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"allspark.v2.json"}})
	if err != nil {
		return
	}
	c := newConn(s, device, ws)
	c.serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[device] == c {
		delete(s.conns, device)
	}
}

// deviceOf returns the node id that an auth key stands for.
func deviceOf(r *http.Request) (envelope.NodeID, error) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", errors.New("no bearer token")
	}
	if node, err := claimNode(key); err == nil {
		return node, nil
	}
	if !envelope.ValidID(key) {
		return "", errors.New("not an auth key")
	}
	return envelope.NodeID(key), nil
}
