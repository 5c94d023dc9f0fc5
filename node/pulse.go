package node

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// due is what is to be done for a connection by itself: see [alarms]. Its fields
// are guarded by conn.mu.
type due struct {
	hello  time.Duration // serve it without
	ping   time.Duration // ping it, or see whether it has answered
	warn   time.Duration // tell it that its credential is about to end
	end    time.Duration // of the credential
	warned int64         // of which end the client has been told, Unix milliseconds
}

func (d *due) next() time.Duration { return min(d.hello, d.ping, d.warn, d.end) }

// reached reports whether *at is over, and then makes it never.
func reached(at *time.Duration, now time.Duration) bool {
	if *at > now {
		return false
	}
	*at = never
	return true
}

// setAlarms starts what watches over a connection; hello: it may say hello first.
func (c *conn) setAlarms(hello bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.n.alarms.now()
	c.due.hello, c.due.ping = never, now+c.n.timing.Ping
	if hello {
		c.due.hello = now + c.n.timing.Hello
	}
	if c.waiter != nil {
		c.due.ping = slotOf(c.due.ping - rand.N(c.n.timing.Ping/4+1)) // those who have come together are not pinged together for ever
	}
	c.setExpiry()
}

// ring does what is due; it does not wait.
func (c *conn) ring() {
	now := c.n.alarms.now()
	c.mu.Lock()
	hello, ping := reached(&c.due.hello, now), reached(&c.due.ping, now)
	if reached(&c.due.warn, now) {
		c.warn()
	}
	if reached(&c.due.end, now) {
		c.expire()
	}
	leaving := c.over || c.goodbye != nil
	c.mu.Unlock()
	if hello {
		c.spawn(func() { c.open(nil) })
	}
	next := never
	switch {
	case !ping:
	case c.waiter == nil:
		c.spawn(c.pingAndWait)
	case leaving:
		c.waiter.Heard() // after a ping
	default:
		next = c.beat(now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.ping = min(c.due.ping, next)
	c.n.alarms.set(c, c.due.next())
}

// pulse is the last ping that nobody waits for.
type pulse struct {
	sent  time.Duration // 0: it was answered
	heard uint32        // what had been heard before
}

// pingSlot gathers pings, so that few rounds write and read many: most of what a
// ping costs is that the process has to wake up for it.
const pingSlot = 500 * time.Millisecond

// pongSoon is when most have answered a ping. Then is the first look, unless all have
// to answer sooner.
const pongSoon = 2 * time.Second

// slotOf is the end of the slot that at is in.
func slotOf(at time.Duration) time.Duration { return (at + pingSlot).Truncate(pingSlot) }

// beat pings a client without waiting, or sees whether it has answered. It
// returns when it is to be called again. Anything that a client sends shows as
// much as a pong.
func (c *conn) beat(now time.Duration) (next time.Duration) {
	if sent := c.pulse.sent; sent != 0 {
		switch {
		case c.waiter.Heard() != c.pulse.heard || !c.silent(c.heard.Load()):
			c.pulse.sent = 0
			return slotOf(max(now, sent+c.n.timing.Ping))
		case now < sent+c.n.timing.Pong:
			return slotOf(sent + c.n.timing.Pong)
		default:
			c.cancel(errNoPong)
			return never
		}
	}
	if !c.blocked.Load() {
		if heard, sent := c.waiter.Probe(); sent {
			c.pulse = pulse{now, heard}
			return slotOf(now + min(c.n.timing.Pong, pongSoon))
		}
	}
	return slotOf(now + c.n.timing.Ping) // the stall timer judges a frame that is being written
}

// pingAndWait keeps the connection alive and ends it when the client does not answer.
func (c *conn) pingAndWait() {
	heard := c.heard.Load()
	if err := c.ping(); err != nil && !errors.Is(err, errWriting) && c.silent(heard) {
		c.cancel(errNoPong)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.ping = c.n.alarms.now() + c.n.timing.Ping
	c.n.alarms.set(c, c.due.next())
}

var (
	// errWriting is for a ping that would have had to wait for a frame.
	errWriting = errors.New("a frame is being written")
	errNoPong  = envelope.Errorf(envelope.SlowReader, "a ping was not answered")
)

// ping returns nil when the client has answered. It does not stand in line
// behind a frame that is being written: the stall timer judges that, and the
// library ends a connection on which a ping cannot be written for some seconds.
func (c *conn) ping() error {
	if c.blocked.Load() {
		return errWriting
	}
	ctx, cancel := c.ctx.within(c.n.timing.Pong)
	defer cancel()
	return c.t.Ping(ctx)
}

// silent reports whether a ping that was not answered shows that the client is
// gone. Not so while a frame is being written, nor while the read loop is held
// back and no pong can arrive; and a frame from the client shows as much as a
// pong.
func (c *conn) silent(heard uint64) bool {
	return !c.blocked.Load() && c.reading.Load() && c.heard.Load() == heard
}
