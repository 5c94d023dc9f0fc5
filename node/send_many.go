package node

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

const (
	// maxMany bounds the destinations of one message.
	maxMany = 1000
	// manyAtOnce bounds those of them that wait for the store at the same time.
	manyAtOnce = 128
)

var errNotApp = envelope.Errorf(envelope.Forbidden, "only the app may do that")

// sendMany sends a message of the app to each of its destinations. What one of
// them refuses is nothing to the others, and the same call may be repeated: where
// the message has its id, it is known.
func (n *Node) sendMany(ctx context.Context, who envelope.Principal, cmd gateway.SendMany) (gateway.SentMany, error) {
	src, err := inNameOf(who, cmd)
	if err != nil {
		return gateway.SentMany{}, err
	}
	type outcome struct {
		i    int
		sent gateway.Sent
	}
	outcomes := make(chan outcome, len(cmd.To))
	slots := make(chan struct{}, manyAtOnce)
	sent := 0
	for i, to := range cmd.To {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		sent++
		env := cmd.Envelope
		env.DestNode, env.DestClient, env.DestSession = to.Node, to.Client, to.Session
		stamp(&env, src)
		addr, err := n.resolveForApp(ctx, src, &env)
		n.dispatch(ctx, src, addr, err, &env, answer(func(ack gateway.Ack, err error) {
			<-slots
			if err != nil {
				outcomes <- outcome{i, gateway.Sent{Err: envelope.AsError(err)}}
				return
			}
			outcomes <- outcome{i, gateway.Sent{Ack: ack}}
		}))
	}
	reply := gateway.SentMany{Of: make([]gateway.Sent, len(cmd.To))}
	for i := range reply.Of {
		reply.Of[i].Err = envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
	for range sent {
		select {
		case o := <-outcomes:
			reply.Of[o.i] = o.sent
		case <-ctx.Done():
			return reply, nil
		}
	}
	return reply, nil
}

// inNameOf returns in whose name the app sends, or why it may not.
func inNameOf(who envelope.Principal, cmd gateway.SendMany) (envelope.Principal, error) {
	switch {
	case !who.App:
		return who, errNotApp
	case len(cmd.To) == 0 || len(cmd.To) > maxMany:
		return who, envelope.Errorf(envelope.BadRequest, "1 to %d destinations", maxMany)
	case cmd.Envelope.Revises() != 0:
		return who, envelope.Errorf(envelope.BadRequest, "what is revised is an entry of one log")
	case cmd.Src == "" && cmd.SrcClient == "":
		return who, nil
	}
	src := envelope.Principal{Node: cmd.Src, Client: cmd.SrcClient, App: true}
	if src.Client == "" {
		src.Client = envelope.ClientID(src.Node)
	}
	if !envelope.ValidID(string(src.Node)) || !envelope.ValidID(string(src.Client)) {
		return who, envelope.Errorf(envelope.BadRequest, "src_id or src_client_id has not the form of an id")
	}
	if _, guest := envelope.GuestEnds(string(src.Node)); guest {
		return who, envelope.Errorf(envelope.Forbidden, "the app does not speak for guests")
	}
	return src, nil
}

// wellFormed reports whether the destination can be one: what has come apart from
// its message has not been read by a parser of messages.
func wellFormed(env *envelope.Envelope) bool {
	return (env.DestNode == "" || envelope.ValidNode(string(env.DestNode))) &&
		(env.DestClient == "" || envelope.ValidID(string(env.DestClient))) &&
		(env.DestSession == "" || envelope.ValidID(string(env.DestSession)))
}

// resolveForApp returns the address whose log a message of the app goes to. That
// its source is a member of a session is not asked: if it is one by an alias, the
// answer would say so.
func (n *Node) resolveForApp(ctx context.Context, src envelope.Principal, env *envelope.Envelope) (envelope.Address, error) {
	if err := env.CheckDest(); err != nil {
		return envelope.Address{}, err
	}
	if !wellFormed(env) {
		return envelope.Address{}, envelope.Errorf(envelope.BadRequest, "the destination has not the form of an id")
	}
	switch {
	case env.DestSession == "":
		return env.Dest(), nil
	case env.DestSession.IsTopic():
		return n.resolveTopic(ctx, src, env)
	}
	if _, err := n.cfg.Sessions.Session(ctx, env.DestSession); err != nil {
		if errors.Is(err, session.ErrNotFound) {
			err = &envelope.Error{Code: envelope.NotFound, Detail: "no such session", Cause: err}
		}
		return envelope.Address{}, err
	}
	if env.DestNode != "" {
		name, _, err := n.sessions.NameOf(ctx, env.DestSession, env.DestNode)
		if envelope.CodeOf(err) == envelope.NotFound || err == nil && name != env.DestNode { // there by an alias is not there
			err = envelope.Errorf(envelope.NotFound, "nobody is in the session by that name")
		}
		if err != nil {
			return envelope.Address{}, err
		}
	}
	return env.Dest(), nil
}
