package node

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// A topic is a session whose members are the connections that follow it: they
// say so, and nothing of that is stored but one edge for each server where
// somebody does. It needs no row in the store. Without one nothing said there is
// stored either; one that says how much is kept makes the topic a log like any
// other, with which a client that comes back goes on from its own position: of
// no reader's position the server keeps any.

var (
	errTopicCall    = envelope.Errorf(envelope.BadRequest, "a topic has no members: connections follow it, see subscribe")
	errTopicPrivate = envelope.Errorf(envelope.BadRequest, "a topic has no members to whom one could send alone")
	errTopicRevised = envelope.Errorf(envelope.BadRequest, "the topic keeps nothing that could be revised")
	errNotFollowed  = &envelope.Error{
		Code: envelope.NotFound, Detail: "only who follows a topic, on a connection to this server, sends to it",
		Cause: session.ErrNotFound,
	}
	errNotPublisher = envelope.Errorf(envelope.Forbidden, "only the owner of the topic sends to it")
)

// isTopic reports whether an address is a topic's.
func isTopic(addr envelope.Address) bool {
	return addr.Kind == envelope.KindSession && envelope.SessionID(addr.ID).IsTopic()
}

// always is the stay of who follows a topic: nothing in its log is hidden.
func always() []session.Span { return []session.Span{{From: 1}} }

// refuseTopic refuses calls about memberships, of which a topic has none.
func refuseTopic(cmd gateway.Command) error {
	var id envelope.SessionID
	switch cmd := cmd.(type) {
	case gateway.JoinSession:
		id = cmd.ID
	case gateway.LeaveSession:
		id = cmd.ID
	case gateway.ChangeMember:
		id = cmd.ID
	case gateway.RevealAnonymity:
		id = cmd.ID
	}
	if id.IsTopic() {
		return errTopicCall
	}
	return nil
}

// resolve returns the address whose log a message goes to, once the sender's
// right to write there is sure.
func (n *Node) resolve(ctx context.Context, who envelope.Principal, env *envelope.Envelope) (envelope.Address, error) {
	if !env.DestSession.IsTopic() {
		return n.sessions.Resolve(ctx, env)
	}
	return n.resolveTopic(ctx, who, env)
}

// resolveTopic is resolve for a message to a topic. One that is not to be kept
// becomes volatile, whatever its sender hoped for.
func (n *Node) resolveTopic(ctx context.Context, who envelope.Principal, env *envelope.Envelope) (envelope.Address, error) {
	addr := env.DestSession.Address()
	switch {
	case env.DestNode != "" || env.DestClient != "":
		return envelope.Address{}, errTopicPrivate
	case !who.App && !n.followsHere(who.Node, addr):
		return envelope.Address{}, errNotFollowed
	}
	rules, err := n.topics.Get(ctx, env.DestSession)
	switch {
	case err != nil:
		return envelope.Address{}, err
	case !rules.MayPublish(who):
		return envelope.Address{}, errNotPublisher
	case env.Revises() != 0 && !rules.Keeps():
		return envelope.Address{}, errTopicRevised
	}
	if env.Class == envelope.Durable {
		env.Receipt = false // no reader's position is kept that could say so
		if !rules.Keeps() {
			env.Class = envelope.Volatile
		}
	}
	return addr, nil
}

// followsHere reports whether a device's connection to this server follows an address.
func (n *Node) followsHere(device envelope.NodeID, addr envelope.Address) bool {
	c := n.conns.device(device)
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.follows.Get(addr)
	return f != nil && f.started
}

// observe learns from an entry of a session's log what it changes.
func (n *Node) observe(env *envelope.Envelope) {
	switch {
	case !env.DestSession.IsTopic():
		n.sessions.Observe(env)
		n.masters.observe(env)
	case env.HasType && env.Type == envelope.TypeSettings:
		n.topics.Forget(env.DestSession)
	}
}

// topicChanged tells all servers to forget what they know of a topic.
func (n *Node) topicChanged(id envelope.SessionID) {
	n.topics.Forget(id)
	n.memberChanged(id, "")
}
