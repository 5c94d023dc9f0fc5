package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/stream"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// Subjects: a user's own for volatile messages, one that is stored, one to
// which the stored ones are pushed, and one for the answers of JetStream.
const (
	volatileOf = "u."
	storedOf   = "d."
	pushedOf   = "p."
	answersOf  = "a."
	topicOf    = "t."
	groupOf    = "g."
)

// Numbers of subscriptions.
const (
	sidVolatile = 1 + iota
	sidPushed
	sidAnswers
	sidTopics // and more
)

// client is one connection.
type client struct {
	// Static.
	target  *Target
	ws      *ws.Conn
	handler peer.Handler
	answers string // prefix of reply subjects; the tag follows

	// Only the reader.
	in     stream.Assembler
	events events
	pinged bool
	pushed int // since the last acknowledgement

	mu  sync.Mutex
	ack []byte // where to acknowledge what was pushed; empty: nothing was

	once   sync.Once
	opened chan struct{} // closed at the first PONG, or when the connection ends
	err    error         // why it ended; before opened is closed
}

// dial opens a connection and returns when its subscriptions are in force.
func (t *Target) dial(ctx context.Context, subscriptions []byte, answers string, h peer.Handler) (*client, error) {
	c := &client{target: t, handler: h, answers: answers, opened: make(chan struct{})}
	c.events = events{message: c.message, ping: func() { c.pinged = true }, pong: func() { c.open(nil) }}
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: t.env.Loop, Dialer: &t.dialer, Address: t.Address, Path: "/",
		Message: func(conn *ws.Conn, _ byte, payload []byte) error { return c.read(conn, payload) },
		Closed:  c.closed,
	})
	if err != nil {
		return nil, err
	}
	c.ws = conn
	// The server answers PING when it has done what came before.
	err = conn.Write(ws.Binary, func(b []byte) []byte {
		b = append(b, `CONNECT {"verbose":false,"pedantic":false,"lang":"go","version":"1","protocol":1}`...)
		b = append(append(b, crlf...), subscriptions...)
		return append(b, "PING\r\n"...)
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	select {
	case <-c.opened:
		return c, c.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), conn.Close())
	}
}

func (c *client) open(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.opened)
	})
}

func (c *client) closed(err error) {
	c.target.forget(c)
	c.open(err)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

// ackEvery is how many messages have one acknowledgement at most, and ackAfter
// how long one may wait: with the policy "all" it stands for those before.
const (
	ackEvery = 32
	ackAfter = time.Second
)

// read handles one frame.
func (c *client) read(conn *ws.Conn, payload []byte) error {
	err := c.in.Feed(payload, c.events.parse)
	if err == nil && c.pinged {
		c.pinged = false
		err = conn.Write(ws.Binary, func(b []byte) []byte { return append(b, "PONG\r\n"...) })
	}
	if err == nil && c.pushed >= ackEvery {
		c.pushed = 0
		err = c.acknowledge(conn)
	}
	return err
}

// acknowledge acknowledges all that was pushed.
func (c *client) acknowledge(conn *ws.Conn) error {
	c.mu.Lock()
	ack := string(c.ack)
	c.ack = c.ack[:0]
	c.mu.Unlock()
	if ack == "" {
		return nil
	}
	return conn.Write(ws.Binary, func(b []byte) []byte { return appendPub(b, ack, "", nil) })
}

func (c *client) message(m message) error {
	switch m.sid {
	case sidAnswers:
		return c.answer(m)
	case sidPushed:
		defer c.toAcknowledge(m.reply)
	}
	if c.handler.Message != nil {
		c.handler.Message(m.payload)
	}
	return nil
}

// toAcknowledge notes a message that was pushed and handled.
func (c *client) toAcknowledge(reply []byte) {
	c.pushed++
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ack = append(c.ack[:0], reply...)
}

// answer reads what JetStream says of a message that was published to it.
func (c *client) answer(m message) error {
	tag, err := strconv.ParseUint(string(m.subject[len(c.answers):]), 10, 64)
	if err != nil {
		return err
	}
	if !bytes.Contains(m.payload, []byte(`"error"`)) {
		if c.handler.Accepted != nil {
			c.handler.Accepted(tag)
		}
	} else if c.handler.Refused != nil {
		c.handler.Refused(tag, string(m.payload))
	}
	return nil
}

func (c *client) publish(subject string, m peer.Message) error {
	reply := ""
	if m.Durable {
		reply = c.answers + strconv.FormatUint(m.Tag, 10)
	}
	return c.ws.Write(ws.Binary, func(b []byte) []byte { return appendPub(b, subject, reply, m.Body) })
}

// Send sends to a user.
func (c *client) Send(to string, m peer.Message) error {
	if m.Durable {
		return c.publish(storedOf+to, m)
	}
	return c.publish(volatileOf+to, m)
}

// Publish sends to a topic or a group.
func (c *client) Publish(to string, m peer.Message) error {
	if m.Durable {
		return c.publish(groupOf+to, m)
	}
	return c.publish(topicOf+to, m)
}

// Watch does nothing: NATS does not know who is online.
func (c *client) Watch([]string) error { return nil }

// Close closes the connection.
func (c *client) Close() error {
	c.target.forget(c)
	return errors.Join(c.acknowledge(c.ws), c.ws.Close())
}

// caller asks JetStream, one question at a time.
type caller struct {
	mu      sync.Mutex // held while a question is open, so that answers are not mixed up
	client  *client
	answers chan []byte // room for one
}

const callerInbox = answersOf + "caller."

func (t *Target) newCaller(ctx context.Context) (*caller, error) {
	q := &caller{answers: make(chan []byte, 1)}
	h := peer.Handler{Message: func(body []byte) {
		select {
		case q.answers <- bytes.Clone(body):
		default: // nobody waits any more
		}
	}}
	var err error
	// Not sidAnswers: these are no acknowledgements.
	q.client, err = t.dial(ctx, appendSub(nil, callerInbox+"*", sidVolatile), callerInbox, h)
	return q, err
}

// call asks and returns the error that JetStream answers with.
func (q *caller) call(ctx context.Context, subject string, question any) error {
	payload, err := json.Marshal(question)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.client.ws.Write(ws.Binary, func(b []byte) []byte {
		return appendPub(b, "$JS.API."+subject, callerInbox+"1", payload)
	})
	if err != nil {
		return err
	}
	select {
	case raw := <-q.answers:
		var answer struct {
			Error *struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return &ServerError{subject + ": " + answer.Error.Description}
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
