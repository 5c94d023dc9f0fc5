package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/session"
)

// Do implements [gateway.Core].
func (n *Node) Do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	ev, err := n.do(ctx, who, cmd)
	if err != nil {
		n.stats.refused(envelope.CodeOf(err))
		return nil, envelope.AsError(err)
	}
	return ev, nil
}

func (n *Node) do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	switch cmd := cmd.(type) {
	case gateway.Send:
		return n.sendWait(ctx, who, cmd.Envelope)
	case gateway.CreateSession:
		ses, err := n.sessions.Create(ctx, who, cmd.ID, cmd.AnyoneCanJoin)
		if err != nil {
			return nil, err
		}
		n.moved(who.Node)
		return describe(ses, nil), nil
	case gateway.JoinSession:
		m, err := n.sessions.Join(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		n.moved(who.Node)
		return gateway.Membership{ID: m.Session, Seq: m.Spans[len(m.Spans)-1].From}, nil
	case gateway.LeaveSession:
		m, err := n.sessions.Leave(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		n.moved(who.Node) // volatile messages are not in the log, where the connection sees the end
		return gateway.Membership{ID: m.Session, Seq: m.Spans[len(m.Spans)-1].Until}, nil
	case gateway.GetSession:
		ses, members, err := n.sessions.Get(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		return describe(ses, members), nil
	case gateway.Locate:
		return n.locate(ctx, who, cmd)
	}
	return nil, envelope.Errorf(envelope.BadRequest, "that belongs to a connection")
}

// sendWait is send for a caller that waits.
func (n *Node) sendWait(ctx context.Context, who envelope.Principal, env envelope.Envelope) (gateway.Event, error) {
	type result struct {
		ack gateway.Ack
		err error
	}
	done := make(chan result, 1)
	n.send(ctx, who, &env, nil, func(ack gateway.Ack, err error) { done <- result{ack, err} })
	select {
	case r := <-done:
		return r.ack, r.err
	case <-ctx.Done():
		return nil, envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
}

func describe(ses session.Session, members []session.Member) gateway.SessionInfo {
	info := gateway.SessionInfo{
		ID: ses.ID, Owner: ses.Owner, AnyoneCanJoin: ses.AnyoneCanJoin, Created: time.UnixMilli(ses.Created),
	}
	for _, m := range members {
		info.Members = append(info.Members, gateway.MemberInfo{Node: m.Node, Client: m.Client, Since: m.Spans[len(m.Spans)-1].From})
	}
	return info
}

// locate returns the servers a client should connect to, best first: those
// with members of its session, those with a proxy address if it needs one,
// then our zone, then the least loaded.
func (n *Node) locate(ctx context.Context, who envelope.Principal, cmd gateway.Locate) (gateway.Servers, error) {
	near := map[envelope.ServerID]bool{}
	if cmd.Session != "" {
		if !envelope.ValidID(string(cmd.Session)) {
			return gateway.Servers{}, envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
		}
		member, err := n.sessions.IsMember(ctx, cmd.Session, who.Node)
		if err != nil {
			return gateway.Servers{}, err
		}
		var edges []graph.Edge
		if member { // where a session's members are is not for others to know
			if edges, err = n.cfg.Graph.Store.Edges(ctx, cmd.Session.Address()); err != nil {
				return gateway.Servers{}, err
			}
		}
		for _, e := range edges {
			near[e.Server] = n.graph.Alive(e.Server, e.Boot)
		}
	}
	self := n.graph.Self()
	servers := slices.DeleteFunc(slices.Clone(n.graph.Servers()), func(r graph.Record) bool {
		return r.Draining || r.MaxLoad > 0 && r.Load >= r.MaxLoad
	})
	last := func(worse bool) int { // sorts what is worse behind
		if worse {
			return 1
		}
		return 0
	}
	slices.SortFunc(servers, func(a, b graph.Record) int {
		return cmp.Or(
			cmp.Compare(last(cmd.NeedProxy && a.ProxyURL == ""), last(cmd.NeedProxy && b.ProxyURL == "")),
			cmp.Compare(last(!near[a.ID]), last(!near[b.ID])),
			cmp.Compare(last(a.Zone != self.Zone), last(b.Zone != self.Zone)),
			cmp.Compare(a.Load, b.Load),
			cmp.Compare(a.ID, b.ID),
		)
	})
	servers = servers[:min(len(servers), cmd.Max)]
	found := gateway.Servers{Servers: make([]gateway.Server, len(servers))}
	for i, r := range servers {
		found.Servers[i] = gateway.Server{ID: r.ID, Boot: r.Boot, Addr: r.Addr, URL: r.URL, ProxyURL: r.ProxyURL, Load: r.Load}
	}
	return found, nil
}
