package graph

import "sync/atomic"

// Stats counts what a graph does, for metrics. All fields only rise.
type Stats struct {
	RouteHits     uint64 // routes answered from the cache
	RouteWaits    uint64 // routes that waited for a lookup
	RouteDrops    uint64 // routes dropped because too many waited
	Lookups       uint64 // edge lookups in the store
	LookupErrors  uint64
	EdgePuts      uint64 // edges written
	EdgeDeletes   uint64 // edges deleted
	EdgeErrors    uint64 // failed writes and deletes, each for up to a batch of edges
	Renewals      uint64 // of the lease
	RenewalErrors uint64
	PollErrors    uint64
	Freezes       uint64 // times this process found that it had been frozen
	Boots         uint64 // boot ids claimed after the first one
	Sweeps        uint64 // boots whose edges and record the janitor dropped
	Rejoins       uint64 // gossip joins after the first
	BadMeta       uint64 // malformed gossip metadata that was ignored
	Conflicts     uint64 // two gossip addresses under one server id
}

type counters struct {
	routeHits, routeWaits, routeDrops   atomic.Uint64
	lookups, lookupErrors               atomic.Uint64
	edgePuts, edgeDeletes, edgeErrors   atomic.Uint64
	renewals, renewalErrors, pollErrors atomic.Uint64
	freezes, boots, sweeps              atomic.Uint64
	rejoins, badMeta, conflicts         atomic.Uint64
}

// Stats returns the counters as they are now.
func (g *Graph) Stats() Stats {
	c := &g.counters
	return Stats{
		RouteHits:     c.routeHits.Load(),
		RouteWaits:    c.routeWaits.Load(),
		RouteDrops:    c.routeDrops.Load(),
		Lookups:       c.lookups.Load(),
		LookupErrors:  c.lookupErrors.Load(),
		EdgePuts:      c.edgePuts.Load(),
		EdgeDeletes:   c.edgeDeletes.Load(),
		EdgeErrors:    c.edgeErrors.Load(),
		Renewals:      c.renewals.Load(),
		RenewalErrors: c.renewalErrors.Load(),
		PollErrors:    c.pollErrors.Load(),
		Freezes:       c.freezes.Load(),
		Boots:         c.boots.Load(),
		Sweeps:        c.sweeps.Load(),
		Rejoins:       c.rejoins.Load(),
		BadMeta:       c.badMeta.Load(),
		Conflicts:     c.conflicts.Load(),
	}
}
