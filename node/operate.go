package node

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// What the app sees of the mesh: where somebody can be reached, and how far
// devices have got.

// edges says where an address can be reached. Of an alias it does not: its edges
// are those of the device.
func (n *Node) edges(ctx context.Context, who envelope.Principal, cmd gateway.GetEdges) (gateway.Edges, error) {
	if !who.App {
		return gateway.Edges{}, errNotApp
	}
	if !envelope.ValidID(cmd.Of.ID) {
		return gateway.Edges{}, envelope.Errorf(envelope.NotFound, "no such address, or not yours to see")
	}
	edges, err := n.cfg.Graph.Store.Edges(ctx, cmd.Of)
	if err != nil {
		return gateway.Edges{}, err
	}
	reply := gateway.Edges{Of: make([]gateway.Edge, len(edges))}
	for i, e := range edges {
		reply.Of[i] = gateway.Edge{Server: e.Server, Boot: e.Boot, Alive: n.graph.Alive(e.Server, e.Boot)}
	}
	slices.SortFunc(reply.Of, func(a, b gateway.Edge) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Boot, b.Boot))
	})
	if n.cfg.PresenceOff {
		return reply, nil
	}
	seen, err := n.cfg.Graph.Store.Sightings(ctx, cmd.Of)
	for _, s := range seen {
		reply.LastSeen = s.At
	}
	return reply, err
}

// cursors returns a page of a device's cursors.
func (n *Node) cursors(ctx context.Context, who envelope.Principal, q gateway.GetCursors) (gateway.Cursors, error) {
	if q.Node == "" {
		q.Node = who.Node
	}
	switch {
	case q.Node != who.Node && !who.App:
		return gateway.Cursors{}, errNotApp
	case !envelope.ValidID(string(q.Node)):
		return gateway.Cursors{}, envelope.Errorf(envelope.BadRequest, "node_id has not the form of an id")
	}
	if q.Limit <= 0 {
		q.Limit = inbox.PageEntries
	}
	q.Limit = min(q.Limit, maxHistory)
	all, err := n.inbox.Cursors(ctx, q.Node)
	if err != nil {
		return gateway.Cursors{}, err
	}
	slices.SortFunc(all, func(a, b inbox.Cursor) int { return cmp.Compare(a.Log.String(), b.Log.String()) })
	var page gateway.Cursors
	for _, c := range all {
		if !q.After.IsZero() && c.Log.String() <= q.After.String() {
			continue
		}
		if q.Node != who.Node {
			c, err = n.cursorByName(ctx, c)
			if err != nil {
				return gateway.Cursors{}, err
			}
			if c.Delivered == 0 {
				continue
			}
		}
		if len(page.Of) == q.Limit {
			page.More = true
			break
		}
		page.Of = append(page.Of, gateway.Cursor{Log: c.Log, Delivered: c.Delivered, Read: c.Read})
		page.Next = c.Log
	}
	return page, nil
}

// cursorByName returns as much of a device's cursor as is known of it by its
// id; nothing of what it reads by an alias.
func (n *Node) cursorByName(ctx context.Context, c inbox.Cursor) (inbox.Cursor, error) {
	switch {
	case c.Log.Kind == envelope.KindSession && !isTopic(c.Log):
		m, err := n.cfg.Sessions.Member(ctx, envelope.SessionID(c.Log.ID), c.Node)
		if errors.Is(err, session.ErrNotFound) || err == nil && len(m.Spans) == 0 {
			return inbox.Cursor{}, nil
		}
		if err != nil {
			return inbox.Cursor{}, envelope.AsError(err)
		}
		in := inLastStay(m, c)
		in.Node, in.Log = c.Node, c.Log
		return in, nil
	case c.Log.Kind == envelope.KindNode && c.Log != c.Node.Address(): // of its alias
		return inbox.Cursor{}, nil
	}
	return c, nil
}
