package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
)

// mesh describes the living servers, and how each is.
func (n *Node) mesh(ctx context.Context, who envelope.Principal) (gateway.Mesh, error) {
	if !who.App {
		return gateway.Mesh{}, errNotApp
	}
	servers := n.graph.Servers()
	healths := n.healthOf(ctx, servers)
	var mesh gateway.Mesh
	for _, r := range servers {
		s := gateway.MeshServer{
			ID: r.ID, Boot: r.Boot, URL: r.URL, ProxyURL: r.ProxyURL, Zone: r.Zone,
			Load: r.Load, MaxLoad: r.MaxLoad, Draining: r.Draining, Self: r.ID == n.cfg.Graph.Self.ID,
			Age: n.graph.Age(r.ID, r.Boot),
		}
		if s.Self {
			r.Links = n.peers.linked()
		}
		s.Links = slices.Sorted(slices.Values(r.Links))
		if h, answered := healths[r.ID]; answered {
			s.Health = &h
		}
		mesh.Servers = append(mesh.Servers, s)
	}
	return mesh, nil
}

// healthOf asks servers how they are. One that does not answer in time is absent.
func (n *Node) healthOf(ctx context.Context, servers []graph.Record) map[envelope.ServerID]gateway.Health {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	all := make(map[envelope.ServerID]gateway.Health, len(servers))
	answers := make(map[envelope.ServerID]<-chan gateway.Health, len(servers))
	for _, r := range servers {
		if r.ID == n.cfg.Graph.Self.ID {
			all[r.ID] = n.Health()
			continue
		}
		number, answer := n.questions.health.ask()
		defer n.questions.health.take(number)
		answers[r.ID] = answer
		n.peers.send(r.ID, recordHealth, n.healthQuestion(number))
	}
	for id, answer := range answers {
		select {
		case h := <-answer:
			all[id] = h
		case <-ctx.Done(): // others may have answered
			select {
			case h := <-answer:
				all[id] = h
			default:
			}
		}
	}
	return all
}

// Health says how this server is.
func (n *Node) Health() gateway.Health {
	h := gateway.Health{StoreWrite: n.graph.StoreWrite(), Links: n.peers.health()}
	for _, c := range n.conns.all() {
		waiting, behind := c.backlog()
		h.Waiting += waiting
		h.Longest = max(h.Longest, waiting)
		if behind {
			h.Behind++
		}
	}
	return h
}

// backlog returns how many frames wait to be written, and whether some of what
// the client is to get has yet to be read from logs.
func (c *conn) backlog() (waiting int, behind bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lane.count(), c.lagging
}

// health returns how the links are.
func (p *peers) health() []gateway.LinkHealth {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for _, l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	slices.SortFunc(links, func(a, b *link) int { return cmp.Compare(a.peer, b.peer) })
	health := make([]gateway.LinkHealth, len(links))
	for i, l := range links {
		health[i] = l.health()
	}
	return health
}

func (l *link) health() gateway.LinkHealth {
	l.mu.Lock()
	defer l.mu.Unlock()
	return gateway.LinkHealth{Server: l.peer, RoundTrip: l.roundTrip, Records: len(l.ends), Bytes: len(l.queue)}
}

// healthQuestion asks a server how it is. The number and the time, by this
// process's clock, come back with the answer.
func (n *Node) healthQuestion(number uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number), uint64(time.Since(n.began)))
}

// healthBody answers a question of another server, which is read from r.
func (n *Node) healthBody(r *envelope.Reader) []byte {
	number, asked := r.Uvarint(), r.Uvarint()
	h := n.Health()
	var body []byte
	for _, v := range []uint64{
		number, asked, uint64(time.Now().UnixNano()), uint64(h.StoreWrite), uint64(h.Waiting), uint64(h.Longest), uint64(h.Behind),
	} {
		body = binary.AppendUvarint(body, v)
	}
	for _, l := range h.Links {
		body = envelope.AppendString(body, string(l.Server))
		for _, v := range []uint64{uint64(l.RoundTrip), uint64(l.Records), uint64(l.Bytes)} {
			body = binary.AppendUvarint(body, v)
		}
	}
	return body
}

// healthTold takes such an answer.
func (n *Node) healthTold(r *envelope.Reader) {
	number, asked := r.Uvarint(), nanoseconds(r.Uvarint())
	wall := time.Unix(0, int64(nanoseconds(r.Uvarint())))
	h := gateway.Health{
		RoundTrip: max(0, time.Since(n.began)-asked), StoreWrite: nanoseconds(r.Uvarint()),
		Waiting: count(r), Longest: count(r), Behind: count(r),
	}
	h.Ahead = wall.Sub(time.Now().Add(-h.RoundTrip / 2).Round(0)) // it has looked at its clock half way
	for r.Err() == nil && len(r.Rest()) > 0 {
		l := gateway.LinkHealth{Server: envelope.ServerID(r.String()), RoundTrip: nanoseconds(r.Uvarint()), Records: count(r), Bytes: count(r)}
		h.Links = append(h.Links, l)
	}
	if r.Err() == nil {
		n.questions.health.answer(number, h)
	}
}

// count reads how many there are of something.
func count(r *envelope.Reader) int { return int(min(r.Uvarint(), 1<<53)) }
