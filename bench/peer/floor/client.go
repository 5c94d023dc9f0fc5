package floor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/peer/ws"
)

// client is one connection to a relay; the command relay says what is spoken.
type client struct {
	// Static.
	write   func(build func(b []byte) []byte) error
	close   func() error
	handler peer.Handler

	once   sync.Once
	opened chan struct{} // closed when the relay knows the user, or the connection ends
	err    error         // why it ended; before opened is closed
}

var errMessage = errors.New("floor: not a relay")

// Connect opens a connection for a user.
func (r *Relay) Connect(ctx context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	c := &client{handler: h, opened: make(chan struct{})}
	dial := c.dialWebSocket
	if r.kind == "tcp" {
		dial = c.dialTCP
	}
	if err := dial(ctx, r); err != nil {
		return nil, err
	}
	err := c.write(func(b []byte) []byte {
		b = append(append(b, 'H'), u.Name...)
		for _, topic := range u.Topics {
			b = append(append(b, ' '), topic...)
		}
		return b
	})
	if err == nil {
		select {
		case <-c.opened:
			err = c.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *client) dialWebSocket(ctx context.Context, r *Relay) error {
	conn, err := ws.Dial(ctx, ws.Options{
		Loop: r.loop, Dialer: &r.dialer, Address: r.Address, Path: "/",
		Message: func(_ *ws.Conn, _ byte, payload []byte) error { return c.message(payload) },
		Closed:  c.closed,
	})
	if err != nil {
		return err
	}
	c.write = func(build func([]byte) []byte) error { return conn.Write(ws.Binary, build) }
	c.close = conn.Close
	return nil
}

// header is the length in front of a message on TCP.
const header = 4

func (c *client) dialTCP(ctx context.Context, r *Relay) error {
	nc, err := r.dialer.Dial(ctx, r.Address)
	if err != nil {
		return err
	}
	conn, err := r.loop.Add(nc, nil, func(*wire.Conn) wire.Reader { return (*tcpReader)(c) })
	if err != nil {
		return err
	}
	c.write = func(build func([]byte) []byte) error {
		return conn.Write(func(out []byte) []byte {
			start := len(out)
			out = build(append(out, make([]byte, header)...))
			binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-header))
			return out
		})
	}
	c.close = conn.Close
	return nil
}

// tcpReader is client as a wire.Reader.
type tcpReader client

// Read handles all whole messages.
func (r *tcpReader) Read(in []byte) (used int, err error) {
	for {
		rest := in[used:]
		if len(rest) < header {
			return used, nil
		}
		size := header + int(binary.BigEndian.Uint32(rest))
		if len(rest) < size {
			return used, nil
		}
		if err := (*client)(r).message(rest[header:size]); err != nil {
			return used, err
		}
		used += size
	}
}

// Closed tells the user.
func (r *tcpReader) Closed(err error) { (*client)(r).closed(err) }

func (c *client) message(m []byte) error {
	if len(m) == 0 {
		return errMessage
	}
	switch rest := m[1:]; m[0] {
	case 'M':
		if c.handler.Message != nil {
			c.handler.Message(rest)
		}
	case 'A':
		tag, err := strconv.ParseUint(string(rest), 10, 64)
		if err != nil {
			return err
		}
		if c.handler.Accepted != nil {
			c.handler.Accepted(tag)
		}
	case 'K':
		c.open(nil)
	default:
		return fmt.Errorf("%w: %q", errMessage, m)
	}
	return nil
}

func (c *client) open(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.opened)
	})
}

func (c *client) closed(err error) {
	c.open(err)
	if c.handler.Closed != nil {
		c.handler.Closed(err)
	}
}

// Send sends to a user.
func (c *client) Send(to string, m peer.Message) error {
	return c.write(func(b []byte) []byte {
		if m.Durable {
			b = strconv.AppendUint(append(b, 'D'), m.Tag, 10)
			b = append(b, ' ')
		} else {
			b = append(b, 'U')
		}
		return append(append(append(b, to...), ' '), m.Body...)
	})
}

// Publish sends to all who follow a topic.
func (c *client) Publish(to string, m peer.Message) error {
	if m.Durable {
		return peer.ErrCannot
	}
	return c.write(func(b []byte) []byte {
		return append(append(append(append(b, 'T'), to...), ' '), m.Body...)
	})
}

// Watch does nothing: relays do not tell who is online.
func (c *client) Watch([]string) error { return nil }

// Close closes the connection.
func (c *client) Close() error { return c.close() }
