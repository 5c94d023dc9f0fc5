// Package ws is a WebSocket client (RFC 6455) for loads: no buffers of its own,
// no goroutine, no compression.
package ws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// Opcodes of RFC 6455, section 5.2.
const (
	Text   = 0x1
	Binary = 0x2

	opContinue = 0x0
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xA
	final      = 0x80
)

// Options say what to connect to.
type Options struct {
	Loop   *wire.Loop
	Dialer *wire.Dialer

	Address  string   // HOST:PORT
	Path     string   // with the query
	Protocol string   // values of Sec-WebSocket-Protocol; empty: none
	Header   []string // further lines, as "Name: value"

	// Message is called with each message, one at a time; the payload is valid
	// until it returns. After an error the connection is closed.
	Message func(c *Conn, op byte, payload []byte) error
	// Closed is called once, as the last one, unless Close was called.
	Closed func(err error)
}

// Conn is an open connection. Its methods are safe for concurrent use.
type Conn struct {
	// Static.
	wire    *wire.Conn
	message func(c *Conn, op byte, payload []byte) error
	closed  func(error)
	key     [4]byte // of the masks: any will do, there is no proxy to be fooled

	// Only the reader.
	partial []byte // of a message in fragments
	op      byte   // of it
}

// Dial connects and makes the opening handshake (section 4.1).
func Dial(ctx context.Context, o Options) (*Conn, error) {
	nc, err := o.Dialer.Dial(ctx, o.Address)
	if err != nil {
		return nil, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	key := base64.StdEncoding.EncodeToString(random[:])

	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	early, err := shake(nc, request(o, key), key)
	if !stop() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ws: %s%s: %w", o.Address, pathOnly(o.Path), err), nc.Close())
	}
	c := &Conn{message: o.Message, closed: o.Closed, key: [4]byte(random[:4])}
	_, err = o.Loop.Add(nc, early, func(w *wire.Conn) wire.Reader {
		c.wire = w
		return (*reader)(c)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// pathOnly leaves out the query, which may hold a credential.
func pathOnly(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

func request(o Options, key string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", o.Path, o.Address, key)
	if o.Protocol != "" {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", o.Protocol)
	}
	for _, line := range o.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// shake returns what the server sent after its answer.
func shake(nc interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}, request []byte, key string,
) (early []byte, err error) {
	if _, err := nc.Write(request); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(nc, 1<<10)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // section 1.3
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	case resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return nil, errors.New("the server's answer is not for this request")
	}
	early, _ = r.Peek(r.Buffered())
	return early, nil
}

// Write sends a message whose payload build appends. It never waits.
func (c *Conn) Write(op byte, build func(b []byte) []byte) error {
	return c.wire.Write(func(out []byte) []byte { return appendFrame(out, op, c.key, build) })
}

// Close closes the connection without a closing handshake.
func (c *Conn) Close() error { return c.wire.Close() }
