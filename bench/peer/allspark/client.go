package allspark

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
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
	topics  []string          // followed
	cursors map[string]uint64 // log and seq of the last message handled
	moved   map[string]uint64 // those that the server has not been told
	count   int               // of messages not acknowledged
	closed  bool
}

// hello is what the client says first, and what it has to wait for.
func (c *client) hello(ctx context.Context) error {
	c.waits = 1 + min(len(c.topics), 1)
	err := c.write(func(b []byte) []byte {
		b = append(b, `{"control":"hello",`...)
		if len(c.cursors) > 0 {
			b = append(appendCursors(b, c.cursors), ',')
		}
		return fmt.Appendf(b, `"resume":%t}`, c.durable)
	})
	if err == nil && len(c.topics) > 0 {
		err = c.subscribe(c.topics)
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

func (c *client) subscribe(topics []string) error {
	return c.write(func(b []byte) []byte {
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

func (c *client) write(build func([]byte) []byte) error { return c.ws.Write(ws.Text, build) }

// Send implements [peer.Client].
func (c *client) Send(to string, m peer.Message) error {
	return c.write(func(b []byte) []byte { return appendMessage(b, "dest_id", to, m) })
}

// Publish implements [peer.Client]: topics are volatile and groups durable. Who
// speaks in a topic has to follow it.
func (c *client) Publish(to string, m peer.Message) error {
	if m.Durable {
		return c.write(func(b []byte) []byte { return appendMessage(b, "dest_session_id", to, m) })
	}
	if c.begins(to) {
		if err := c.subscribe([]string{to}); err != nil {
			return err
		}
	}
	return c.write(func(b []byte) []byte { return appendMessage(b, "dest_session_id", topicPrefix+to, m) })
}

// begins takes note that the client follows a topic, and reports whether it did
// not before.
func (c *client) begins(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.topics, topic) {
		return false
	}
	c.topics = append(c.topics, topic)
	return true
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

// Close implements [peer.Client]. Where a durable user is, is kept for when it
// comes back.
func (c *client) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.durable {
		defer c.t.remember(c.name, maps.Clone(c.cursors))
	}
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
	if c.cursors == nil {
		c.cursors = make(map[string]uint64)
	}
	if c.moved == nil {
		c.moved = make(map[string]uint64)
	}
	c.cursors[log] = max(c.cursors[log], m.seq)
	c.moved[log] = c.cursors[log]
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
	moved := c.moved
	c.moved, c.count = make(map[string]uint64, len(moved)), 0
	c.mu.Unlock()
	_ = c.write(func(b []byte) []byte { // a connection that is gone says so by itself
		return append(appendCursors(append(b, `{"control":"ack",`...), moved), '}')
	})
}

// appendCursors appends the member of a control frame.
func appendCursors(b []byte, cursors map[string]uint64) []byte {
	b = append(b, `"cursors":{`...)
	sep := ""
	for log, seq := range cursors {
		b = append(strconv.AppendQuote(append(b, sep...), log), ':')
		b, sep = strconv.AppendUint(b, seq, 10), ","
	}
	return append(b, '}')
}
