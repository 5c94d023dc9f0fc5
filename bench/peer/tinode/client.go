package tinode

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// client is one connection.
type client struct {
	// Static.
	target *Target
	name   string
	uid    string // of the user, who is also a topic
	ws     *ws.Conn
	ended  chan struct{} // closed when the server has closed the connection

	// receiving is held while the handler is called: messages for this user come
	// on a partner's connection, see Target.
	receiving sync.Mutex
	handler   peer.Handler

	// Only the reader.
	unconfirmed int

	topic atomic.Pointer[string] // where this user writes
	next  atomic.Uint64          // request ids are odd, those of messages are twice the tag

	mu    sync.Mutex
	asked map[uint64]chan ctrl // room for one
}

var (
	errEnded   = errors.New("tinode: the server closed the connection")
	errPartner = errors.New("tinode: there is nobody else yet")
)

// path is with the key that fits the salt in the configuration.
const path = "/v0/channels?apikey=AQEAAAABAAD_rAp4DJh05a1HAwFT3A6K"

// password is that of all users.
const password = "bench000"

func (t *Target) dial(ctx context.Context, name string, h peer.Handler) (*client, error) {
	c := &client{target: t, name: name, handler: h, ended: make(chan struct{}), asked: make(map[uint64]chan ctrl)}
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: t.env.Loop, Dialer: &t.dialer, Address: t.address, Path: path,
		Message: c.read,
		Closed:  c.closed,
	})
	if err != nil {
		return nil, err
	}
	c.ws = conn
	if err := c.login(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *client) login(ctx context.Context) error {
	if _, err := c.call(ctx, appendHi); err != nil {
		return err
	}
	a, known := c.target.account(c.name)
	if known {
		c.uid = a.uid
		_, err := c.call(ctx, func(b []byte, id uint64) []byte { return appendLogin(b, id, a.token) })
		return err
	}
	login := strings.ReplaceAll(c.name, "-", "_") // logins have no hyphens
	answer, err := c.call(ctx, func(b []byte, id uint64) []byte { return appendAccount(b, id, login, password) })
	if err != nil {
		return err
	}
	c.uid = answer.Params.User
	c.target.remember(c.name, account{uid: c.uid, token: answer.Params.Token})
	return nil
}

func (c *client) subscribe(ctx context.Context, topic string) error {
	_, err := c.call(ctx, func(b []byte, id uint64) []byte { return appendSub(b, id, topic) })
	return err
}

// call makes a request and waits for the answer.
func (c *client) call(ctx context.Context, add func(b []byte, id uint64) []byte) (ctrl, error) {
	id, answer := c.next.Add(1)*2-1, make(chan ctrl, 1)
	c.mu.Lock()
	c.asked[id] = answer
	c.mu.Unlock()
	if err := c.ws.Write(ws.Text, func(b []byte) []byte { return add(b, id) }); err != nil {
		return ctrl{}, err
	}
	select {
	case a := <-answer:
		return a, a.err()
	case <-c.ended:
		return ctrl{}, errEnded
	case <-ctx.Done():
		return ctrl{}, context.Cause(ctx)
	}
}

// confirmEvery is after how many messages the server is told that they were received.
const confirmEvery = 32

// read handles one message of the server.
func (c *client) read(conn *ws.Conn, _ byte, in []byte) error {
	if d, ok := parseData(in); ok {
		c.target.deliver(d)
		if c.unconfirmed++; c.unconfirmed < confirmEvery {
			return nil
		}
		c.unconfirmed = 0
		return conn.Write(ws.Text, func(b []byte) []byte { return appendReceived(b, d.topic, d.seq) })
	}
	answer, ok, err := parseCtrl(in)
	if err != nil || !ok {
		return err
	}
	id, err := strconv.ParseUint(answer.ID, 10, 64)
	if err != nil {
		return nil // not an answer to anything
	}
	if id%2 == 0 {
		c.published(id/2, answer.err())
		return nil
	}
	c.mu.Lock()
	asked := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	if asked != nil {
		asked <- answer
	}
	return nil
}

func (c *client) published(tag uint64, err error) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	switch {
	case err != nil && c.handler.Refused != nil:
		c.handler.Refused(tag, err.Error())
	case err == nil && c.handler.Accepted != nil:
		c.handler.Accepted(tag)
	}
}

func (c *client) receive(body []byte) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.handler.Message != nil {
		c.handler.Message(body)
	}
}

func (c *client) closed(err error) {
	c.target.forget(c)
	close(c.ended)
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

// Send publishes in the user's conversation; see Target.
func (c *client) Send(to string, m peer.Message) error {
	if !m.Durable {
		return peer.ErrCannot
	}
	topic := c.topic.Load()
	if topic == nil {
		return errPartner
	}
	return c.ws.Write(ws.Text, func(b []byte) []byte { return appendPub(b, m.Tag*2, *topic, to, m.Body) })
}

// Publish is not driven.
func (c *client) Publish(string, peer.Message) error { return peer.ErrCannot }

// Watch is not driven.
func (c *client) Watch([]string) error { return peer.ErrCannot }

// Close closes the connection.
func (c *client) Close() error {
	c.target.forget(c)
	return c.ws.Close()
}
