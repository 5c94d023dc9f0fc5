package node

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
)

// locate returns the servers a client should connect to, best first: those
// with a proxy address if it needs one, those that we are in touch with, those
// with members of its session, our zone, the least loaded, and this one.
func (n *Node) locate(ctx context.Context, who envelope.Principal, cmd gateway.Locate) (gateway.Servers, error) {
	near, err := n.near(ctx, who, cmd.Session)
	if err != nil {
		return gateway.Servers{}, err
	}
	self := n.graph.Self()
	linked := map[envelope.ServerID]bool{self.ID: true}
	for _, id := range n.peers.linked() {
		linked[id] = true
	}
	servers := n.open()
	n.sent.weigh(servers)
	best := func(a, b bool) int { // what is true stands in front
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	me := who.Node.Address()
	slices.SortFunc(servers, func(a, b graph.Record) int {
		return cmp.Or(
			best(!cmd.NeedProxy || a.ProxyURL != "", !cmd.NeedProxy || b.ProxyURL != ""),
			best(linked[a.ID], linked[b.ID]),
			best(near[a.ID], near[b.ID]),
			best(a.Zone == self.Zone, b.Zone == self.Zone),
			cmp.Compare(a.Load, b.Load),
			best(a.ID == self.ID, b.ID == self.ID),
			cmp.Compare(score(me, a.ID), score(me, b.ID)), // not all to the same
		)
	})
	servers = servers[:min(len(servers), cmd.Max)]
	if len(servers) > 0 {
		n.sent.add(servers[0].ID)
	}
	found := gateway.Servers{Servers: make([]gateway.Server, len(servers))}
	for i, r := range servers {
		found.Servers[i] = gateway.Server{ID: r.ID, Boot: r.Boot, Addr: r.Addr, URL: r.URL, ProxyURL: r.ProxyURL, Load: r.Load}
	}
	return found, nil
}

// near returns the servers with members of a session, if the caller is one of
// them: for others it is not to know.
func (n *Node) near(ctx context.Context, who envelope.Principal, session envelope.SessionID) (map[envelope.ServerID]bool, error) {
	if session == "" {
		return nil, nil
	}
	if !envelope.ValidID(string(session)) {
		return nil, envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
	}
	member, err := n.sessions.IsMember(ctx, session, who.Node)
	if err != nil || !member {
		return nil, err
	}
	edges, err := n.cfg.Graph.Store.Edges(ctx, session.Address())
	if err != nil {
		return nil, err
	}
	near := make(map[envelope.ServerID]bool)
	for _, e := range edges {
		near[e.Server] = near[e.Server] || n.graph.Alive(e.Server, e.Boot)
	}
	return near, nil
}

// open returns the servers that take connections, with their loads.
func (n *Node) open() []graph.Record {
	self := n.cfg.Graph.Self.ID
	var open []graph.Record
	for _, r := range n.graph.Servers() {
		if r.ID == self {
			r.Load = n.conns.len() // better known than by the last renewal
		}
		if !r.Draining && (r.MaxLoad == 0 || r.Load < r.MaxLoad) {
			open = append(open, r)
		}
	}
	return open
}

// sentTo counts the clients sent to each server since its load was last seen
// to change. What servers say of their load is seconds old; without this, all
// clients that come meanwhile would be sent to the same one.
type sentTo struct {
	mu      sync.Mutex
	clients map[envelope.ServerID]int // guarded by mu
	seen    map[envelope.ServerID]int // guarded by mu; the load last seen
}

// weigh adds the clients on their way to the loads of servers.
func (s *sentTo) weigh(servers []graph.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clients, seen := make(map[envelope.ServerID]int, len(servers)), make(map[envelope.ServerID]int, len(servers))
	for i, r := range servers {
		if s.seen[r.ID] == r.Load {
			clients[r.ID] = s.clients[r.ID]
		}
		seen[r.ID] = r.Load
		servers[i].Load += clients[r.ID]
	}
	s.clients, s.seen = clients, seen
}

func (s *sentTo) add(id envelope.ServerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = make(map[envelope.ServerID]int)
	}
	s.clients[id]++
}
