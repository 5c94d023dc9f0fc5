package graph

import "github.com/allsparkrt/allspark/envelope"

// NextHop returns the server to hand something for another server to, when
// there is no link to that one: the first step of a shortest path over the
// links that servers have recorded, each counting in both directions. It
// starts at the servers for which linked is true, which is asked for live
// servers only. Among equally short paths the lowest id wins.
func (g *Graph) NextHop(to envelope.ServerID, linked func(envelope.ServerID) bool) (envelope.ServerID, bool) {
	return nextHop(g.view.others(), g.self().ID, to, linked)
}

// nextHop walks from the destination towards self, so that the first linked
// server it meets is the nearest to the destination. records are sorted by ID.
func nextHop(records []Record, self, to envelope.ServerID, linked func(envelope.ServerID) bool) (envelope.ServerID, bool) {
	links := make(map[envelope.ServerID][]envelope.ServerID, len(records))
	for _, r := range records {
		for _, peer := range r.Links {
			links[r.ID] = append(links[r.ID], peer)
			links[peer] = append(links[peer], r.ID)
		}
	}
	left := make(map[envelope.ServerID]bool, len(records)) // live and not reached yet
	for _, r := range records {
		left[r.ID] = r.ID != self
	}
	ring := []envelope.ServerID{to} // those at one distance from the destination
	if !left[to] {
		return "", false
	}
	for len(ring) > 0 {
		var best envelope.ServerID
		for _, id := range ring {
			left[id] = false
			if (best == "" || id < best) && linked(id) {
				best = id
			}
		}
		if best != "" {
			return best, true
		}
		var next []envelope.ServerID
		for _, id := range ring {
			for _, peer := range links[id] {
				if left[peer] {
					left[peer] = false
					next = append(next, peer)
				}
			}
		}
		ring = next
	}
	return "", false
}
