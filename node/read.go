package node

import (
	"errors"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook/ask"
	"github.com/allsparkrt/allspark/internal/stack"
)

// readLoop reads frames until the connection is over, or nothing is there and it
// is not to wait.
func (c *conn) readLoop() error {
	for {
		if err := c.waitForRoom(); err != nil {
			return err
		}
		cmd, id, err := c.next()
		if err != nil {
			return err
		}
		c.obey(cmd, id)
	}
}

// readable handles what has come in, of a connection that has no goroutine to
// wait for it: see [gateway.Waiter]. What may take long is not done inline.
func (c *conn) readable(inline bool) (kept bool) {
	for !inline {
		err := c.readLoop()
		if !errors.Is(err, gateway.ErrNothing) {
			c.end(err)
			return true
		}
		if c.waiter.Await() {
			return false
		}
	}
	for {
		if c.crowded() {
			c.waiter.Keep()
			go c.readable(false)
			return true
		}
		cmd, id, err := c.next()
		switch {
		case errors.Is(err, gateway.ErrNothing):
			return false
		case err != nil:
			c.waiter.Keep()
			go c.end(err)
			return true
		case c.takesLong(cmd):
			c.waiter.Keep()
			go func() {
				stack.Reserve()
				c.obey(cmd, id)
				c.readable(false)
			}()
			return true
		}
		c.obey(cmd, id)
	}
}

// crowded reports whether the next frame would have to wait for room.
func (c *conn) crowded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sending != nil && c.inflight.taken >= maxInflight || c.lane.crowded()
}

// takesLong reports whether a command asks the store, or others, before the next
// frame is read. Others do as well, at times; then the loop goes on without us.
func (c *conn) takesLong(cmd gateway.Command) bool {
	switch cmd.(type) {
	case nil:
		return false
	case gateway.Send:
		return !c.opening.Load() || c.n.backend.Asks(ask.Send)
	case gateway.Acknowledge, gateway.MarkRead:
		return !c.opening.Load()
	}
	return true
}

// next reads a frame. What cannot be read as a command, or is none that its
// sender may give, is refused: cmd is nil then.
func (c *conn) next() (cmd gateway.Command, id string, err error) {
	c.reading.Store(true)
	frame, err := c.t.Read()
	if errors.Is(err, gateway.ErrNothing) {
		return nil, "", err // and still reading, as far as pongs go
	}
	c.reading.Store(false)
	if err != nil {
		return nil, "", err
	}
	if c.revoked.Load() {
		return nil, "", envelope.Errorf(envelope.Revoked, "the credential was revoked")
	}
	c.heard.Add(1)
	c.n.stats.FramesIn.Add(1)
	cmd, id, err = c.codec.Decode(frame)
	if err == nil {
		err = mayDo(c.caller(), cmd)
	}
	if _, hello := cmd.(gateway.Hello); hello && err != nil {
		return nil, "", err // to go on without its topics and its cursors is not what it asks for
	}
	if err == nil {
		var asked string
		if asked, err = c.mayAsk(cmd); err != nil {
			id = asked
		}
	}
	if err != nil {
		c.refuse(id, err)
		return nil, "", nil
	}
	return cmd, id, nil
}

// obey does what a frame asks for.
func (c *conn) obey(cmd gateway.Command, id string) {
	switch cmd := cmd.(type) {
	case nil: // it was refused
		return
	case gateway.Hello:
		switch {
		case c.open(&cmd):
		case c.heard.Load() == 1: // it has come late, through no fault of its own
			c.close(envelope.Busy, "hello came too late; connect again")
		default:
			c.refuse("", envelope.Errorf(envelope.BadRequest, "hello comes first and once"))
		}
		return
	case gateway.Subscribe:
		c.open(nil)
		if err := c.subscribe(cmd); err != nil {
			c.refuse(cmd.ID, err)
		}
	case gateway.Unsubscribe:
		if err := c.unsubscribe(cmd); err != nil {
			c.refuse(cmd.ID, err)
		}
	case gateway.Send:
		c.send(cmd.Envelope)
	case gateway.Acknowledge:
		c.acknowledge(cmd.Cursors)
	case gateway.MarkRead:
		c.markRead(cmd.Cursors)
	case gateway.GetPresence:
		if err := c.presence(cmd); err != nil {
			c.refuse("", err)
		}
	case gateway.FetchPending:
		c.fetchPending(cmd)
	case gateway.Refresh:
		if err := c.refresh(cmd); err != nil {
			c.refuse(cmd.ID, err)
		}
	default:
		c.refuse(id, envelope.Errorf(envelope.BadRequest, "that is an HTTP call"))
	}
	c.open(nil) // the first frame was no hello
}
