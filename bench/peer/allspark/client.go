package allspark

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// ackEvery is after how many stored messages a client acknowledges; one who
// gets fewer does it once a second. The server recommends both.
const ackEvery = 32

// client is one connection of one device.
type client struct {
	// Static.
	t       *Target
	name    string
	durable bool
	handler peer.Handler
	open    chan error // told once: whether hello and the topics have been answered

	// Static before anything is sent.
	ws    *ws.Conn
	waits int // answers that are to come first

	// Only the reader.
	answered int

	mu      sync.Mutex
	handled map[string]uint64 // not acknowledged yet: log and seq
	count   int               // of messages not acknowledged
	closed  bool
}

// hello is what the client says first, and what it has to wait for.
func (c *client) hello(ctx context.Context, topics []string) error {
	c.waits = 1
	if len(topics) > 0 {
		c.waits++
	}
	err := c.write(func(b []byte) []byte {
		return fmt.Appendf(b, `{"control":"hello","resume":%t}`, c.durable)
	})
	if err == nil && len(topics) > 0 {
		err = c.write(func(b []byte) []byte {
			b = append(b, `{"control":"subscribe","topics":[`...)
			for i, topic := range topics {
				if i > 0 {
					b = append(b, ',')
				}
				b = strconv.AppendQuote(b, topicPrefix+topic)
			}
			return append(b, `]}`...)
		})
	}
	if err != nil {
		return err
	}
	select {
	case err := <-c.open:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *client) write(build func([]byte) []byte) error { return c.ws.Write(ws.Text, build) }

// Send implements [peer.Client].
func (c *client) Send(to string, m peer.Message) error {
	return c.write(func(b []byte) []byte { return appendMessage(b, "dest_id", to, m) })
}

// Publish implements [peer.Client]: topics are volatile and groups durable.
func (c *client) Publish(to string, m peer.Message) error {
	if !m.Durable {
		to = topicPrefix + to
	}
	return c.write(func(b []byte) []byte { return appendMessage(b, "dest_session_id", to, m) })
}

// Watch implements [peer.Client].
func (c *client) Watch(users []string) error {
	return c.write(func(b []byte) []byte {
		b = append(b, `{"control":"presence","subscribe":true,"clients":[`...)
		for i, user := range users {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, user)
		}
		return append(b, `]}`...)
	})
}

// Close implements [peer.Client].
func (c *client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.ws.Close()
}

// read takes one frame.
func (c *client) read(_ *ws.Conn, _ byte, frame []byte) error {
	if rest, ok := bytes.CutPrefix(frame, controlStart); ok {
		c.control(rest)
		return nil
	}
	m, ok := parseMessage(frame)
	if !ok {
		return nil
	}
	if c.handler.Message != nil {
		c.handler.Message(m.body)
	}
	if m.seq != 0 && c.durable {
		c.handle(m)
	}
	return nil
}

// control handles a control frame, from its name on.
func (c *client) control(frame []byte) {
	name, rest, _ := bytes.Cut(frame, quote)
	switch string(name) {
	case "ack":
		if c.handler.Accepted != nil {
			if tag := digits(word(rest, idName)); tag != 0 {
				c.handler.Accepted(tag)
			}
		}
	case "nack":
		if c.handler.Refused != nil {
			c.handler.Refused(digits(word(rest, idName)), string(rest))
		}
	case "receipt":
		if c.handler.Receipt != nil {
			c.handler.Receipt()
		}
	case "hello", "subscribed":
		if c.answered++; c.answered == c.waits {
			c.opened(nil)
		}
	case "error":
		c.opened(fmt.Errorf("allspark: %s: %s", c.name, rest))
		if c.handler.Refused != nil {
			c.handler.Refused(0, string(rest))
		}
	}
}

// gone is told when the connection has broken.
func (c *client) gone(err error) {
	c.opened(err)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

// opened says that the client is there, or why not. Only the first word counts.
func (c *client) opened(err error) {
	select {
	case c.open <- err:
	default:
	}
}

// handle takes note of a stored message, and acknowledges when there are many.
func (c *client) handle(m message) {
	log := "node:" + c.name
	if m.session != nil {
		log = "session:" + string(m.session)
	}
	c.mu.Lock()
	if c.handled == nil {
		c.handled = make(map[string]uint64)
	}
	c.handled[log] = max(c.handled[log], m.seq)
	c.count++
	first, many := c.count == 1, c.count == ackEvery
	c.mu.Unlock()
	switch {
	case many:
		c.acknowledge()
	case first:
		c.t.later(c)
	}
}

// acknowledge tells the server what has been handled.
func (c *client) acknowledge() {
	c.mu.Lock()
	if c.count == 0 || c.closed {
		c.mu.Unlock()
		return
	}
	handled := maps.Clone(c.handled)
	clear(c.handled)
	c.count = 0
	c.mu.Unlock()
	_ = c.write(func(b []byte) []byte { // a connection that is gone says so by itself
		b = append(b, `{"control":"ack","cursors":{`...)
		sep := ""
		for log, seq := range handled {
			b = append(strconv.AppendQuote(append(b, sep...), log), ':')
			b, sep = strconv.AppendUint(b, seq, 10), ","
		}
		return append(b, "}}"...)
	})
}
