package node

import (
	"context"
	"net/netip"
	"sync"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook/ask"
)

// The app's backend may have a say in who connects, joins and sends. It is asked
// behind the rights and limits that a server knows by itself, and not about the
// app. Only who asks waits for the answer, and holds no lock meanwhile.

// topicsAsked bounds the questions of one connection that wait at a time: the
// topics that it begins to follow may be many.
const topicsAsked = 8

var (
	errNoID             = envelope.Errorf(envelope.BadRequest, "that has not the form of an id")
	errRevokedMeanwhile = envelope.Errorf(envelope.Revoked, "the credential was revoked")
)

// authorize refuses what the app's backend does not allow a caller over HTTP.
func (n *Node) authorize(ctx context.Context, who envelope.Principal, cmd gateway.Command) error {
	return n.ask(ctx, who, questionOf(cmd))
}

// questionOf returns what a command has asked; the zero Question is nothing. What
// is said in a topic anybody may read, so that is asked like following it; in
// other sessions those read who have joined.
func questionOf(cmd gateway.Command) ask.Question {
	switch cmd := cmd.(type) {
	case gateway.Locate:
		return ask.Question{Action: ask.Connect}
	case gateway.JoinSession:
		return ask.Question{Action: ask.Join, Session: cmd.ID, Anonymous: cmd.As.Anonymous}
	case gateway.CreateSession:
		return ask.Question{Action: ask.Join, Session: cmd.ID, Anonymous: cmd.As.Anonymous, Create: true}
	case gateway.History:
		if isTopic(cmd.Log) {
			return ask.Question{Action: ask.Join, Session: envelope.SessionID(cmd.Log.ID)}
		}
	case gateway.GetHeader:
		if cmd.ID.IsTopic() {
			return ask.Question{Action: ask.Join, Session: cmd.ID}
		}
	case gateway.Send:
		return ofMessage(cmd.Envelope)
	}
	return ask.Question{}
}

// ask asks the app's backend whether somebody may do something.
func (n *Node) ask(ctx context.Context, who envelope.Principal, q ask.Question) error {
	return n.askAt(ctx, who, gateway.AddressOf(ctx), q)
}

// askAt is ask for somebody at an address.
func (n *Node) askAt(ctx context.Context, who envelope.Principal, at netip.Addr, q ask.Question) error {
	if who.App || !n.backend.Asks(q.Action) || q == (ask.Question{Action: ask.Send}) { // the last goes nowhere
		return nil
	}
	for _, id := range []string{string(q.Session), string(q.DestClient), string(q.DestSession)} {
		if id != "" && !envelope.ValidID(id) {
			return errNoID
		}
	}
	if q.DestNode != "" && !envelope.ValidNode(string(q.DestNode)) {
		return errNoID
	}
	q.Node, q.Client, q.Guest, q.Address = who.Node, who.Client, who.Guest, at
	return n.backend.May(ctx, q)
}

// ask asks for the connection. When that was revoked meanwhile, what it has said
// is not heard.
func (c *conn) ask(q ask.Question) error {
	err := c.n.askAt(&c.ctx, c.who, c.address, q)
	if c.revoked.Load() {
		return errRevokedMeanwhile
	}
	return err
}

// askTopics asks for those of some topics that the connection does not follow
// yet. The read loop calls it, which alone begins to follow topics; each question
// but the first counts as a frame.
func (c *conn) askTopics(topics []envelope.SessionID) error {
	if c.who.App || !c.n.backend.Asks(ask.Join) {
		return nil
	}
	var fresh []envelope.SessionID
	c.mu.Lock()
	for _, id := range topics {
		if c.follows.Get(id.Address()) == nil {
			fresh = append(fresh, id)
		}
	}
	c.mu.Unlock()
	if len(fresh) > envelope.MaxTopics {
		return errTooManyTopics
	}
	refused := make(chan error, len(fresh)) // one for each at most
	turns := make(chan struct{}, topicsAsked)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, id := range fresh {
		if i > 0 {
			if err := c.mayFrame(); err != nil {
				return err
			}
		}
		select {
		case turns <- struct{}{}:
		case err := <-refused:
			return err
		}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := c.ask(ask.Question{Action: ask.Join, Session: id}); err != nil {
				refused <- ofTopic(id, err)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-refused:
		return err
	default:
		return nil
	}
}

// ofTopic says of which of several topics a refusal is.
func ofTopic(id envelope.SessionID, err error) error {
	e := *envelope.AsError(err)
	e.Detail = string(id) + ": " + e.Detail
	return &e
}

// ofMessage returns the question whether a message may be sent, as its sender
// has it.
func ofMessage(env *envelope.Envelope) ask.Question {
	return ask.Question{Action: ask.Send, DestNode: env.DestNode, DestClient: env.DestClient, DestSession: env.DestSession}
}

// AuthorizeStats counts what the app's backend was asked; nil when it is not.
func (n *Node) AuthorizeStats() *ask.Stats { return n.backend.Stats() }
