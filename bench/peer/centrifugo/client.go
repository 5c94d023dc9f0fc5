package centrifugo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// Channels of users, of what many follow, and of groups; those in the namespace
// "kept" have a history.
const (
	userPrefix     = "u-"
	topicPrefix    = "t-"
	keptUserPrefix = "kept:u-"
	groupPrefix    = "kept:g-"
)

// account is what a user's clients know from one connection to the next, as
// the recommended client libraries do.
type account struct {
	mu       sync.Mutex
	channels map[string]*position // with history
}

// client is one connection.
type client struct {
	// Static.
	target  *Target
	account *account
	name    string
	ws      *ws.Conn
	handler peer.Handler
	ended   chan struct{} // closed when the server has closed the connection

	// Only the reader.
	events events
	pinged bool

	// next numbers the commands that are not durable messages: they have odd
	// numbers, the others twice their tag.
	next atomic.Uint32

	mu    sync.Mutex
	asked map[uint32]question
}

// question is a command that somebody waits for.
type question struct {
	channel string     // of a subscription
	done    chan error // room for one
}

var errEnded = errors.New("centrifugo: the server closed the connection")

// dial opens a connection and subscribes to channels; of those with history
// the client hears what it missed.
func (t *Target) dial(ctx context.Context, name string, a *account, channels []string, h peer.Handler) (*client, error) {
	c := &client{
		target: t, account: a, name: name, handler: h,
		ended: make(chan struct{}), asked: make(map[uint32]question),
	}
	c.events = events{push: c.push, reply: c.reply, ping: func() { c.pinged = true }}
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: t.loop, Dialer: &t.dialer, Address: t.Address, Path: "/connection/websocket",
		Message: c.read,
		Closed:  c.closed,
	})
	if err != nil {
		return nil, err
	}
	c.ws = conn
	id, connected := c.ask("")
	err = conn.Write(ws.Text, func(b []byte) []byte { return appendConnect(b, id) })
	if err == nil {
		err = c.answered(ctx, connected)
	}
	if err == nil {
		err = c.subscribe(ctx, channels...)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// ask numbers a command that is waited for.
func (c *client) ask(channel string) (id uint32, done chan error) {
	id, done = c.number(), make(chan error, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[id] = question{channel, done}
	return id, done
}

func (c *client) number() uint32 { return c.next.Add(1)*2 - 1 }

func (c *client) answered(ctx context.Context, done chan error) error {
	select {
	case err := <-done:
		return err
	case <-c.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// subscribe subscribes to channels with one frame.
func (c *client) subscribe(ctx context.Context, channels ...string) error {
	var commands []byte
	var answers []chan error
	for _, channel := range channels {
		id, done := c.ask(channel)
		answers = append(answers, done)
		commands = append(appendSubscribe(commands, id, channel, c.account.position(channel)), '\n')
	}
	if err := c.ws.Write(ws.Text, func(b []byte) []byte { return append(b, commands...) }); err != nil {
		return err
	}
	for _, done := range answers {
		if err := c.answered(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// read handles one frame.
func (c *client) read(conn *ws.Conn, _ byte, frame []byte) error {
	err := c.events.parse(frame)
	if err != nil || !c.pinged {
		return err
	}
	c.pinged = false
	return conn.Write(ws.Text, func(b []byte) []byte { return append(b, "{}"...) })
}

func (c *client) push(p push) {
	if p.offset > 0 {
		c.account.reached(p.channel, p.offset)
	}
	if c.handler.Message != nil {
		c.handler.Message(p.data)
	}
}

func (c *client) reply(r reply) {
	c.mu.Lock()
	q, ok := c.asked[r.ID]
	delete(c.asked, r.ID)
	c.mu.Unlock()
	switch {
	case !ok:
		c.published(r)
		return
	case r.Error != nil:
		q.done <- r.Error
		return
	case r.Connect != nil:
		c.target.meet(r.Connect.Version)
	case r.Subscribe != nil:
		for _, p := range r.Subscribe.Publications {
			if c.handler.Message != nil {
				c.handler.Message([]byte(p.Data))
			}
		}
		if r.Subscribe.Epoch != "" {
			c.account.set(q.channel, r.Subscribe.position)
		}
	}
	q.done <- nil
}

// published is told the answer to a message; durable ones have even numbers.
func (c *client) published(r reply) {
	tag := uint64(0)
	if r.ID%2 == 0 {
		tag = uint64(r.ID / 2)
	}
	switch {
	case r.Error != nil && c.handler.Refused != nil:
		c.handler.Refused(tag, r.Error.Error())
	case r.Error == nil && tag > 0 && c.handler.Accepted != nil:
		c.handler.Accepted(tag)
	}
}

func (c *client) closed(err error) {
	c.target.forget(c)
	close(c.ended)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

func (c *client) publish(prefix, to string, m peer.Message) error {
	id := uint32(m.Tag) * 2
	if !m.Durable {
		id = c.number()
	}
	return c.ws.Write(ws.Text, func(b []byte) []byte { return appendPublish(b, id, prefix, to, m.Body) })
}

// Send sends to a user.
func (c *client) Send(to string, m peer.Message) error {
	if m.Durable {
		return c.publish(keptUserPrefix, to, m)
	}
	return c.publish(userPrefix, to, m)
}

// Publish sends to a topic or a group.
func (c *client) Publish(to string, m peer.Message) error {
	if m.Durable {
		return c.publish(groupPrefix, to, m)
	}
	return c.publish(topicPrefix, to, m)
}

// Watch does nothing; see About.
func (c *client) Watch([]string) error { return nil }

// Close closes the connection.
func (c *client) Close() error {
	c.target.forget(c)
	return c.ws.Close()
}

// position returns how far the user has got; nil: has not been there.
func (a *account) position(channel string) *position {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.channels[channel]; p != nil {
		at := *p
		return &at
	}
	return nil
}

func (a *account) set(channel string, at position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.channels[channel] = &at
}

func (a *account) reached(channel []byte, offset uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.channels[string(channel)]; p != nil {
		p.Offset = offset
	}
}
