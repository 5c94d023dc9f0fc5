package graph

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/allsparkrt/allspark/envelope"
)

// memStore is a Store in memory. Each server of a test has its own handle of
// one data set, so that faults can hit one of them alone.
type memStore struct {
	*memData
	mu    sync.Mutex
	away  bool
	delay time.Duration
	calls map[string]int
	hook  func(op string) error // before the call; an error fails it
	after func(op string) error // after the call was applied
}

type memData struct {
	mu      sync.Mutex
	records map[envelope.ServerID]Record
	edges   map[edgeKey]Edge
	seen    map[envelope.Address]int64
}

type edgeKey struct {
	addr   envelope.Address
	server envelope.ServerID
}

var errAway = errors.New("store away")

func newMemStore() *memStore {
	return (&memStore{memData: &memData{
		records: make(map[envelope.ServerID]Record),
		edges:   make(map[edgeKey]Edge),
		seen:    make(map[envelope.Address]int64),
	}}).handle()
}

func (s *memStore) handle() *memStore {
	return &memStore{memData: s.memData, calls: make(map[string]int)}
}

func (s *memStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *memStore) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// do runs f as one atomic step, with whatever faults are set.
func (s *memStore) do(ctx context.Context, op string, f func() error) error {
	s.mu.Lock()
	s.calls[op]++
	away, delay, hook, after := s.away, s.delay, s.hook, s.after
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	if hook != nil {
		if err := hook(op); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if away {
		return errAway
	}
	s.memData.mu.Lock()
	err := f()
	s.memData.mu.Unlock()
	if err == nil && after != nil {
		err = after(op)
	}
	return err
}

func (s *memStore) Claim(ctx context.Context, r Record, prev string) error {
	return s.do(ctx, "claim", func() error {
		old, ok := s.records[r.ID]
		switch {
		case prev == "" && ok:
			return ErrRecordExists
		case prev != "" && (!ok || old.Boot != prev):
			return ErrTakenOver
		}
		r.Links = slices.Clone(r.Links)
		s.records[r.ID] = r
		return nil
	})
}

func (s *memStore) Renew(ctx context.Context, r Record) error {
	return s.do(ctx, "renew", func() error {
		if old, ok := s.records[r.ID]; !ok || old.Boot != r.Boot {
			return ErrTakenOver
		}
		r.Links = slices.Clone(r.Links)
		s.records[r.ID] = r
		return nil
	})
}

func (s *memStore) Release(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.do(ctx, "release", func() error {
		if s.records[id].Boot == boot {
			delete(s.records, id)
		}
		return nil
	})
}

func (s *memStore) Servers(ctx context.Context) (out []Record, err error) {
	err = s.do(ctx, "servers", func() error {
		for _, r := range s.records {
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func (s *memStore) PutEdges(ctx context.Context, edges []Edge) error {
	return s.do(ctx, "put", func() error {
		for _, e := range edges {
			s.edges[edgeKey{e.Addr, e.Server}] = e
		}
		return nil
	})
}

func (s *memStore) DeleteEdges(ctx context.Context, edges []Edge) error {
	return s.do(ctx, "delete", func() error {
		for _, e := range edges {
			if old := s.edges[edgeKey{e.Addr, e.Server}]; old.Boot == e.Boot && old.Gen == e.Gen {
				delete(s.edges, edgeKey{e.Addr, e.Server})
			}
		}
		return nil
	})
}

func (s *memStore) Edges(ctx context.Context, addrs ...envelope.Address) (out []Edge, err error) {
	err = s.do(ctx, "edges", func() error {
		for k, e := range s.edges {
			if slices.Contains(addrs, k.addr) {
				out = append(out, e)
			}
		}
		slices.SortFunc(out, func(a, b Edge) int { return compare(a.Server, b.Server) })
		return nil
	})
	return out, err
}

func (s *memStore) EdgesOf(ctx context.Context, id envelope.ServerID, boot string) (out []Edge, err error) {
	err = s.do(ctx, "edges of", func() error {
		for _, e := range s.edges {
			if e.Server == id && e.Boot == boot {
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}

func (s *memStore) DropEdges(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.do(ctx, "drop", func() error {
		for k, e := range s.edges {
			if e.Server == id && e.Boot == boot {
				delete(s.edges, k)
			}
		}
		return nil
	})
}

func (s *memStore) PutSightings(ctx context.Context, sightings []Sighting) error {
	return s.do(ctx, "put sightings", func() error {
		for _, g := range sightings {
			s.seen[g.Addr] = max(s.seen[g.Addr], g.At)
		}
		return nil
	})
}

func (s *memStore) Sightings(ctx context.Context, addrs ...envelope.Address) (out []Sighting, err error) {
	err = s.do(ctx, "sightings", func() error {
		for _, addr := range addrs {
			if at, ok := s.seen[addr]; ok {
				out = append(out, Sighting{addr, at})
			}
		}
		return nil
	})
	return out, err
}

func compare(a, b envelope.ServerID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (s *memStore) edgesOf(id envelope.ServerID) map[envelope.Address]Edge {
	s.memData.mu.Lock()
	defer s.memData.mu.Unlock()
	out := make(map[envelope.Address]Edge)
	for k, e := range s.edges {
		if k.server == id {
			out[k.addr] = e
		}
	}
	return out
}

func (s *memStore) record(id envelope.ServerID) Record {
	s.memData.mu.Lock()
	defer s.memData.mu.Unlock()
	return s.records[id]
}

// memNet carries gossip between transports in memory and can be cut.
type memNet struct {
	mu    sync.Mutex
	hosts map[string]*memTransport
	side  map[string]int // hosts on different sides do not reach each other
	sent  [][]byte       // packets, when spied on
	spy   bool
}

type memTransport struct {
	net     *memNet
	addr    *net.TCPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func newMemNet() *memNet {
	return &memNet{hosts: make(map[string]*memTransport), side: make(map[string]int)}
}

func (n *memNet) host() *memTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &memTransport{
		net:     n,
		addr:    &net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(1+len(n.hosts))), Port: 7946},
		packets: make(chan *memberlist.Packet, 1024),
		streams: make(chan net.Conn, 64),
	}
	n.hosts[t.addr.String()] = t
	return t
}

// cut puts a host on a side.
func (n *memNet) cut(addr string, side int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.side[addr] = side
}

func (n *memNet) find(from, to string) *memTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.side[from] != n.side[to] {
		return nil
	}
	return n.hosts[to]
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

func (t *memTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	t.net.mu.Lock()
	if t.net.spy {
		t.net.sent = append(t.net.sent, slices.Clone(b))
	}
	t.net.mu.Unlock()
	if to := t.net.find(t.addr.String(), addr); to != nil {
		select {
		case to.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: t.addr, Timestamp: now}:
		default: // as a full socket buffer does
		}
	}
	return now, nil
}

func (t *memTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *memTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := t.net.find(t.addr.String(), addr)
	if to == nil {
		time.Sleep(timeout) // a black hole
		return nil, fmt.Errorf("dial %s: time-out", addr)
	}
	here, there := net.Pipe()
	select {
	case to.streams <- there:
		return here, nil
	default:
		return nil, fmt.Errorf("dial %s: refused", addr)
	}
}

func (t *memTransport) StreamCh() <-chan net.Conn { return t.streams }

func (t *memTransport) Shutdown() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	delete(t.net.hosts, t.addr.String())
	return nil
}

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		// Comes last: memberlist's probes end by themselves, but take their time.
		t.Cleanup(func() { time.Sleep(time.Minute) })
		f(t)
	})
}

// server is a Graph that runs.
type server struct {
	*Graph
	t      *testing.T
	store  *memStore
	host   *memTransport
	stop   context.CancelFunc
	result chan error

	mu      sync.Mutex
	frozen  int
	changes int
	edged   []envelope.Address
	left    []envelope.Address // told by OnGone
	ahead   time.Duration      // of the clock by which a freeze is noticed
	links   []envelope.ServerID
}

func testConfig(id string, store Store, host *memTransport) Config {
	return Config{
		Self: Record{
			ID: envelope.ServerID(id), Addr: id + ":80", URL: "http://" + id,
			PeerURL: "ws://" + id + "/peer", Zone: "z", MaxLoad: 100,
		},
		Store:  store,
		Gossip: GossipConfig{Transport: host, Key: []byte("mesh key"), Label: "test", Local: true},
	}
}

// start starts and runs a server; edit may change its configuration.
func start(t *testing.T, id string, store *memStore, network *memNet, edit func(*Config)) *server {
	t.Helper()
	s := &server{t: t, store: store.handle(), host: network.host(), result: make(chan error, 1)}
	c := testConfig(id, s.store, s.host)
	c.OnFrozen = func() { s.mu.Lock(); s.frozen++; s.mu.Unlock() }
	c.OnServers = func() { s.mu.Lock(); s.changes++; s.mu.Unlock() }
	c.OnEdges = func(a []envelope.Address) { s.mu.Lock(); s.edged = append(s.edged, a...); s.mu.Unlock() }
	c.OnGone = func(a []envelope.Address) { s.mu.Lock(); s.left = append(s.left, a...); s.mu.Unlock() }
	c.Links = func() []envelope.ServerID { s.mu.Lock(); defer s.mu.Unlock(); return s.links }
	c.now = func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return time.Now().Add(s.ahead) }
	if edit != nil {
		edit(&c)
	}
	g, err := Start(t.Context(), c)
	if err != nil {
		t.Fatalf("start %s: %v", id, err)
	}
	s.Graph = g
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() { s.result <- g.Run(ctx) }()
	t.Cleanup(s.crash)
	return s
}

// crash ends the server without a word.
func (s *server) crash() {
	s.stop()
	s.Close()
}

// ended waits for Run to return.
func (s *server) ended() error {
	s.t.Helper()
	select {
	case err := <-s.result:
		return err
	case <-time.After(time.Minute):
		s.t.Fatal("Run did not return")
		return nil
	}
}

// freeze makes the process believe it stood still.
func (s *server) freeze(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

func (s *server) counts() (frozen, changes int, edged []envelope.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen, s.changes, slices.Clone(s.edged)
}

func (s *server) sees(ids ...string) bool {
	var got []string
	for _, r := range s.Servers() {
		got = append(got, string(r.ID))
	}
	return slices.Equal(got, ids)
}

func (s *server) attach(addrs ...envelope.Address) []envelope.Address {
	s.t.Helper()
	changed, err := s.Attach(s.t.Context(), "conn", addrs)
	if err != nil {
		s.t.Fatalf("attach: %v", err)
	}
	return changed
}

// ask routes and waits for the answer.
func (s *server) ask(addr envelope.Address, seq uint64) []envelope.ServerID {
	s.t.Helper()
	answer := make(chan []envelope.ServerID, 1)
	s.Route(addr, seq, func(servers []envelope.ServerID) { answer <- slices.Clone(servers) })
	select {
	case a := <-answer:
		return a
	case <-time.After(time.Minute):
		s.t.Fatalf("no route for %v", addr)
		return nil
	}
}

func node(id string) envelope.Address    { return envelope.NodeID(id).Address() }
func session(id string) envelope.Address { return envelope.SessionID(id).Address() }
