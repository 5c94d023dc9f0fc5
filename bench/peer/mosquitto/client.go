package mosquitto

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/internal/stream"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// MQTT topics of users, of what many follow, and of groups.
const (
	userPrefix  = "u/"
	topicPrefix = "t/"
	groupPrefix = "g/"
)

const keepAlive = 60 // seconds within which the client says something

// client is one connection.
type client struct {
	// Static.
	target  *Target
	name    string
	ws      *ws.Conn
	handler peer.Handler

	// Only the reader.
	in   stream.Assembler
	acks []byte // PUBACKs for what came in one frame

	answers chan packet   // CONNACK and SUBACKs, for whoever waits
	ended   chan struct{} // closed when the server has closed the connection

	subscribing sync.Mutex // held from SUBSCRIBE to SUBACK

	mu   sync.Mutex
	next uint16
	tags map[uint16]uint64 // by packet id, of what is not acknowledged yet
}

var (
	errBusy  = errors.New("mosquitto: 65,535 messages are not acknowledged")
	errEnded = errors.New("mosquitto: the server closed the connection")
)

// dial opens a connection as a user and subscribes.
func (t *Target) dial(ctx context.Context, name string, durable bool, filters []string, h peer.Handler) (*client, error) {
	c := &client{
		target: t, name: name, handler: h, tags: make(map[uint16]uint64),
		// Nobody asks more than one question at a time, so a third has no place to go.
		answers: make(chan packet, 2), ended: make(chan struct{}),
	}
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: t.env.Loop, Dialer: &t.dialer, Address: t.Address, Path: "/mqtt", Protocol: "mqtt",
		Message: c.read,
		Closed:  c.closed,
	})
	if err != nil {
		return nil, err
	}
	c.ws = conn
	err = conn.Write(ws.Binary, func(b []byte) []byte { return appendConnect(b, name, !durable, keepAlive) })
	if err == nil {
		err = c.answered(ctx, typeConnAck)
	}
	if err == nil {
		err = c.subscribe(ctx, filters)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// answered waits for the answer to what has been asked.
func (c *client) answered(ctx context.Context, kind byte) error {
	select {
	case p := <-c.answers:
		const refused = 2 // codes of SUBACK up to 2 are what was granted
		if p.kind != kind || p.code > 0 && (kind == typeConnAck || p.code > refused) {
			return fmt.Errorf("mosquitto: answer %d with code %d", p.kind>>4, p.code)
		}
		return nil
	case <-c.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *client) subscribe(ctx context.Context, filters []string) error {
	c.subscribing.Lock()
	defer c.subscribing.Unlock()
	const id = 0xFFFF // packet ids of SUBSCRIBE and PUBLISH share their numbers
	err := c.ws.Write(ws.Binary, func(b []byte) []byte { return appendSubscribe(b, id, filters) })
	if err != nil {
		return err
	}
	return c.answered(ctx, typeSubAck)
}

// read handles one frame and acknowledges what was in it.
func (c *client) read(conn *ws.Conn, _ byte, payload []byte) error {
	err := c.in.Feed(payload, func(in []byte) (int, error) { return parse(in, c.packet) })
	if err != nil || len(c.acks) == 0 {
		return err
	}
	err = conn.Write(ws.Binary, func(b []byte) []byte { return append(b, c.acks...) })
	c.acks = c.acks[:0]
	return err
}

func (c *client) packet(p packet) error {
	switch p.kind {
	case typePublish:
		if c.handler.Message != nil {
			c.handler.Message(p.body)
		}
		if p.id != 0 {
			c.acks = appendPubAck(c.acks, p.id)
		}
	case typePubAck:
		c.mu.Lock()
		tag, ok := c.tags[p.id]
		delete(c.tags, p.id)
		c.mu.Unlock()
		if ok && c.handler.Accepted != nil {
			c.handler.Accepted(tag)
		}
	case typeConnAck, typeSubAck:
		select {
		case c.answers <- p:
		default:
			return errProtocol // nothing has been asked
		}
	}
	return nil
}

func (c *client) closed(err error) {
	c.target.forget(c)
	close(c.ended)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

func (c *client) publish(prefix, to string, m peer.Message) error {
	id := uint16(0)
	if m.Durable {
		var err error
		if id, err = c.number(m.Tag); err != nil {
			return err
		}
	}
	return c.ws.Write(ws.Binary, func(b []byte) []byte { return appendPublish(b, prefix, to, id, m.Body) })
}

// number returns a packet id for a message.
func (c *client) number(tag uint64) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 0xFFFE // see subscribe
	if len(c.tags) == most {
		return 0, errBusy
	}
	for {
		if c.next++; c.next > most {
			c.next = 1
		}
		if _, taken := c.tags[c.next]; !taken {
			c.tags[c.next] = tag
			return c.next, nil
		}
	}
}

func (c *client) ping() error {
	return c.ws.Write(ws.Binary, func(b []byte) []byte { return append(b, typePingReq, 0) })
}

// Send sends to a user.
func (c *client) Send(to string, m peer.Message) error { return c.publish(userPrefix, to, m) }

// Publish sends to a topic or a group.
func (c *client) Publish(to string, m peer.Message) error {
	if m.Durable {
		return c.publish(groupPrefix, to, m)
	}
	return c.publish(topicPrefix, to, m)
}

// Watch does nothing: the broker does not tell who is online.
func (c *client) Watch([]string) error { return nil }

// Close closes the connection.
func (c *client) Close() error {
	c.target.forget(c)
	return c.ws.Close()
}
