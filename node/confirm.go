package node

import (
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
	for f := range c.follows.All() {
		log := f.log
		if f.started && f.sent > f.acked && !isTopic(log) {
			if marks == nil {
				marks = make(map[envelope.Address]uint64, c.follows.Len())
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
			c.acknowledge(envelope.PositionsOf(written))
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
func (c *conn) acknowledge(cursors []envelope.Position) {
	var few [8]envelope.Position // no allocation for what most frames hold
	moved := few[:0]
	c.mu.Lock()
	for _, p := range cursors {
		f := c.follows.Get(p.Log)
		if f == nil || isTopic(p.Log) {
			continue
		}
		if was := f.acked; f.acknowledge(p.Seq) {
			// Beyond it there may be a stay that is not known yet.
			moved = append(moved, envelope.Position{Log: f.log, Seq: f.clamp(f.acked)})
			c.moved(f, max(was, f.read), f.acked, false)
			c.endIfLeft(f)
		}
	}
	c.mu.Unlock()
	if len(moved) > 0 {
		c.acked.Store(true)
	}
	for _, p := range moved {
		c.n.inbox.Acknowledge(c.who.Node, p.Log, p.Seq)
	}
}
