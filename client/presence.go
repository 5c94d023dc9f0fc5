package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// presenceChunk bounds the users that one frame subscribes to.
	presenceChunk = 500
	// presenceRetry is the wait after a refusal that names none.
	presenceRetry = time.Second
)

// presences keeps whose presence the user wants to know, and what of that the
// server has still to be told or asked on the present connection. It does no
// I/O. All of it is guarded by Client.mu.
//
// The server answers each frame with the presence of those it names, or with an
// error; neither says which frame it answers. So a question is answered by the
// first frame that covers it, which is as fresh whatever made the server send
// it, and an error makes everything unanswered be asked again, or fail.
type presences struct {
	clients   map[envelope.ClientID]subscription
	sessions  map[envelope.SessionID]subscription
	undone    []envelope.Control // subscriptions to be taken back
	questions []*question
	notBefore time.Time // after a refusal
}

// subscription says what the server knows of one.
type subscription uint8

const (
	unsent   subscription = iota
	sent                  // and not answered
	answered              // by the presence of the user
)

type question struct {
	clients []envelope.ClientID
	missing map[envelope.ClientID]bool // not answered yet
	got     map[envelope.ClientID]envelope.Presence
	sent    bool
	done    chan error // gets one value
}

func newPresences() presences {
	return presences{
		clients:  make(map[envelope.ClientID]subscription),
		sessions: make(map[envelope.SessionID]subscription),
	}
}

// next returns a frame to be written now, or nil and when there will be one
// (zero: none is waiting).
func (p *presences) next(now time.Time) (frame []byte, due time.Time) {
	if now.Before(p.notBefore) {
		return nil, p.notBefore
	}
	if len(p.undone) > 0 {
		f := p.undone[0]
		p.undone = p.undone[1:]
		return f.AppendJSON(nil), time.Time{}
	}
	yes := true
	f := envelope.Control{Control: envelope.ControlPresence, Subscribe: &yes}
	for client, is := range p.clients {
		if is == unsent && len(f.Clients) < presenceChunk {
			p.clients[client] = sent
			f.Clients = append(f.Clients, client)
		}
	}
	if len(f.Clients) > 0 {
		slices.Sort(f.Clients)
		return f.AppendJSON(nil), time.Time{}
	}
	for session, is := range p.sessions {
		if is == unsent {
			p.sessions[session] = sent
			f.Session = session
			return f.AppendJSON(nil), time.Time{}
		}
	}
	for _, q := range p.questions {
		if !q.sent {
			q.sent = true
			f := envelope.Control{Control: envelope.ControlPresence, Clients: q.clients}
			return f.AppendJSON(nil), time.Time{}
		}
	}
	return nil, time.Time{}
}

// heard takes a presence frame of the server.
func (p *presences) heard(of []envelope.Presence) {
	for _, at := range of {
		if p.clients[at.Client] == sent {
			p.clients[at.Client] = answered
		}
		for _, q := range p.questions {
			if q.sent && q.missing[at.Client] {
				delete(q.missing, at.Client)
				q.got[at.Client] = at
			}
		}
	}
	for session := range p.sessions {
		if p.sessions[session] == sent {
			p.sessions[session] = answered
		}
	}
	p.questions = slices.DeleteFunc(p.questions, func(q *question) bool {
		if len(q.missing) == 0 {
			q.done <- nil
		}
		return len(q.missing) == 0
	})
}

// refused takes an error frame of the server. It reports whether there was
// something that it may be an answer to.
func (p *presences) refused(err *envelope.Error, now time.Time) bool {
	any := false
	if err.Code.Retry() {
		wait := time.Duration(err.RetryMS) * time.Millisecond
		if wait <= 0 {
			wait = presenceRetry
		}
		if any = p.again(sent); any {
			p.notBefore = now.Add(wait)
		}
		return any
	}
	drop := func(is subscription) bool { any = any || is == sent; return is == sent }
	maps.DeleteFunc(p.clients, func(_ envelope.ClientID, is subscription) bool { return drop(is) })
	maps.DeleteFunc(p.sessions, func(_ envelope.SessionID, is subscription) bool { return drop(is) })
	p.questions = slices.DeleteFunc(p.questions, func(q *question) bool {
		if q.sent {
			any = true
			q.done <- err
		}
		return q.sent
	})
	return any
}

// connected makes everything be said again.
func (p *presences) connected() {
	p.undone, p.notBefore = nil, time.Time{}
	p.again(answered)
}

// again makes what has been said be said again: with sent what has not been
// answered, with answered all of it. It reports whether there was any.
func (p *presences) again(upto subscription) (any bool) {
	for client, is := range p.clients {
		if is != unsent && is <= upto {
			p.clients[client], any = unsent, true
		}
	}
	for session, is := range p.sessions {
		if is != unsent && is <= upto {
			p.sessions[session], any = unsent, true
		}
	}
	for _, q := range p.questions {
		any = any || q.sent
		q.sent = false
	}
	return any
}

// Presence asks which users are connected, at most 1000 of them, and waits for
// the answer, over a reconnect if need be. The order is that of clients, each
// once. A refusal by the server is an [*envelope.Error].
func (c *Client) Presence(ctx context.Context, clients ...envelope.ClientID) ([]envelope.Presence, error) {
	q := &question{
		missing: make(map[envelope.ClientID]bool, len(clients)),
		got:     make(map[envelope.ClientID]envelope.Presence, len(clients)),
		done:    make(chan error, 1),
	}
	for _, client := range clients {
		if !envelope.ValidID(string(client)) {
			return nil, envelope.Errorf(envelope.BadRequest, "%q has not the form of an id", client)
		}
		if !q.missing[client] {
			q.missing[client] = true
			q.clients = append(q.clients, client)
		}
	}
	if len(q.clients) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	if c.err != nil || c.closing {
		defer c.mu.Unlock()
		return nil, cmp.Or(c.err, ErrClosed)
	}
	c.presence.questions = append(c.presence.questions, q)
	c.mu.Unlock()
	signal(c.wake)
	var err error
	select {
	case err = <-q.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.done:
		err = c.reason()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.presence.questions = slices.DeleteFunc(c.presence.questions, func(other *question) bool { return other == q })
	if err != nil {
		return nil, err
	}
	of := make([]envelope.Presence, len(q.clients))
	for i, client := range q.clients {
		of[i] = q.got[client]
	}
	return of, nil
}

// SubscribePresence asks to be told when users come and go, at first how they
// are now, through Options.OnPresence; after a reconnect it is asked again. It
// does not wait. What the server refuses for good, such as too many users, is
// logged and forgotten.
func (c *Client) SubscribePresence(clients ...envelope.ClientID) {
	c.changePresence(func(p *presences) {
		for _, client := range clients {
			if _, known := p.clients[client]; !known && envelope.ValidID(string(client)) {
				p.clients[client] = unsent
			}
		}
	})
}

// UnsubscribePresence takes back [Client.SubscribePresence].
func (c *Client) UnsubscribePresence(clients ...envelope.ClientID) {
	c.changePresence(func(p *presences) {
		var told []envelope.ClientID
		for _, client := range clients {
			if is, known := p.clients[client]; known && is != unsent {
				told = append(told, client)
			}
			delete(p.clients, client)
		}
		for some := range slices.Chunk(told, presenceChunk) {
			p.undone = append(p.undone, envelope.Control{Control: envelope.ControlPresence, Subscribe: new(bool), Clients: some})
		}
	})
}

// SubscribeSessionPresence is [Client.SubscribePresence] for those who are
// members of a session when the server is asked; the caller must be one.
func (c *Client) SubscribeSessionPresence(session envelope.SessionID) {
	c.changePresence(func(p *presences) {
		if _, known := p.sessions[session]; !known && envelope.ValidID(string(session)) {
			p.sessions[session] = unsent
		}
	})
}

// UnsubscribeSessionPresence takes back [Client.SubscribeSessionPresence].
func (c *Client) UnsubscribeSessionPresence(session envelope.SessionID) {
	c.changePresence(func(p *presences) {
		if is, known := p.sessions[session]; known && is != unsent {
			p.undone = append(p.undone, envelope.Control{Control: envelope.ControlPresence, Subscribe: new(bool), Session: session})
		}
		delete(p.sessions, session)
	})
}

func (c *Client) changePresence(change func(*presences)) {
	c.mu.Lock()
	change(&c.presence)
	c.mu.Unlock()
	signal(c.wake)
}
