// Package node is the process: it owns the connections of clients and the
// links to other servers, and takes a message from the one to the other.
//
// The way of a message: [Node.Do] or a connection's read loop takes a command,
// stamps it, resolves its address and appends it to that address's log; only
// then is the sender acknowledged. What follows are hints: the message goes to
// the local connections that follow the log and over peer links to the servers
// with an edge for the address. A reader that misses a hint notices the hole in
// the numbers, or is told by a sweep, and reads the log.
package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/hook/ask"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// Config is what a Node is made of. Everything but the last group is needed.
type Config struct {
	Graph     graph.Config // Links, Load, OnFrozen and OnServers are the node's to set
	Inbox     inbox.Store
	Sessions  session.Store
	MeshKey   []byte          // authenticates peer links
	Retention inbox.Retention // the zero one keeps everything
	Log       *slog.Logger

	// SharedStore says that servers of other processes write to the stores
	// too: then appends to one log go to one server.
	SharedStore bool

	// PresenceOff says that nobody is told who is connected, nor when anybody
	// was: nothing of it is noted then.
	PresenceOff bool

	// Guests says that members of sessions may be guests, who are to leave when
	// their identities have ended.
	Guests bool

	// Revocations are the credentials that count no more; nil: all count. The
	// node keeps them fresh.
	Revocations *auth.Revocations

	Push Push // the zero one wakes nobody

	Hooks Hooks // the zero one tells nobody

	Authorize ask.Config // who has a say in what clients do; the zero one asks nobody

	Signals SignalLimit // the zero one bounds nothing

	Limits Limits // the zero one bounds nothing

	MaxConnections int         // clients; 0 means 50,000
	PeerTLS        *tls.Config // for both ends of peer links; nil means plain
	// PeerDial opens the connections below peer links; nil means the net package.
	PeerDial func(ctx context.Context, network, addr string) (net.Conn, error)
	Timing   Timing // zero fields mean the defaults
}

// Timing holds the periods that tests and unusual networks change.
type Timing struct {
	Hello     time.Duration // how long a client may take to say hello before it is served without
	Ping      time.Duration // between pings of an idle client
	Pong      time.Duration // how long an answer to a ping may take
	Stall     time.Duration // how long a write may make no progress
	Sweep     time.Duration // between comparisons of positions with the heads
	Tidy      time.Duration // between rounds that apply the retention
	PeerBeat  time.Duration // between signs of life on a peer link; six without one end it
	PeerRetry time.Duration // longest pause between attempts to open a peer link

	Expiring    time.Duration // how long before its credential ends a client is told
	MasterGrace time.Duration // how long the master of a game may be connected nowhere before there is another
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&t.Hello, 3*time.Second)
	set(&t.Ping, 25*time.Second)
	set(&t.Pong, 20*time.Second)
	set(&t.Stall, time.Minute)
	set(&t.Sweep, time.Minute)
	set(&t.Tidy, 10*time.Minute)
	set(&t.PeerBeat, time.Second)
	set(&t.Expiring, 30*time.Second)
	set(&t.MasterGrace, 5*time.Second)
	set(&t.PeerRetry, 2*time.Second)
	return t
}

const defaultMaxConnections = 50_000

// Node is one server of the mesh. It implements [gateway.Core]. Its methods
// are safe for concurrent use.
type Node struct {
	// Static after New.
	cfg       Config
	log       *slog.Logger
	timing    Timing
	inbox     *inbox.Inbox
	sessions  *session.Sessions
	topics    *session.Topics
	headers   *topicHeaders
	graph     *graph.Graph
	epoch     string
	idKey     []byte    // what ids of sessions are made with
	process   string    // tells this start of the process from all others
	began     time.Time // of the process, for its clock
	clocks    clocks
	questions inquiries
	conns     *registry
	peers     *peers
	owners    *owners
	sent      sentTo
	sweeps    *sweeper
	keeper    *keeper
	sights    *sightings
	watchers  *watchers
	masters   *masters
	signals   *signals
	revoker   revoker
	flusher   flusher
	lines     lines
	alarms    *alarms
	limits    limits
	waker     *waker        // nil: nobody is woken
	hooks     *hooks        // nil: nobody is told
	backend   *ask.Backend  // nil: everything is allowed
	lookUps   chan struct{} // a token for each look into a log for receipts
	stats     Stats

	submissions sync.Pool // of *submission
	laneMemory  sync.Pool // of *laneMemory

	draining atomic.Bool
	leaving  chan struct{}  // a token when this server has been asked to drain
	serving  sync.WaitGroup // connections; Add only while not closed, under life

	life struct {
		sync.Mutex
		closed bool
	}
}

// New claims the server's place in the mesh and returns its Node. The caller
// runs [Node.Run] and hands peer connections to [Node.ServePeer].
func New(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = defaultMaxConnections
	}
	n := &Node{cfg: cfg, log: cfg.Log, timing: cfg.Timing.withDefaults(), process: rand.Text(), began: time.Now()}
	n.submissions.New = func() any { return new(submission) }
	n.laneMemory.New = func() any { return new(laneMemory) }
	n.conns = newRegistry(connectionCaps{cfg.MaxConnections, cfg.Limits.ClientConnections, cfg.Limits.AddressConnections})
	n.alarms = newAlarms(n.began)
	n.inbox = inbox.New(cfg.Inbox, cfg.Log)
	n.sessions = session.New(cfg.Sessions, n.appendNotice, n.memberChanged)
	n.sessions.OnInterrupted(n.moved)
	n.sessions.Hear(n.heard)
	n.topics = session.NewTopics(cfg.Sessions)
	n.headers = newTopicHeaders()
	n.sweeps = newSweeper(n)
	n.keeper = newKeeper(n)
	n.sights = newSightings(n)
	n.watchers = newWatchers(n)
	n.masters = newMasters(n)
	n.signals = newSignals(cfg.Signals)
	n.revoker = revoker{n, cfg.Revocations}
	n.limits = newLimits(cfg.Limits)
	n.lookUps = make(chan struct{}, maxLookUps)
	n.leaving = make(chan struct{}, 1)
	n.waker = newWaker(n, cfg.Push)
	n.hooks = newHooks(n, cfg.Hooks)
	n.backend = ask.New(cfg.Authorize)
	n.owners = newOwners(n)
	var err error
	if n.peers, err = newPeers(n); err != nil {
		return nil, err
	}
	if n.idKey, err = newSessionKey(cfg.MeshKey); err != nil {
		return nil, err
	}
	n.epoch, err = cfg.Inbox.Epoch(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Revocations != nil { // before the first connection
		if _, err = cfg.Revocations.Refresh(ctx); err != nil {
			return nil, err
		}
	}

	g := cfg.Graph
	g.Self.MaxLoad = cfg.MaxConnections
	g.Links = n.peers.linked
	g.Load = n.conns.len
	g.OnFrozen = func() {
		n.log.Warn("this process stood still; closing all connections")
		n.closeAll(envelope.GoingAway, "the server stood still")
	}
	g.OnRevival = n.hooks.revived
	g.OnServers = func() {
		n.peers.serversChanged()
		n.watchers.serversChanged()
		n.hooks.serversChanged()
	}
	g.OnDead = func(ctx context.Context, dead graph.Record) error {
		back := func() bool { return n.graph != nil && n.graph.Alive(dead.ID, dead.Boot) } // nil: within graph.Start
		return errors.Join(n.waker.lost(ctx, dead.ID, dead.Boot), n.hooks.lost(ctx, dead, back))
	}
	g.OnEdges = n.peers.announce
	g.OnGone = n.peers.gone
	if n.graph, err = graph.Start(ctx, g); err != nil {
		return nil, err
	}
	return n, nil
}

// closing is how long clients get to answer a goodbye when the node ends.
const closing = 3 * time.Second

// Run does the node's background work until ctx ends; call [Node.Drain] first
// to end in peace. It returns an error when the node cannot go on: another
// process has taken over its record.
func (n *Node) Run(ctx context.Context) error {
	// What connections need goes on until the last of them has ended.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { n.inbox.Run(background) })
	wg.Go(func() { n.peers.run(background) })
	wg.Go(func() { n.sweeps.run(background) })
	wg.Go(func() { n.keeper.run(background) })
	wg.Go(func() { n.sights.run(background) })
	wg.Go(func() { n.watchers.run(background) })
	wg.Go(func() { n.masters.run(background) })
	wg.Go(func() { n.waker.run(background) })
	wg.Go(func() { n.hooks.run(background) })
	wg.Go(func() { n.revoker.run(background) })
	wg.Go(func() { n.alarms.run(background) })
	err := n.graph.Run(ctx)

	n.life.Lock()
	n.life.closed = true
	n.life.Unlock()
	n.closeAll(envelope.GoingAway, "the server is shutting down")
	n.backend.Close() // connections wait for it
	abort := time.AfterFunc(closing, func() {
		for _, c := range n.conns.all() {
			c.t.Abort()
		}
	})
	n.serving.Wait()
	abort.Stop()
	cancel()
	wg.Wait()
	return err
}

// Self implements [gateway.Core].
func (n *Node) Self() (envelope.ServerID, string) {
	return n.cfg.Graph.Self.ID, n.graph.Boot()
}

// Admit implements [gateway.Core].
func (n *Node) Admit() error {
	if n.draining.Load() {
		return envelope.Errorf(envelope.GoingAway, "this server is shutting down; connect to another")
	}
	if n.conns.len() >= n.cfg.MaxConnections {
		n.stats.RefusedFull.Add(1)
		return envelope.BusyError(1000, "this server has all the connections it takes", nil)
	}
	return nil
}

// Ready reports why the node should not get new clients, or nil.
func (n *Node) Ready() error {
	if n.draining.Load() {
		return errors.New("draining")
	}
	n.life.Lock()
	defer n.life.Unlock()
	if n.life.closed {
		return errors.New("closed")
	}
	select {
	case <-n.peers.settled:
		return nil
	default:
		return errors.New("no links to the other servers yet")
	}
}

// Servers returns the living servers of the mesh, this one included.
func (n *Node) Servers() []graph.Record { return n.graph.Servers() }

// Graph returns what the node knows of the mesh, for its metrics.
func (n *Node) Graph() *graph.Graph { return n.graph }

// closeAll says goodbye to every connection.
func (n *Node) closeAll(code envelope.Code, reason string) {
	for _, c := range n.conns.all() {
		c.close(code, reason)
	}
}

var _ gateway.Core = (*Node)(nil)
