package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/gateway/rest"
	withoutsocket "github.com/allsparkrt/allspark/gateway/stream"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/store/embedded"
)

const (
	meshKey     = "a mesh key for tests, long enough"
	tokenSecret = "a token secret for tests, long enough"
	guestTTL    = 5 * time.Minute
)

// mesh is a mesh of real servers in one bubble: real gateways and stores, and
// networks in memory that can be cut.
type mesh struct {
	t       testing.TB
	store   *embedded.Store
	network *clienttest.Network             // between clients and servers
	peers   *peerNet                        // between servers
	config  func(*Config)                   // changes what servers are made of; nil changes nothing
	core    func(*server) gateway.Core      // what gateways get for a server; nil: the server
	tap     func(net.Listener) net.Listener // what clients reach a server through; nil: nothing
	bubble  bool                            // in virtual time
	servers map[string]*server
	devices []*device
	raws    []*raw
}

// server is one server of a mesh.
type server struct {
	*Node
	mesh     *mesh
	id       string
	store    *faultyStore
	tickets  *auth.Tickets
	verifier *auth.Verifier
	web      []*http.Server
	serving  sync.WaitGroup
	stop     context.CancelFunc // ends Run
	abort    context.CancelFunc // ends connections of clients at once
	ran      chan error
	ended    bool
}

// inMesh runs f with a mesh of n servers named "a", "b", "c" …, all linked.
func inMesh(t *testing.T, n int, f func(t *testing.T, m *mesh)) {
	t.Helper()
	inMeshOf(t, n, nil, f)
}

// inMeshOf is inMesh with another configuration than the default.
func inMeshOf(t *testing.T, n int, config func(*Config), f func(t *testing.T, m *mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, n, config, true)
		defer m.close()
		f(t, m)
	})
}

func newMesh(t testing.TB, n int, config func(*Config), bubble bool) *mesh {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	network := new(clienttest.Network)
	m := &mesh{
		t: t, store: store, network: network, peers: newPeerNet(network), config: config,
		servers: make(map[string]*server), bubble: bubble,
	}
	for i := range n {
		m.start(string(rune('a' + i)))
	}
	m.linked()
	return m
}

// linked waits until every server is linked to every other one.
func (m *mesh) linked() {
	m.t.Helper()
	m.within(30*time.Second, "all servers linked", func() bool {
		for _, s := range m.servers {
			if s.PeerLinks() != len(m.servers)-1 {
				return false
			}
		}
		return true
	})
}

// start starts a server, or starts one again after its end.
func (m *mesh) start(id string) *server {
	m.t.Helper()
	level := slog.LevelError + 1
	if os.Getenv("ALLSPARK_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: level})).With("server", id)
	s := &server{mesh: m, id: id, store: &faultyStore{Store: m.store}, ran: make(chan error, 1)}
	revocations := auth.NewRevocations(s.store, 24*time.Hour, nil)
	cfg := Config{
		Graph: graph.Config{
			Self: graph.Record{
				ID: envelope.ServerID(id), Addr: id + ":80", URL: "http://" + id, PeerURL: "ws://" + peerHost(id),
			},
			Store: s.store, Logger: log, Force: true,
			Gossip: graph.GossipConfig{Transport: newSilence(), Local: true},
		},
		Inbox: s.store, Sessions: s.store, Revocations: revocations, MeshKey: []byte(meshKey), Log: log, PeerDial: m.peers.dialFrom(id),
	}
	if m.config != nil {
		m.config(&cfg)
	}
	var err error
	if s.Node, err = New(m.t.Context(), cfg); err != nil {
		m.t.Fatal(err)
	}
	if s.tickets, err = auth.NewTickets([]byte(meshKey), nil); err != nil {
		m.t.Fatal(err)
	}
	guests, err := auth.NewGuests([]byte(meshKey), guestTTL, 20, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	s.verifier, err = auth.NewVerifier(m.t.Context(), auth.Config{
		Keys: []auth.KeySource{{Secret: auth.Secret(tokenSecret)}}, Guests: guests, Revocations: revocations,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, abort := context.WithCancel(context.Background())
	s.abort = abort
	core := gateway.Core(s)
	if m.core != nil {
		core = m.core(s)
	}
	clients := http.NewServeMux()
	(&rest.Handler{
		Core: core, Verifier: s.verifier, Tickets: s.tickets, Guests: guests, PushKey: "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8", MaxFrame: envelope.DefaultMaxFrame, Log: cfg.Log,
	}).Register(clients)
	(&native.Handler{
		Core: core, Verifier: s.verifier, Tickets: s.tickets, MaxFrame: envelope.DefaultMaxFrame, Log: cfg.Log, Context: ctx,
	}).Register(clients)
	(&withoutsocket.Handler{
		Core: core, Verifier: s.verifier, Tickets: s.tickets, Codec: func() gateway.Codec { return native.NewCodec(false) }, Log: cfg.Log, Context: ctx,
	}).Register(clients)
	peers := http.NewServeMux()
	peers.HandleFunc("GET "+PeerPath, s.ServePeer)
	var checked http.Handler = clients
	if m.bubble { // and nothing is measured
		checked = m.documented(clients)
	}
	s.listen(id+":80", checked, m.tap)
	s.listen(peerHost(id)+":80", peers, nil)
	ctx, s.stop = context.WithCancel(context.Background())
	m.peers.start(id)
	go func() { s.ran <- s.Run(ctx) }()
	m.servers[id] = s
	return s
}

func (s *server) listen(addr string, h http.Handler, tap func(net.Listener) net.Listener) {
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s.web = append(s.web, srv)
	l := s.mesh.network.Listen(addr)
	if tap != nil {
		l = tap(l)
	}
	s.serving.Go(func() { _ = srv.Serve(l) })
}

// kill ends a server as a crash does: nothing is written or said any more.
// Its sockets are reset, as those of a process that was killed are.
func (m *mesh) kill(id string) {
	s := m.servers[id]
	s.store.kill()
	m.peers.kill(id)
	s.abort()
	s.end()
	delete(m.servers, id)
}

// end ends Run and whatever belongs to the server.
func (s *server) end() {
	if s.ended {
		return
	}
	s.ended = true
	s.stop()
	s.graph.Close()
	for _, srv := range s.web {
		_ = srv.Close()
	}
	if err := <-s.ran; err != nil {
		s.mesh.t.Errorf("server %s: %v", s.id, err)
	}
	s.abort()
	s.serving.Wait()
	s.verifier.Close()
}

// close ends everything; the bubble then finds goroutines that are left.
func (m *mesh) close() {
	m.peers.release()
	for _, r := range m.raws {
		_ = r.ws.CloseNow()
	}
	for _, d := range m.devices {
		d.close()
	}
	for _, s := range m.servers {
		s.abort()
		s.end()
	}
	m.peers.close()
	if err := m.store.Close(); err != nil {
		m.t.Error(err)
	}
	if m.bubble {
		time.Sleep(time.Minute) // timers that look once more and find nothing to do
	}
}

// settle waits until everything has happened that can without time going by.
func (m *mesh) settle() {
	if m.bubble {
		synctest.Wait()
	}
}

// at returns a server by name.
func (m *mesh) at(id string) *server {
	m.t.Helper()
	s := m.servers[id]
	if s == nil {
		m.t.Fatalf("no server %q", id)
	}
	return s
}

// ids returns the names of the running servers in order.
func (m *mesh) ids() []string {
	var ids []string
	for id := range m.servers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (m *mesh) cut(a, b string)  { m.peers.cut(a, b, true) }
func (m *mesh) heal(a, b string) { m.peers.cut(a, b, false) }

// pass lets d go by, and everything due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// within fails the test unless ok holds within d. It returns how long it took.
func (m *mesh) within(d time.Duration, what string, ok func() bool) time.Duration {
	m.t.Helper()
	start := time.Now()
	for {
		m.settle()
		if ok() {
			return time.Since(start)
		}
		if time.Since(start) >= d {
			m.t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mint returns an auth key for a device of a client.
func (m *mesh) mint(clientID, deviceID string, valid time.Duration) string {
	m.t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(clientID), Node: envelope.NodeID(deviceID), Issued: time.Now(), Expires: time.Now().Add(valid),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

// ticket returns a validation token for a device at a server.
func (m *mesh) ticket(clientID, deviceID, at string) string {
	m.t.Helper()
	s := m.at(at)
	token, _, err := s.tickets.Issue(envelope.ServerID(at), s.graph.Boot(), auth.Verified{
		Principal: envelope.Principal{Node: envelope.NodeID(deviceID), Client: envelope.ClientID(clientID)},
		Issued:    time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

// client starts a device of a client of its own name; it stays at one server.
func (m *mesh) client(id, at string) *device { return m.device(id, id, at) }

func deviceAddr(id string) envelope.Address { return envelope.NodeID(id).Address() }
func user(id string) envelope.Address       { return envelope.ClientID(id).Address() }
func room(id string) envelope.Address       { return envelope.SessionID(id).Address() }

// to returns a durable message with a text in it.
func to(addr envelope.Address, id, text string) envelope.Envelope {
	e := envelope.Envelope{ID: id, Body: fmt.Appendf(nil, `"payload":%q`, text)}
	switch addr.Kind {
	case envelope.KindNode:
		e.DestNode = envelope.NodeID(addr.ID)
	case envelope.KindClient:
		e.DestClient = envelope.ClientID(addr.ID)
	case envelope.KindSession:
		e.DestSession = envelope.SessionID(addr.ID)
	}
	return e
}

func roomID(id string) envelope.SessionID { return envelope.SessionID(id) }
