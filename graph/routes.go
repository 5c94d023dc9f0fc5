package graph

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	routeAge     = 30 * time.Second // after which an entry is looked up anew, hints or not
	routeWaiters = 256              // calls that wait for one address
	routeBacklog = 1 << 16          // calls that wait for any address
	routeWorkers = 8                // questions to the store at a time
	routeBatch   = 64               // addresses in one question
	retryFirst   = 100 * time.Millisecond
	retryMost    = 2 * time.Second
)

// routes is the cache of edges and the lookups that fill it.
//
// An address is either settled (its entry is fresh and calls are answered from
// it) or it has a lookup, and then all calls for it queue up there until the
// queue has been worked off, so that none overtakes another.
type routes struct {
	// static
	ctx    context.Context
	find   func(context.Context, []envelope.Address) (map[envelope.Address][]*lease, error)
	view   *view
	counts *counters

	wg sync.WaitGroup // workers

	mu      sync.Mutex
	cache   *simplelru.LRU[envelope.Address, *route]
	lookups map[envelope.Address]*lookup
	ready   []*lookup // for a worker to take
	workers int
	waiting int // calls in all lookups
	flushes uint64
	closed  bool
}

// route is a cache entry. It outlives its edges, because EdgeChanged asks for
// last after they have become stale.
type route struct {
	leases  []*lease
	servers []envelope.ServerID // of the leases alive at version; replaced, never changed
	version uint64
	at      time.Time // when the lookup began
	flushes uint64
	stale   bool
	last    uint64 // highest seq routed
}

// lookup is a question to the store and the calls that wait for the answer.
type lookup struct {
	addr  envelope.Address
	route *route
	calls []call
	again bool // the answer under way is outdated
	tries int  // that failed in a row
}

type call struct {
	seq uint64
	f   func([]envelope.ServerID)
}

func newRoutes(ctx context.Context, size int, find func(context.Context, []envelope.Address) (map[envelope.Address][]*lease, error), v *view, c *counters) *routes {
	cache, err := simplelru.NewLRU[envelope.Address, *route](size, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &routes{ctx: ctx, find: find, view: v, counts: c, cache: cache, lookups: make(map[envelope.Address]*lookup)}
}

// live returns the servers of r that count now.
func (r *route) live(v *view) []envelope.ServerID {
	version := v.version.Load()
	if r.version == version {
		return r.servers
	}
	servers := make([]envelope.ServerID, 0, len(r.leases))
	for _, l := range r.leases {
		if l.alive.Load() {
			servers = append(servers, l.id)
		}
	}
	r.version = version
	r.servers = servers
	return servers
}

// settled answers a call for an address that is settled; false for another.
func (t *routes) settled(addr envelope.Address, seq uint64) (servers []envelope.ServerID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.fresh(addr); ok {
		return t.hit(r, seq), true
	}
	return nil, false
}

// fresh returns the entry of an address, and whether the address is settled. mu
// is held. What is in use counts as used when it is looked up anew, each routeAge,
// and not for each message.
func (t *routes) fresh(addr envelope.Address) (r *route, ok bool) {
	r, ok = t.cache.Peek(addr)
	return r, ok && !r.stale && r.flushes == t.flushes && time.Since(r.at) < routeAge
}

// hit returns where the address of a fresh entry is. mu is held.
func (t *routes) hit(r *route, seq uint64) []envelope.ServerID {
	r.last = max(r.last, seq)
	t.counts.routeHits.Add(1)
	return r.live(t.view)
}

func (t *routes) route(addr envelope.Address, seq uint64, f func([]envelope.ServerID)) {
	t.mu.Lock()
	r, ok := t.fresh(addr)
	if ok {
		servers := t.hit(r, seq)
		t.mu.Unlock()
		f(servers)
		return
	}
	defer t.mu.Unlock()
	l := t.lookups[addr]
	if t.closed || t.waiting >= routeBacklog && (l == nil || len(l.calls) == 0) {
		t.counts.routeDrops.Add(1)
		return
	}
	t.counts.routeWaits.Add(1)
	if l == nil {
		if r == nil {
			r = &route{}
			t.cache.Add(addr.Clone(), r)
		}
		r.stale = true // until the calls that wait have been answered
		l = &lookup{addr: addr, route: r}
		t.lookups[addr] = l
		t.push(l)
	}
	if len(l.calls) == routeWaiters || t.waiting == routeBacklog {
		t.counts.routeDrops.Add(1)
		l.calls = slices.Delete(l.calls, 0, 1)
		t.waiting--
	}
	l.calls = append(l.calls, call{seq, f})
	t.waiting++
}

// push hands a lookup to a worker. mu is held.
func (t *routes) push(l *lookup) {
	if t.closed {
		return
	}
	t.ready = append(t.ready, l)
	if t.workers < routeWorkers {
		t.workers++
		t.wg.Go(t.work)
	}
}

// work answers lookups until none is ready.
func (t *routes) work() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.ready) > 0 && !t.closed {
		n := min(len(t.ready), routeBatch)
		batch := slices.Clone(t.ready[:n])
		t.ready = slices.Delete(t.ready, 0, n)
		t.ask(batch)
	}
	t.workers--
}

// ask asks the store about the addresses of some lookups, all at once, and
// answers them. mu is held, but for the time of the question and of the calls.
func (t *routes) ask(batch []*lookup) {
	addrs := make([]envelope.Address, len(batch))
	for i, l := range batch {
		addrs[i], l.again = l.addr, false
	}
	flushes := t.flushes
	start := time.Now()
	t.mu.Unlock()
	t.counts.lookups.Add(1)
	leases, err := t.find(t.ctx, addrs)
	t.mu.Lock()
	if err != nil {
		t.counts.lookupErrors.Add(1)
	}
	for _, l := range batch {
		if err == nil {
			t.answer(l, leases[l.addr], start, flushes)
		} else {
			t.later(l)
		}
	}
}

// later tries a lookup that failed again after a pause. mu is held.
func (t *routes) later(l *lookup) {
	delay := backoff(l.tries)
	l.tries++
	time.AfterFunc(delay, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.push(l)
	})
}

// answer works off the calls that wait for a lookup with what the store said.
// mu is held, but for the time of the calls.
func (t *routes) answer(l *lookup, leases []*lease, start time.Time, flushes uint64) {
	l.tries = 0
	r := l.route
	r.leases, r.at, r.flushes = leases, start, flushes
	r.version-- // so that live looks at the leases
	for len(l.calls) > 0 {
		if l.again || t.flushes != flushes {
			t.push(l)
			return
		}
		calls := l.calls
		l.calls = nil
		t.waiting -= len(calls)
		servers := r.live(t.view)
		for _, c := range calls {
			r.last = max(r.last, c.seq)
		}
		t.mu.Unlock()
		for _, c := range calls {
			c.f(servers)
		}
		t.mu.Lock()
	}
	delete(t.lookups, l.addr)
	if !l.again {
		r.stale = false
		t.cache.Add(l.addr, r) // it may have been evicted meanwhile
	}
}

// changed makes the entry of addr stale, and the answer of a lookup that is
// under way as well.
func (t *routes) changed(addr envelope.Address) (last uint64, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.lookups[addr]; l != nil {
		l.again = true
		return l.route.last, true
	}
	r, ok := t.cache.Peek(addr)
	if !ok {
		return 0, false
	}
	r.stale = true
	return r.last, true
}

// flush makes all entries stale.
func (t *routes) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flushes++
}

// close drops what waits and waits for the workers.
func (t *routes) close() {
	t.mu.Lock()
	t.closed = true
	t.counts.routeDrops.Add(uint64(t.waiting))
	t.waiting = 0
	t.ready = nil
	clear(t.lookups)
	t.mu.Unlock()
	t.wg.Wait()
}

// backoff returns how long to wait after so many failures before this one.
func backoff(tries int) time.Duration {
	return min(retryFirst<<min(tries, 10), retryMost)
}
