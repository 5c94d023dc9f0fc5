package graph

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// maxLeases bounds what a flood of gossiped boot ids can take.
	maxLeases = 1024
	// sweepAfter is how long a boot must have been dead before the janitor
	// drops what it left.
	sweepAfter = time.Minute
	// forgetAfter is how long a boot that is gone for good is remembered, so
	// that late gossip about it does not bring it back.
	forgetAfter = 10 * time.Minute
)

// view is what this server knows of the others: one lease per boot id, fed by
// polling the store and by gossip.
type view struct {
	// static
	self    envelope.ServerID
	lease   time.Duration
	changed chan struct{} // signalled after the set of live servers changed

	version atomic.Uint64 // rises after any lease began or ceased to live

	mu      sync.Mutex
	leases  map[leaseKey]*lease
	live    []Record // of others, sorted by ID; replaced, never changed
	polled  time.Time
	arrival uint64
}

type leaseKey struct {
	id   envelope.ServerID
	boot string
}

// lease is one boot of another server. Routes hold pointers to it.
type lease struct {
	id    envelope.ServerID // static
	alive atomic.Bool       // written under view.mu

	// guarded by view.mu
	rec    Record
	stored bool          // has been seen in the store, not just in gossip
	gone   bool          // for good: left, superseded, or its record is deleted
	swept  bool          // the janitor has dropped what it left
	idle   time.Duration // polled time since its beat was last seen to advance
	seen   time.Time     // when that was
	order  uint64        // of first sight
}

func newView(self envelope.ServerID, d time.Duration) *view {
	return &view{
		self:    self,
		lease:   d,
		changed: make(chan struct{}, 1),
		leases:  make(map[leaseKey]*lease),
	}
}

// poll takes in all records of the store, as read from start on. Time passes
// for leases only between polls that succeeded, and never by more than
// lease/4 at once: neither a store that was away nor a freeze of this process
// says anything about other servers.
func (v *view) poll(records []Record, start time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var elapsed time.Duration
	if !v.polled.IsZero() {
		elapsed = min(start.Sub(v.polled), v.lease/4)
	}
	v.polled = start
	for _, l := range v.leases {
		l.idle += elapsed
	}
	stored := make(map[leaseKey]bool, len(records))
	for _, r := range records {
		if r.ID == v.self || !validRecord(r) {
			continue
		}
		key := leaseKey{r.ID, r.Boot}
		stored[key] = true
		l := v.leases[key]
		switch {
		case l == nil:
			l = v.add(key, r)
		case !l.stored:
			// A server that starts again gossips before it claims its record. However
			// long that took: only the store says that a boot is gone.
			l.gone, l.swept, l.idle, l.seen, l.rec = false, false, 0, time.Now(), r
		case r.Beat > l.rec.Beat:
			l.idle, l.seen = 0, time.Now()
			l.rec = r
		case r.Beat == l.rec.Beat:
			l.rec = r // gossip does not carry all of it
		}
		l.stored = true
	}
	for key, l := range v.leases {
		// A record that was there and is not means that it was released,
		// swept, or claimed by a newer boot: this boot never comes back.
		if l.stored && !stored[key] || !l.stored && v.expired(l) {
			v.end(l)
		}
		if l.gone && l.idle > forgetAfter {
			delete(v.leases, key)
		}
	}
	v.rebuild()
}

// gossip takes in what a server told of itself. It reports whether that boot
// had not been known, so that a poll is worth the while.
func (v *view) gossip(r Record, leaving bool) (news bool) {
	if r.ID == v.self {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := leaseKey{r.ID, r.Boot}
	l := v.leases[key]
	switch {
	case l == nil && (leaving || len(v.leases) >= maxLeases):
		return false
	case l == nil:
		v.add(key, r)
		news = true
	case leaving:
		v.end(l)
	case r.Beat > l.rec.Beat && !l.gone:
		r.Links, r.Gossip, r.Revivals = l.rec.Links, l.rec.Gossip, l.rec.Revivals
		l.rec = r
		l.idle, l.seen = 0, time.Now()
	}
	v.rebuild()
	return news
}

// add notes a boot at first sight. mu is held.
func (v *view) add(key leaseKey, r Record) *lease {
	v.arrival++
	l := &lease{id: r.ID, rec: r, seen: time.Now(), order: v.arrival}
	v.leases[key] = l
	return l
}

// end marks a boot as gone for good. mu is held.
func (v *view) end(l *lease) {
	if !l.gone {
		l.gone = true
		l.idle = max(l.idle, v.lease)
	}
}

// expired reports whether the beat has stood still for a lease. Half a poll
// interval is forgiven, so that a jittered poll does not add a whole one.
func (v *view) expired(l *lease) bool { return l.idle+v.lease/16 >= v.lease }

// rebuild brings alive, live and version up to date. mu is held.
func (v *view) rebuild() {
	flipped := false
	newest := make(map[envelope.ServerID]*lease, len(v.leases))
	for _, l := range v.leases {
		alive := !l.gone && !v.expired(l)
		if l.alive.Swap(alive) != alive {
			flipped = true
		}
		// Two boots of one server may both count for a moment; the one that
		// was seen first is on its way out.
		if n := newest[l.rec.ID]; alive && (n == nil || n.order < l.order) {
			newest[l.rec.ID] = l
		}
	}
	live := make([]Record, 0, len(newest))
	for _, l := range newest {
		live = append(live, l.rec)
	}
	slices.SortFunc(live, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	same := slices.EqualFunc(v.live, live, sameServer)
	v.live = live
	if flipped {
		v.version.Add(1)
	}
	if !same {
		signal(v.changed)
	}
}

// sameServer compares what users of [Config].OnServers decide on.
func sameServer(a, b Record) bool {
	return a.ID == b.ID && a.Boot == b.Boot && a.Addr == b.Addr && a.URL == b.URL &&
		a.ProxyURL == b.ProxyURL && a.PeerURL == b.PeerURL && a.Zone == b.Zone && a.Draining == b.Draining &&
		a.Revivals == b.Revivals
}

// others returns the records of the live servers but this one, sorted by ID.
// The slice must not be changed.
func (v *view) others() []Record {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.live
}

func (v *view) lastPoll() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.polled
}

func (v *view) isAlive(id envelope.ServerID, boot string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.leases[leaseKey{id, boot}]
	return l != nil && l.alive.Load()
}

// age returns the time since the beat of a boot was last seen to advance; 0 if
// it is not known.
func (v *view) age(id envelope.ServerID, boot string) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.leases[leaseKey{id, boot}]; l != nil {
		return time.Since(l.seen)
	}
	return 0
}

// resolve adds the leases of edges to leases, by address. Edges of boots that
// are gone, and those of boots that are not known at all, are returned apart.
func (v *view) resolve(edges []Edge, leases map[envelope.Address][]*lease) (gone, unknown []Edge) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range edges {
		if e.Server == v.self {
			continue
		}
		switch l := v.leases[leaseKey{e.Server, e.Boot}]; {
		case l == nil:
			unknown = append(unknown, e)
		case l.gone:
			gone = append(gone, e)
		default:
			leases[e.Addr] = append(leases[e.Addr], l)
		}
	}
	return gone, unknown
}

// leftover is a boot whose edges, and record if it still has one, can go.
type leftover struct {
	leaseKey
	rec  Record
	gone bool
}

// leftovers returns the boots that have been dead for sweepAfter.
func (v *view) leftovers() []leftover {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []leftover
	for key, l := range v.leases {
		if !l.alive.Load() && !l.swept && l.idle >= v.lease+sweepAfter {
			out = append(out, leftover{key, l.rec, l.gone})
		}
	}
	return out
}

// swept notes that the janitor is done with a boot. One that still had its
// record comes again once that is seen to be gone, which is harmless.
func (v *view) swept(key leaseKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.leases[key]; l != nil && l.gone {
		l.swept = true
	}
}

// signal wakes whoever waits on c, a channel with room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
