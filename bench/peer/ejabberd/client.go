package ejabberd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// client is one connection.
type client struct {
	// Static.
	target  *Target
	name    string
	ws      *ws.Conn
	handler peer.Handler

	// Only the reader.
	handled  uint32 // stanzas since stream management is on
	counting bool

	// steps are what the server says while the connection is opened.
	steps chan string   // names of elements; room for what one step brings
	ended chan struct{} // closed when the connection has ended
	err   error         // why; before ended is closed

	mu      sync.Mutex
	opening bool // steps are told, and the handler is not when the connection ends
	joined  map[string]struct{}
	// Of stream management, as far as this side sends.
	managed bool
	sent    uint32
	asked   bool // an answer will come
	waiting []sent
}

// sent is a durable message that is not acknowledged.
type sent struct {
	count uint32 // of stanzas, with this one
	tag   uint64
}

// password is that of all users.
const password = "bench"

// Kinds of messages: headlines are dropped when a user is away, chat is kept.
const (
	kindVolatile = "headline"
	kindDurable  = "chat"
	kindRoom     = "groupchat"
)

// dial opens a connection. While a user logs in, ejabberd 23.01 closes one connection
// in some thousands; like other clients, this one then tries once more.
func (t *Target) dial(ctx context.Context, u peer.User, h peer.Handler) (*client, error) {
	stranger := t.firstTime(u.Name)
	c, err := t.dialOnce(ctx, u, h, stranger)
	if errors.Is(err, errClosed) {
		c, err = t.dialOnce(ctx, u, h, stranger)
	}
	return c, err
}

// errClosed means that the server has closed the connection while the user logged in.
var errClosed = errors.New("closed meanwhile")

func (t *Target) dialOnce(ctx context.Context, u peer.User, h peer.Handler, stranger bool) (*client, error) {
	c := &client{
		target: t, name: u.Name, handler: h, opening: true, joined: make(map[string]struct{}),
		steps: make(chan string, 16), ended: make(chan struct{}),
	}
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: t.loop, Dialer: &t.dialer, Address: t.Address, Path: "/ws", Protocol: "xmpp",
		Message: c.read,
		Closed:  c.closed,
	})
	if err != nil {
		return nil, err
	}
	c.ws = conn
	if err := c.login(ctx, u, stranger); err != nil {
		return nil, errors.Join(fmt.Errorf("ejabberd: %s: %w", u.Name, err), conn.Close())
	}
	t.connected(c)
	if !c.opened() {
		t.disconnected(c)
		return nil, fmt.Errorf("ejabberd: %s: %w: %w", u.Name, errClosed, c.err)
	}
	return c, nil
}

// opened notes that the user is logged in; from now on the handler is told when the
// connection ends. It reports false when it has ended.
func (c *client) opened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ended:
		return false
	default:
		c.opening = false
		return true
	}
}

// step is one thing to say at the beginning, and what the server is to say then.
type step struct {
	say  func(b []byte) []byte
	want string
	or   string // as good
}

// login logs a user in, a stranger with a new account. That it cannot be made is no
// failure, since an attempt before this one may have made it.
func (c *client) login(ctx context.Context, u peer.User, stranger bool) error {
	steps := []step{{say: appendOpen, want: "stream:features"}}
	if stranger {
		register := func(b []byte) []byte { return appendRegister(b, u.Name, password) }
		steps = append(steps, step{say: register, want: "iq", or: "error"})
	}
	steps = append(steps,
		step{say: func(b []byte) []byte { return appendAuth(b, u.Name, password) }, want: "success"},
		step{say: appendOpen, want: "stream:features"},
		step{say: appendBind, want: "iq"})
	for _, s := range steps {
		if err := c.do(ctx, s); err != nil {
			return err
		}
	}
	if u.Durable {
		if err := c.do(ctx, step{say: c.enable, want: "enabled"}); err != nil {
			return err
		}
	}
	// The user's own presence comes back.
	if err := c.do(ctx, step{say: c.counted(appendPresence), want: "presence"}); err != nil {
		return err
	}
	for _, topic := range u.Topics {
		c.mu.Lock()
		c.joined[topic] = struct{}{}
		c.mu.Unlock()
		join := c.counted(func(b []byte) []byte { return appendJoin(b, topic, c.name) })
		if err := c.do(ctx, step{say: join, want: "presence"}); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) do(ctx context.Context, s step) error {
	if err := c.ws.Write(ws.Text, s.say); err != nil {
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	for {
		select {
		case name := <-c.steps:
			switch {
			case name == s.want, name == s.or && s.or != "":
				return nil
			case name == "failure", name == "failed", name == "error":
				return fmt.Errorf("refused while waiting for %s", s.want)
			}
		case <-c.ended:
			return fmt.Errorf("%w: %w", errClosed, c.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read handles one element.
func (c *client) read(conn *ws.Conn, _ byte, element []byte) error {
	name := kind(element)
	switch name {
	case "message", "presence", "iq":
		c.handled++
	case "enabled":
		c.handled, c.counting = 0, true
	case "r":
		n := c.handled
		return conn.Write(ws.Text, func(b []byte) []byte { return appendHandled(b, n) })
	case "stream:error":
		return fmt.Errorf("ejabberd: %s", element)
	case "a":
		return c.acknowledged(conn, attribute(element, "h"))
	}
	isError := bytes.Equal(attribute(element, "type"), []byte("error"))
	switch {
	case name == "message" && isError:
		if c.handler.Refused != nil {
			c.handler.Refused(0, string(element))
		}
		return nil
	case name == "message":
		if b, ok := body(element); ok && c.handler.Message != nil {
			c.handler.Message(b)
		}
		return nil
	case name == "iq" && isError:
		name = "error"
	case name == "iq" && c.target.answered(attribute(element, "id")):
		return nil
	}
	c.mu.Lock()
	opening := c.opening
	c.mu.Unlock()
	if opening {
		select {
		case c.steps <- name:
		default: // nobody waits for so much
		}
	}
	return nil
}

// acknowledged tells which durable messages the server has handled, and asks
// again if some are left.
func (c *client) acknowledged(conn *ws.Conn, h []byte) error {
	n, err := strconv.ParseUint(string(h), 10, 32)
	if err != nil {
		return err
	}
	c.mu.Lock()
	done := 0
	for done < len(c.waiting) && int32(c.waiting[done].count-uint32(n)) <= 0 { // counts may wrap
		done++
	}
	accepted := c.waiting[:done:done]
	c.waiting = c.waiting[done:]
	c.asked = len(c.waiting) > 0
	again := c.asked
	c.mu.Unlock()
	if c.handler.Accepted != nil {
		for _, s := range accepted {
			c.handler.Accepted(s.tag)
		}
	}
	if again {
		return conn.Write(ws.Text, appendAsk)
	}
	return nil
}

func (c *client) closed(err error) {
	c.target.disconnected(c)
	c.mu.Lock()
	opening := c.opening
	c.err = err
	close(c.ended)
	c.mu.Unlock()
	if c.handler.Closed != nil && !opening {
		c.handler.Closed(err)
	}
}

// enable says that stream management begins, and begins to count. It is called
// while the connection is locked for writing, so that counts are in the order of
// what is sent.
func (c *client) enable(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.managed, c.sent = true, 0
	return appendEnable(b)
}

// counted counts the stanza that add appends; see enable.
func (c *client) counted(add func(b []byte) []byte) func(b []byte) []byte {
	return func(b []byte) []byte {
		c.mu.Lock()
		c.sent++
		c.mu.Unlock()
		return add(b)
	}
}

// durable sends a stanza and asks the server to acknowledge it, unless it will
// answer such a question anyway.
func (c *client) durable(tag uint64, add func(b []byte) []byte) error {
	c.mu.Lock()
	managed := c.managed
	c.mu.Unlock()
	if !managed {
		if err := c.ws.Write(ws.Text, c.enable); err != nil {
			return err
		}
	}
	ask := false
	err := c.ws.Write(ws.Text, func(b []byte) []byte {
		c.mu.Lock()
		c.sent++
		c.waiting = append(c.waiting, sent{c.sent, tag})
		ask = !c.asked
		c.asked = true
		c.mu.Unlock()
		return add(b)
	})
	if err != nil || !ask {
		return err
	}
	return c.ws.Write(ws.Text, appendAsk)
}

// Send sends to a user.
func (c *client) Send(to string, m peer.Message) error {
	if m.Durable {
		return c.durable(m.Tag, func(b []byte) []byte { return appendMessage(b, to, host, kindDurable, m.Body) })
	}
	return c.ws.Write(ws.Text, c.counted(func(b []byte) []byte { return appendMessage(b, to, host, kindVolatile, m.Body) }))
}

// Publish says something in a room, which who says something must be in.
func (c *client) Publish(to string, m peer.Message) error {
	c.mu.Lock()
	_, in := c.joined[to]
	c.joined[to] = struct{}{}
	c.mu.Unlock()
	if !in && !m.Durable {
		if err := c.ws.Write(ws.Text, c.counted(func(b []byte) []byte { return appendJoin(b, to, c.name) })); err != nil {
			return err
		}
	}
	say := func(b []byte) []byte { return appendMessage(b, to, rooms, kindRoom, m.Body) }
	if m.Durable {
		return c.durable(m.Tag, say)
	}
	return c.ws.Write(ws.Text, c.counted(say))
}

// Watch does nothing; see About.
func (c *client) Watch([]string) error { return nil }

// Close closes the connection.
func (c *client) Close() error {
	c.target.disconnected(c)
	return c.ws.Close()
}
