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
	addr, err := n.sessions.Resolve(ctx, env)
	if err == nil && before != nil {
		err = before(addr)
	}
	if err != nil {
		done(gateway.Ack{}, err)
		return
	}
	if env.Class != envelope.Durable {
		n.stats.Volatile.Add(1)
		n.publish(addr, env)
		done(gateway.Ack{ID: env.ID}, nil)
		return
	}
	id := env.ID
	n.owners.append(addr, env, func(seq uint64, err error) {
		if err != nil {
			done(gateway.Ack{}, err)
			return
		}
		done(gateway.Ack{ID: id, Seq: seq, Log: addr}, nil)
	})
}

// appendNotice appends an entry of the server's own to a session's log.
func (n *Node) appendNotice(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
	return inbox.Wait(ctx, func(done func(uint64, error)) { n.owners.append(log, env, done) })
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
	var log envelope.Address
	before := func(addr envelope.Address) error {
		log = addr
		if durable && id != "" {
			return c.passGate(addr, id)
		}
		return nil
	}
	c.n.send(c.ctx, c.who, env, before, func(ack gateway.Ack, err error) {
		<-c.inflight
		if err == nil {
			if id != "" {
				c.reply(ack)
			}
			return
		}
		if e := envelope.AsError(err); durable && id != "" && e.Code.Retry() && !log.IsZero() {
			c.shutGate(log, gate{number: number, id: id})
		}
		c.refuse(id, err)
	})
}

// gateTime is how long a refused message keeps later ones to the same address
// waiting for it.
const gateTime = 10 * time.Second

// gate keeps the order of a sender that does not wait for one answer before it
// sends the next message: after a message was refused for now, later ones to
// the same address are refused as well until that message has come again. A
// sender that gives it up is let through after gateTime.
type gate struct {
	number uint64 // of the refused message on this connection
	id     string
	until  time.Time
}

func (c *conn) shutGate(log envelope.Address, g gate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.gates[log]; ok && old.number <= g.number {
		return
	}
	if c.gates == nil {
		c.gates = make(map[envelope.Address]gate)
	}
	g.until = time.Now().Add(gateTime)
	c.gates[log] = g
}

func (c *conn) passGate(log envelope.Address, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, shut := c.gates[log]
	if !shut {
		return nil
	}
	if g.id == id || time.Now().After(g.until) {
		delete(c.gates, log)
		return nil
	}
	return envelope.BusyError(100, "an earlier message to this address was refused; send it again first", nil)
}
