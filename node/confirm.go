package node

import (
	"context"
	"maps"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// confirmPause is the shortest time between two pings that confirm deliveries.
const confirmPause = 100 * time.Millisecond

// confirmation acknowledges for clients that do not do it themselves. Frames
// arrive in order, so a pong shows that the client has received all that was
// written before the ping (RFC 6455, section 5.5.3).
type confirmation struct {
	written map[envelope.Address]uint64 // written since the last ping
	running bool
}

// sentMarks returns how far each log has been sent, for a client that does not
// acknowledge for itself; under mu.
func (c *conn) sentMarks() map[envelope.Address]uint64 {
	if c.ownAcks {
		return nil
	}
	var marks map[envelope.Address]uint64
	for log, f := range c.follows {
		if f.started && f.sent > f.acked {
			if marks == nil {
				marks = make(map[envelope.Address]uint64, len(c.follows))
			}
			marks[log] = f.sent
		}
	}
	return marks
}

// confirmDelivery has what was written confirmed by a ping.
func (c *conn) confirmDelivery(written map[envelope.Address]uint64) {
	if len(written) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.confirm.written == nil {
		c.confirm.written = written
	} else {
		maps.Copy(c.confirm.written, written) // positions only rise
	}
	if !c.confirm.running && !c.over {
		c.confirm.running = true
		c.wg.Go(c.confirmLoop)
	}
}

func (c *conn) confirmLoop() {
	for {
		c.mu.Lock()
		written := c.confirm.written
		c.confirm.written = nil
		c.confirm.running = written != nil
		c.mu.Unlock()
		if written == nil {
			return
		}
		err := c.ping()
		switch {
		case err == nil:
			c.acknowledge(written)
		case c.ctx.Err() != nil:
			return
		default: // slow; the pinger decides whether it is dead
			c.unconfirmed(written)
		}
		select {
		case <-time.After(confirmPause):
		case <-c.ctx.Done():
			return
		}
	}
}

// unconfirmed puts back what a ping did not confirm.
func (c *conn) unconfirmed(written map[envelope.Address]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(written, c.confirm.written) // which is further, if it is there
	c.confirm.written = written
}

// acknowledge moves the device's cursors forward, as far as it was sent.
func (c *conn) acknowledge(cursors map[envelope.Address]uint64) {
	c.mu.Lock()
	moved := make(map[envelope.Address]uint64, len(cursors))
	for log, seq := range cursors {
		if f := c.follows[log]; f != nil && f.acknowledge(seq) {
			moved[log] = f.acked
			c.endIfLeft(f)
		}
	}
	c.mu.Unlock()
	if len(moved) > 0 {
		c.acked.Store(true)
	}
	for log, seq := range moved {
		c.n.inbox.Acknowledge(c.who.Node, log, seq)
	}
}

// acknowledge moves the cursors of a device forward that says so without a
// connection, as far as the logs go. Of logs that are not the device's to
// follow it takes no notice: it has nothing to read there.
func (n *Node) acknowledge(ctx context.Context, who envelope.Principal, cursors map[envelope.Address]uint64) error {
	mine, err := n.followed(ctx, who, cursors)
	if err != nil || len(mine) == 0 {
		return err
	}
	heads, err := n.heads(ctx, mine)
	if err != nil {
		return err
	}
	if c := n.conns.device(who.Node); c != nil {
		c.acknowledge(mine)
	}
	for log, seq := range mine {
		if seq = min(seq, heads[log]); seq > 0 {
			n.inbox.Acknowledge(who.Node, log, seq)
		}
	}
	return n.inbox.Flush(ctx)
}

// followed returns the cursors in logs that the device may follow.
func (n *Node) followed(ctx context.Context, who envelope.Principal, cursors map[envelope.Address]uint64) (map[envelope.Address]uint64, error) {
	mine := make(map[envelope.Address]uint64, len(cursors))
	sessions := false
	for log, seq := range cursors {
		switch {
		case log == who.Node.Address() || log == who.Client.Address():
			mine[log] = seq
		case log.Kind == envelope.KindSession:
			sessions = true
		}
	}
	if !sessions {
		return mine, nil
	}
	members, err := n.sessions.Of(ctx, who.Node)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if seq, ok := cursors[m.Session.Address()]; ok {
			mine[m.Session.Address()] = seq
		}
	}
	return mine, nil
}
