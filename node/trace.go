package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// maxTraced bounds the readers that a trace names.
const maxTraced = 1000

var errNoMessage = envelope.Errorf(envelope.NotFound, "no such message, or not yours to trace")

// trace tells a sender, or the app, what has become of a stored message.
func (n *Node) trace(ctx context.Context, who envelope.Principal, cmd gateway.Trace) (gateway.Traced, error) {
	if cmd.Dest.IsZero() || cmd.ID == "" {
		return gateway.Traced{}, errNoMessage
	}
	sources, err := n.sources(ctx, who, cmd)
	if err != nil {
		return gateway.Traced{}, err
	}
	var src envelope.NodeID
	var found inbox.Found
	for _, src = range sources {
		if found, err = n.inbox.Find(ctx, cmd.Dest, src, cmd.ID); err != nil {
			return gateway.Traced{}, err
		}
		if found.Seq != 0 {
			break
		}
	}
	if found.Seq == 0 {
		return gateway.Traced{}, errNoMessage
	}
	x, err := n.inbox.Extent(ctx, cmd.Dest)
	if err != nil {
		return gateway.Traced{}, err
	}
	traced := gateway.Traced{ID: cmd.ID, Log: cmd.Dest, Seq: found.Seq, Trimmed: found.Seq < x.Floor}
	if found.Timestamp != 0 {
		traced.Accepted = time.UnixMilli(found.Timestamp)
	}
	named, err := n.namesReaders(ctx, who, cmd.Dest)
	if err == nil && named {
		traced.Readers, err = n.tracedReaders(ctx, cmd.Dest, src, found.Seq)
	}
	if err != nil {
		return gateway.Traced{}, err
	}
	if who.App {
		err = n.traceRoutes(ctx, &traced)
	}
	return traced, err
}

// sources returns the names under which a caller may have sent a message: its
// own, and the alias that it has in the session. Of another device only the app
// may ask, and only by the name that everybody knows.
func (n *Node) sources(ctx context.Context, who envelope.Principal, cmd gateway.Trace) ([]envelope.NodeID, error) {
	if cmd.Src != "" && (who.App || cmd.Src == who.Node) {
		return []envelope.NodeID{cmd.Src}, nil
	}
	sources := []envelope.NodeID{who.Node}
	if cmd.Session != "" {
		m, err := n.sessions.Stays(ctx, cmd.Session, who.Node)
		if err != nil {
			return nil, err
		}
		if m.Alias != "" {
			sources = append(sources, m.Alias)
		}
	}
	if cmd.Src != "" && !slices.Contains(sources, cmd.Src) {
		return nil, errNoMessage
	}
	return sources, nil
}

// traceRoutes adds where the message goes, and to whose socket it has been
// written. Of who is there by an alias nothing: where one is, and since when,
// would in time tell who it is.
func (n *Node) traceRoutes(ctx context.Context, traced *gateway.Traced) (err error) {
	if traced.Log.Kind == envelope.KindNode && isAlias(envelope.NodeID(traced.Log.ID)) {
		return nil
	}
	if traced.Servers, err = n.serversOf(ctx, traced.Log); err != nil {
		return err
	}
	for server, reach := range n.reachOf(ctx, traced.Servers, traced.Log, traced.Seq) {
		for i := range traced.Readers {
			reader := &traced.Readers[i]
			if written, there := reach[reader.Node]; there && !isAlias(reader.Node) {
				reader.Server, reader.Written = server, written
			}
		}
	}
	return nil
}

func isAlias(id envelope.NodeID) bool {
	_, _, alias := id.Alias()
	return alias
}

// namesReaders reports whether a caller may know who reads a log it has sent
// to: of a session, who may see its members.
func (n *Node) namesReaders(ctx context.Context, who envelope.Principal, log envelope.Address) (bool, error) {
	if who.App || log.Kind != envelope.KindSession {
		return true, nil
	}
	return n.sessions.SeesMembers(ctx, who, envelope.SessionID(log.ID))
}

// tracedReaders returns the devices that a message is for, as far as they are
// known, and how far each has got. The sender is none of them: it gets no copy.
func (n *Node) tracedReaders(ctx context.Context, log envelope.Address, src envelope.NodeID, seq uint64) ([]gateway.TracedReader, error) {
	cursors, err := n.inbox.Readers(ctx, log, 4*maxTraced)
	if err != nil {
		return nil, err
	}
	at := make(map[envelope.NodeID]inbox.Cursor, len(cursors))
	for _, c := range cursors {
		if !c.OfUser() {
			at[c.Node] = c
		}
	}
	switch log.Kind {
	case envelope.KindNode: // also before it first connects
		var of inbox.Cursor
		for _, c := range at { // the log of an alias, too, has one reader only: the device whose it is
			of = c
		}
		at = map[envelope.NodeID]inbox.Cursor{envelope.NodeID(log.ID): of}
	case envelope.KindSession: // who was in it then, with a cursor or not
		members, err := n.cfg.Sessions.Members(ctx, envelope.SessionID(log.ID))
		if err == nil {
			members, err = n.meantFor(ctx, log, seq, members)
		}
		if err != nil {
			return nil, err
		}
		all := at
		at = make(map[envelope.NodeID]inbox.Cursor, len(members))
		for _, m := range members {
			if in := staysOf(m); in.within(seq) && len(at) < maxTraced {
				at[m.Node] = inLastStay(m, all[m.Device])
			}
		}
	}
	if log.Kind != envelope.KindNode {
		delete(at, src)
	}
	readers := make([]gateway.TracedReader, 0, len(at))
	for node, c := range at {
		readers = append(readers, gateway.TracedReader{Node: node, Delivered: c.Delivered >= seq, Read: c.Read >= seq})
	}
	slices.SortFunc(readers, func(a, b gateway.TracedReader) int { return cmp.Compare(a.Node, b.Node) })
	return readers, nil
}

// inLastStay returns what a device has acknowledged of a session's log since it
// came by a name the last time, and nothing when it is not there by that any
// more. It has one cursor, whatever its name: one that moves while the device is
// there by an alias would show for its name as well, and tell whose that is.
func inLastStay(m session.Member, c inbox.Cursor) inbox.Cursor {
	last := m.Spans[len(m.Spans)-1]
	if last.Until != 0 || c.Delivered < last.From {
		return inbox.Cursor{}
	}
	if c.Read < last.From {
		c.Read = 0
	}
	return c
}

// serversOf returns the servers where an address can be reached now.
func (n *Node) serversOf(ctx context.Context, addr envelope.Address) ([]envelope.ServerID, error) {
	edges, err := n.cfg.Graph.Store.Edges(ctx, addr)
	if err != nil {
		return nil, err
	}
	var servers []envelope.ServerID
	for _, e := range edges {
		if n.graph.Alive(e.Server, e.Boot) {
			servers = append(servers, e.Server)
		}
	}
	slices.Sort(servers)
	return slices.Compact(servers), nil
}
