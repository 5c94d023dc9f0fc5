package graph

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Config is what a [Graph] is made of.
type Config struct {
	// Self is how this server presents itself. ID and Addr are needed; Boot,
	// Beat, Gossip, Load, Draining and Links are filled in.
	Self   Record
	Store  Store
	Gossip GossipConfig
	// Force takes over a record at once, even that of a living server.
	Force bool
	// Lease is how long a server counts without a sign of life; 8 s when 0.
	// All servers of a mesh should have the same.
	Lease time.Duration
	// Cache is how many addresses' routes are kept; 100,000 when 0.
	Cache int
	// Sole says that the store is this server's alone. Then nobody else has an
	// edge or changes a membership, and the store is not asked where an address is;
	// nobody is gossiped with; and when it writes what it has refused, somebody has to say so, see node.Node.Sweep.
	Sole   bool
	Logger *slog.Logger // nil: none

	// OnFrozen is called when this process finds that it stood still for more
	// than half a lease. Others may have stopped sending here: it closes all
	// connections and returns. Then a new boot id is claimed.
	OnFrozen func()
	// OnRevival is called after others have taken this server for dead although it has
	// gone on: when its record counts that (see [Graph.Revived]), and when a new boot id
	// was claimed. It must not block.
	OnRevival func()
	// OnServers is called, from a goroutine of its own and never twice at a
	// time, after the set of live servers or what they say of themselves
	// (not: load) has changed. It may be slow.
	OnServers func()
	// OnEdges is called with addresses whose edges were written without an
	// Attach that returns them: under a new boot id, or late after an error.
	// The other servers must be told as after Attach. It must not block long.
	OnEdges func([]envelope.Address)
	// OnGone is called with addresses that nobody here holds any more, after
	// their edges were deleted. It must not block long.
	OnGone func([]envelope.Address)
	// OnDead is called before the edges of a boot that is dead are dropped: of
	// another server, or of this one's last process. An error has them stay, and
	// it is called again. It may be slow.
	OnDead func(ctx context.Context, dead Record) error
	// Links returns the servers to which there are peer links now.
	Links func() []envelope.ServerID
	// Load returns the number of open connections now.
	Load func() int

	// now is the monotonic clock by which a freeze is noticed; time.Now when nil.
	now func() time.Time
}

// Graph is one server's part in the mesh: its own lease and edges, and its
// view of the others'. All methods are safe for concurrent use.
type Graph struct {
	// static
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	view   *view
	gossip *gossip // nil: there is nobody else, see Config.Sole
	routes *routes
	holds  *holds

	polls chan chan error // asks for a poll that begins after the asking
	news  chan struct{}   // a poll is worth the while
	renew chan struct{}   // a renewal is due before its time
	speak chan struct{}   // a gossip announcement is due
	thaw  chan struct{}   // the process was frozen

	wrote    atomic.Int64 // how long the last renewal took, nanoseconds
	counters counters
	keeping  sync.WaitGroup // the lease, in Run

	mu      sync.Mutex
	record  Record
	renewed time.Time // when the last renewal or claim began that succeeded
	counted uint64    // the revivals in the record as last renewed
	closed  bool
}

// Start claims this server's record, starts to gossip and joins the others, if there may be any.
// [Graph.Run] must be called soon after it; ctx is for Start alone.
//
// It fails with an [*envelope.Error] of code Conflict when another process
// lives under the same ID or Addr. Without Force it watches an existing record
// for a lease to find out.
func Start(ctx context.Context, c Config) (*Graph, error) {
	c.Lease = cmp.Or(c.Lease, 8*time.Second)
	c.Cache = cmp.Or(c.Cache, 100_000)
	c.now = cmpFunc(c.now, time.Now)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.OnFrozen = cmpFunc(c.OnFrozen, func() {})
	c.OnRevival = cmpFunc(c.OnRevival, func() {})
	c.OnServers = cmpFunc(c.OnServers, func() {})
	c.OnEdges = cmpFunc(c.OnEdges, func([]envelope.Address) {})
	c.OnDead = cmpFunc(c.OnDead, func(context.Context, Record) error { return nil })
	c.OnGone = cmpFunc(c.OnGone, func([]envelope.Address) {})
	c.Links = cmpFunc(c.Links, func() []envelope.ServerID { return nil })
	c.Load = cmpFunc(c.Load, func() int { return 0 })
	c.Self.Boot = newBoot()
	c.Self.Beat = 1
	if !validRecord(c.Self) {
		return nil, envelope.Errorf(envelope.BadRequest, "server id %q or one of its URLs is malformed", c.Self.ID)
	}

	g := &Graph{
		cfg:    c,
		log:    c.Logger,
		view:   newView(c.Self.ID, c.Lease),
		polls:  make(chan chan error),
		news:   make(chan struct{}, 1),
		renew:  make(chan struct{}, 1),
		speak:  make(chan struct{}, 1),
		thaw:   make(chan struct{}, 1),
		record: c.Self,
	}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !c.Sole {
		var err error
		g.gossip, err = startGossip(c.Gossip, c.Self, g.view, &g.counters, g.news, c.Logger)
		if err != nil {
			g.cancel()
			return nil, err
		}
		g.record.Gossip = g.gossip.addr
	}
	if err := g.claim(ctx); err != nil {
		g.gossip.stop()
		g.cancel()
		return nil, err
	}
	g.routes = newRoutes(g.ctx, c.Cache, g.find, g.view, &g.counters)
	g.holds = &holds{
		ctx:     g.ctx,
		store:   c.Store,
		self:    c.Self.ID,
		timeout: g.timeout(),
		written: c.OnEdges,
		gone:    c.OnGone,
		counts:  &g.counters,
		log:     c.Logger,
		boot:    g.record.Boot,
		held:    make(map[envelope.Address]*hold),
	}
	// Nothing renews the lease yet; who cannot be reached is tried again by Run.
	ctx, cancel := context.WithTimeout(ctx, c.Lease/4)
	defer cancel()
	g.gossip.join(ctx, g.view.others())
	return g, nil
}

func cmpFunc[F interface {
	func() | func() int | func() time.Time | func() []envelope.ServerID | func([]envelope.Address) |
		func(context.Context, Record) error
}](f, otherwise F) F {
	if f == nil {
		return otherwise
	}
	return f
}

func newBoot() string { return rand.Text() }

// timeout returns how long one call of the store may take.
func (g *Graph) timeout() time.Duration { return g.cfg.Lease / 2 }

// Run keeps the lease, watches the others' and sweeps up after dead servers.
// It returns nil when ctx ends or the graph is closed, and [ErrTakenOver] when
// another process has claimed the record of this server: then nothing here
// may serve clients any longer.
func (g *Graph) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { g.pollStore(ctx) })
	wg.Go(func() { g.sweep(ctx) })
	now := g.cfg.now() // a freeze before the goroutine begins counts as well
	wg.Go(func() { g.watchFreeze(ctx, now) })
	if g.gossip != nil {
		wg.Go(func() { g.gossip.rejoin(ctx, g.cfg.Lease) })
		wg.Go(func() { g.each(ctx, g.speak, g.announce) })
	}
	wg.Go(func() { g.each(ctx, g.view.changed, g.cfg.OnServers) })

	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.keeping.Add(1)
	g.mu.Unlock()
	defer g.keeping.Done()
	return g.keepLease(ctx)
}

// each calls f for each signal until ctx ends.
func (g *Graph) each(ctx context.Context, signals <-chan struct{}, f func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			f()
		}
	}
}

func (g *Graph) announce() {
	if err := g.gossip.describe(g.self(), false); err != nil {
		g.log.Error("gossip metadata", "err", err)
		return
	}
	g.gossip.announce(time.Second)
}

func (g *Graph) self() Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.record
}

// Self returns this server's record as last renewed.
func (g *Graph) Self() Record { return g.self() }

// Boot returns the boot id under which this server's edges are written.
func (g *Graph) Boot() string { return g.self().Boot }

// Servers returns the live servers, this one among them, sorted by ID.
func (g *Graph) Servers() []Record {
	self := g.self()
	self.Load = g.cfg.Load()
	others := g.view.others()
	at, _ := slices.BinarySearchFunc(others, self, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Insert(slices.Clone(others), at, self)
}

// Alive reports whether the lease of a boot of a server lives.
func (g *Graph) Alive(id envelope.ServerID, boot string) bool {
	if self := g.self(); id == self.ID {
		return boot == self.Boot
	}
	return g.view.isAlive(id, boot)
}

// Lives reports whether some boot of another server is alive.
func (g *Graph) Lives(id envelope.ServerID) bool {
	others := g.view.others()
	_, found := slices.BinarySearchFunc(others, id, func(r Record, id envelope.ServerID) int { return cmp.Compare(r.ID, id) })
	return found
}

// Age returns the time since a boot of another server was last seen to live, by
// its record in the store or by gossip; 0 if it is not known.
func (g *Graph) Age(id envelope.ServerID, boot string) time.Duration { return g.view.age(id, boot) }

// Renewed returns when the last renewal of this server's lease began that
// succeeded. Others take the server for alive for about [Graph.Tolerance] after that.
func (g *Graph) Renewed() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.renewed
}

// Tolerance returns for how long others take a server for alive that does not
// renew its lease: at least, but for the time that their own look at the records takes.
func (g *Graph) Tolerance() time.Duration { return g.cfg.Lease * 7 / 8 }

// Polled returns when the last look at the records in the store began that
// succeeded: servers that were there then are known.
func (g *Graph) Polled() time.Time { return g.view.lastPoll() }

// StoreWrite returns what the last renewal of this server's lease has taken:
// how long the store takes for a small write. 0 before the first.
func (g *Graph) StoreWrite() time.Duration { return time.Duration(g.wrote.Load()) }

// SetDraining tells the others at once whether this server sends its clients away.
func (g *Graph) SetDraining(draining bool) {
	g.mu.Lock()
	g.record.Draining = draining
	g.record.Beat++ // so that others take this for the newer
	g.mu.Unlock()
	signal(g.renew)
	signal(g.speak)
}

// Attach notes that a connection holds addresses. The first holder of an
// address on this server writes its edge. When Attach returns nil, the edges
// of all addresses are in the store, so whatever the others append from then
// on is sent here; with an error nothing is held. changed are the addresses
// whose edges were written meanwhile: the other servers must be told, because
// they may have looked just before (see [Graph.EdgeChanged]).
func (g *Graph) Attach(ctx context.Context, conn string, addrs []envelope.Address) (changed []envelope.Address, err error) {
	return g.holds.attach(ctx, conn, addrs)
}

// Detach gives back what Attach took. The last holder's edge is deleted soon
// after; while the store is away that is tried again and again.
func (g *Graph) Detach(_ context.Context, addrs []envelope.Address) { g.holds.detach(addrs) }

// Route calls f with the other servers that have a live edge for addr. It does
// so at once when they are known; else later, from a goroutine of the graph,
// after a look into the store. For one address f is called in the order of the
// calls of Route. seq is the position that was appended, 0 for none.
//
// f must not block and must not change or keep the slice. It is never called
// when more than 256 calls wait for one address and this is the oldest, or
// when the graph closes first; both are counted.
func (g *Graph) Route(addr envelope.Address, seq uint64, f func(servers []envelope.ServerID)) {
	if g.cfg.Sole {
		f(nil)
		return
	}
	g.routes.route(addr, seq, f)
}

// Settled is Route for an address of which it is known where it is, and the call
// is at once: it returns what f would be called with. Else it returns false and
// the call is to be made by Route.
func (g *Graph) Settled(addr envelope.Address, seq uint64) (servers []envelope.ServerID, ok bool) {
	if g.cfg.Sole {
		return nil, true
	}
	return g.routes.settled(addr, seq)
}

// EdgeChanged notes that a peer has written an edge for addr. What was known
// of the address is forgotten. It returns the highest seq that was routed
// without that edge, as far as remembered: the peer must hear of it.
func (g *Graph) EdgeChanged(addr envelope.Address) (last uint64, known bool) {
	return g.routes.changed(addr)
}

// Invalidate notes that a peer has no connection for addr any more. What was
// known of the address is forgotten.
func (g *Graph) Invalidate(addr envelope.Address) { g.routes.changed(addr) }

// FlushRoutes forgets all routes, because a peer's EdgeChanged may have been lost.
func (g *Graph) FlushRoutes() { g.routes.flush() }

// find looks up the leases of the edges of some addresses.
func (g *Graph) find(ctx context.Context, addrs []envelope.Address) (map[envelope.Address][]*lease, error) {
	edges, err := g.edges(ctx, addrs)
	if err != nil {
		return nil, err
	}
	leases := make(map[envelope.Address][]*lease, len(addrs))
	gone, unknown := g.view.resolve(edges, leases)
	if len(unknown) > 0 {
		// A server claims its boot id before it writes edges with it, so a
		// boot that a poll from now on does not show is gone for good.
		if err := g.refresh(ctx); err != nil {
			return nil, err
		}
		var dead []Edge
		dead, unknown = g.view.resolve(unknown, leases)
		gone = append(append(gone, dead...), unknown...)
	}
	if len(gone) > 0 {
		ctx, cancel := context.WithTimeout(ctx, g.timeout())
		defer cancel()
		if err := g.cfg.Store.DeleteEdges(ctx, gone); err != nil {
			g.log.Debug("edges of gone servers could not be deleted", "edges", len(gone), "err", err)
		}
	}
	return leases, nil
}

func (g *Graph) edges(ctx context.Context, addrs []envelope.Address) ([]Edge, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout())
	defer cancel()
	return g.cfg.Store.Edges(ctx, addrs...)
}

// Leave tells the others that this server is gone, closes the graph, and
// deletes its record and its edges. Connections should be closed before.
func (g *Graph) Leave(ctx context.Context) error {
	g.gossip.leave(g.self(), g.cfg.Lease/4)
	g.Close() // first, so that nothing is written behind our back
	self := g.self()
	return errors.Join(
		g.cfg.Store.Release(ctx, self.ID, self.Boot),
		g.cfg.Store.DropEdges(ctx, self.ID, self.Boot),
	)
}

// Close stops everything at once, without a word to the others, who see a
// crash. It may be called more than once, but not during Leave.
func (g *Graph) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.keeping.Wait()
	g.gossip.stop()
	g.routes.close()
	g.holds.close()
}
