package node

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// Do implements [gateway.Core].
func (n *Node) Do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	err := mayDo(who, cmd)
	if err == nil {
		err = n.limits.mayCall(ctx, who, cmd)
	}
	if err == nil {
		err = n.authorize(ctx, who, cmd)
	}
	if err != nil {
		return nil, envelope.AsError(err)
	}
	ev, err := n.do(ctx, who, cmd)
	if err != nil {
		return nil, envelope.AsError(err) // counted by whoever tells the client
	}
	return ev, nil
}

func (n *Node) do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	if err := refuseTopic(cmd); err != nil {
		return nil, err
	}
	switch cmd := cmd.(type) {
	case gateway.Send:
		return n.sendWait(ctx, who, *cmd.Envelope)
	case gateway.CreateSession:
		create := n.sessions.Create
		if cmd.Empty || cmd.ID.IsTopic() {
			create = n.sessions.CreateEmpty
		}
		if cmd.ID == "" && cmd.Key != "" {
			cmd.ID = n.sessionOf(who.Node, cmd.Key)
		}
		settings, err := session.Defaults.With(cmd.Settings)
		if err != nil {
			return nil, err
		}
		if cmd.ID != "" && !cmd.Empty && !cmd.ID.IsTopic() { // a repetition joins again
			if err := n.sessions.AwaitParting(ctx, cmd.ID, who.Node, session.As(cmd.As)); err != nil {
				return nil, err
			}
		}
		var ses session.Session
		if cmd.Master != "" {
			ses, err = n.sessions.CreateFor(ctx, who, cmd.ID, settings, session.As(cmd.As), cmd.Master, cmd.Empty)
		} else {
			ses, err = create(ctx, who, cmd.ID, settings, session.As(cmd.As))
		}
		if err != nil {
			return nil, err
		}
		if ses.Kind == session.Topic {
			n.topicChanged(ses.ID)
		}
		n.moved(who.Node, ses.ID)
		return describe(ses, nil, who.Node), nil
	case gateway.UpdateSession:
		ses, err := n.sessions.Update(ctx, who, cmd.ID, cmd.Change)
		if err == nil && ses.Kind == session.Topic {
			n.topicChanged(ses.ID)
		}
		return describe(ses, nil, who.Node), err
	case gateway.ChangeMember:
		return n.changeMember(ctx, who, cmd)
	case gateway.JoinSession:
		err := n.sessions.AwaitParting(ctx, cmd.ID, who.Node, session.As(cmd.As))
		if err != nil {
			return nil, err
		}
		m, err := n.sessions.Join(ctx, who, cmd.ID, session.As(cmd.As))
		if err != nil {
			return nil, err
		}
		n.moved(who.Node, m.Session)
		n.succession(ctx, m)
		return gateway.Membership{ID: m.Session, Node: m.Node, Seq: m.Spans[len(m.Spans)-1].From}, nil
	case gateway.LeaveSession:
		m, err := n.sessions.Leave(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		n.moved(who.Node, m.Session) // volatile messages are not in the log, where the connection sees the end
		n.waker.left(ctx, m)
		n.succession(ctx, m)
		return gateway.Membership{ID: m.Session, Node: m.Node, Seq: m.Spans[len(m.Spans)-1].Until}, nil
	case gateway.RevealAnonymity:
		m, err := n.sessions.Reveal(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		return describeMember(m, m.Role), nil
	case gateway.GetSession:
		ses, members, err := n.sessions.Get(ctx, who, cmd.ID)
		if err != nil {
			return nil, err
		}
		return pageOfMembers(describe(ses, members, who.Node), cmd), nil
	case gateway.ListSessions:
		return n.listSessions(ctx, who, cmd)
	case gateway.SetHeader:
		h, err := n.sessions.SetHeader(ctx, who, cmd.ID, cmd.Document)
		return describeHeader(h), err
	case gateway.GetHeader:
		h, err := n.sessions.Header(ctx, who, cmd.ID)
		return describeHeader(h), err
	case gateway.Acknowledge:
		return gateway.Done{}, n.advance(ctx, who, envelope.ByLog(cmd.Cursors), false)
	case gateway.MarkRead:
		return gateway.Done{}, n.advance(ctx, who, envelope.ByLog(cmd.Cursors), true)
	case gateway.PutPushToken:
		return n.putPushToken(ctx, who, cmd)
	case gateway.DropPushToken:
		return n.dropPushToken(ctx, who, cmd)
	case gateway.Mute:
		return n.mute(ctx, who, cmd)
	case gateway.TestPush:
		return n.testPush(ctx, who, cmd)
	case gateway.GetFailedPushes:
		return n.failedPushes(ctx, who, cmd)
	case gateway.SettleFailedPush:
		return n.settleFailedPush(ctx, who, cmd)
	case gateway.GetPresence:
		return n.getPresence(ctx, who, cmd)
	case gateway.History:
		return n.history(ctx, who, cmd)
	case gateway.FetchPending:
		return n.fetchPending(ctx, who, cmd)
	case gateway.Trace:
		return n.trace(ctx, who, cmd)
	case gateway.Locate:
		return n.locate(ctx, who, cmd)
	case gateway.SendMany:
		return n.sendMany(ctx, who, cmd)
	case gateway.Disconnect:
		return n.disconnect(ctx, who, cmd)
	case gateway.GetMesh:
		return n.mesh(ctx, who)
	case gateway.DrainServer:
		return n.drainServer(ctx, who, cmd)
	case gateway.GetEdges:
		return n.edges(ctx, who, cmd)
	case gateway.GetCursors:
		return n.cursors(ctx, who, cmd)
	case gateway.Revoke:
		return n.revoke(ctx, who, cmd)
	case gateway.GetHooks:
		return n.hooks.state(ctx, who)
	case gateway.ReplayHooks:
		return gateway.Done{}, n.hooks.replay(ctx, who, cmd)
	case gateway.GetRevocations:
		return n.revocations(who, cmd)
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
	n.send(ctx, who, &env, answer(func(ack gateway.Ack, err error) { done <- result{ack, err} }))
	select {
	case r := <-done:
		return r.ack, r.err
	case <-ctx.Done():
		return nil, envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
}
