package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// stamp sets what only the server may say of a message.
func stamp(env *envelope.Envelope, who envelope.Principal) {
	env.SrcNode, env.SrcClient = who.Node, who.Client
	env.Timestamp = time.Now().UnixMilli()
	env.Seq = 0
}

// send takes one message from a sender to its log and on to its readers.
// done is called once, possibly before send returns, from any goroutine, and
// must not block. before is asked for leave once the address is known, and may
// be nil. env belongs to the node from here on.
func (n *Node) send(ctx context.Context, who envelope.Principal, env *envelope.Envelope, before func(log envelope.Address) error, done func(gateway.Ack, error)) {
	stamp(env, who)
	addr, err := n.resolve(ctx, who, env)
	n.dispatch(ctx, who, addr, err, env, before, done)
}

// dispatch is send for a message that is stamped and resolved; err says why it
// could not be.
func (n *Node) dispatch(ctx context.Context, who envelope.Principal, addr envelope.Address, err error, env *envelope.Envelope, before func(log envelope.Address) error, done func(gateway.Ack, error)) {
	if err == nil && env.Revises() != 0 {
		err = n.mayRevise(ctx, who, addr, env)
	}
	if err == nil && before != nil {
		err = before(addr)
	}
	if err != nil {
		done(gateway.Ack{}, err)
		return
	}
	if err := n.limits.maySendTo(who, env.DestSession); err != nil {
		done(gateway.Ack{}, err)
		return
	}
	if env.Class != envelope.Durable {
		if err := n.maySignal(ctx, who, env.DestSession); err != nil {
			done(gateway.Ack{}, err)
			return
		}
		n.stats.Volatile.Add(1)
		if addr.IsZero() { // a game without a master
			n.stats.DroppedAway.Add(1)
			done(gateway.Ack{ID: env.ID, Offline: env.Receipt}, nil)
			return
		}
		if env.Receipt && env.ID != "" && !n.cfg.PresenceOff {
			n.publishAsked(addr, env, done)
			return
		}
		n.publish(addr, env)
		done(gateway.Ack{ID: env.ID}, nil)
		return
	}
	id := env.ID
	n.waker.before(ctx, addr, env)
	n.owners.append(addr, env, func(seq uint64, err error) {
		if err != nil {
			done(gateway.Ack{}, err)
			return
		}
		n.waker.appended(addr, env, seq)
		n.hooks.waiting(addr, env, seq, func() { done(gateway.Ack{ID: id, Seq: seq, Log: addr}, nil) })
	})
}

// appendNotice appends an entry of the server's own to a session's log.
func (n *Node) appendNotice(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
	n.waker.before(ctx, log, env)
	seq, err := inbox.Wait(ctx, func(done func(uint64, error)) {
		n.owners.append(log, env, func(seq uint64, err error) {
			if err == nil {
				n.waker.appended(log, env, seq)
			}
			done(seq, err)
		})
	})
	if err != nil {
		return 0, err
	}
	n.hooks.waiting(log, env, seq, func() {}) // an invitation
	return seq, n.hooks.noticed(ctx, log, env, seq)
}

// send takes a message from this connection. It holds back the read loop while
// too many of its messages wait for the store.
func (c *conn) send(env *envelope.Envelope) {
	select {
	case c.inflight <- struct{}{}:
	case <-c.ctx.Done():
		return
	}
	c.mu.Lock()
	c.submitted++
	number := c.submitted
	c.mu.Unlock()

	id, durable := env.ID, env.Class == envelope.Durable
	log := env.Dest() // also when it is refused before that is known to be right
	node, session := env.DestNode, env.DestSession
	denied := c.ask(ofMessage(env)) // which may take a while: what was refused meanwhile comes before it
	before := func(addr envelope.Address) error {
		durable = env.Class == envelope.Durable // a topic may keep nothing
		if durable && id != "" {
			c.mu.Lock()
			var err error
			if number, err = c.gates.pass(addr, id, number, time.Now()); err == nil {
				c.passage.begin(number)
			}
			c.mu.Unlock()
			if err != nil {
				return err
			}
		}
		if denied != nil { // behind the gate: who comes again keeps its turn
			return denied
		}
		return c.mayFrame()
	}
	c.n.send(c.ctx, c.who, env, before, func(ack gateway.Ack, err error) {
		<-c.inflight
		if err == nil {
			if id != "" {
				c.reply(ack)
			}
			c.answerAway(env)
			return
		}
		if e := envelope.AsError(err); durable && id != "" && e.Code.Retry() {
			c.mu.Lock()
			c.passage.wait(&c.mu, number)
			room := c.gates.shut(log, id, number, time.Now())
			c.mu.Unlock()
			if !room { // a client that connects again sends everything anew, in order
				c.close(envelope.Busy, "messages to too many addresses were refused")
			}
		}
		switch {
		case id == "" && !durable && envelope.CodeOf(err) == envelope.RateLimited:
			c.n.stats.DroppedRate.Add(1) // a word for each would be more of the same
		case !c.answerNotMember(id, node, session, err):
			c.refuse(id, err)
		}
	})
	c.passage.end(&c.mu)
}
