package clienttest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// Conn is a device's connection, from the server's side. Its methods may be
// called from anywhere; writes are queued.
type Conn struct {
	Node envelope.NodeID

	s    *Server
	ws   *websocket.Conn
	live bool // guarded by Server.mu

	mu     sync.Mutex
	queue  [][]byte
	closed bool // nothing is written after what is queued
	code   websocket.StatusCode
	more   *sync.Cond
}

func newConn(s *Server, node envelope.NodeID, ws *websocket.Conn) *Conn {
	c := &Conn{Node: node, s: s, ws: ws}
	c.more = sync.NewCond(&c.mu)
	return c
}

// WriteMessage sends a message.
func (c *Conn) WriteMessage(e envelope.Envelope) { c.write(e.AppendJSON(nil)) }

// WriteFrame sends a frame as it is.
func (c *Conn) WriteFrame(frame string) { c.write([]byte(frame)) }

// WriteControl sends a control frame.
func (c *Conn) WriteControl(f envelope.Control) { c.write(f.AppendJSON(nil)) }

// Queued returns how many frames wait to be written.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// Close closes the connection with a code after what is queued.
func (c *Conn) Close(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.code = true, websocket.StatusCode(code)
	c.more.Signal()
}

// Abort ends the connection without a word.
func (c *Conn) Abort() { _ = c.ws.CloseNow() }

func (c *Conn) write(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.queue = append(c.queue, frame)
		c.more.Signal()
	}
}

func (c *Conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.writeLoop)
	c.readLoop()
	c.mu.Lock()
	c.closed, c.queue = true, nil
	c.more.Signal()
	c.mu.Unlock()
	c.Abort()
	writer.Wait()
}

func (c *Conn) writeLoop() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.more.Wait()
		}
		if len(c.queue) == 0 {
			code := c.code
			c.mu.Unlock()
			if code != 0 {
				_ = c.ws.Close(code, "told to")
			}
			return
		}
		frame := c.queue[0]
		c.mu.Unlock()
		if c.ws.Write(context.Background(), websocket.MessageText, frame) != nil {
			return
		}
		c.mu.Lock()
		if len(c.queue) > 0 {
			c.queue = c.queue[1:]
		}
		c.mu.Unlock()
	}
}

func (c *Conn) readLoop() {
	var p envelope.Parser
	for {
		_, frame, err := c.ws.Read(context.Background())
		if err != nil {
			return
		}
		e, err := p.Parse(frame)
		switch {
		case err == nil:
			e.SrcNode = c.Node
			c.message(e)
		case errors.Is(err, envelope.ErrControl):
			f, err := envelope.ParseControl(frame)
			if err != nil {
				c.WriteControl(envelope.Control{Control: envelope.ControlError, Code: envelope.BadRequest})
				continue
			}
			c.control(f)
		default:
			c.WriteControl(envelope.Control{Control: envelope.ControlNack, ID: e.ID, Code: envelope.CodeOf(err)})
		}
	}
}

func (c *Conn) message(e envelope.Envelope) {
	if c.s.OnMessage != nil && c.s.OnMessage(c, e) {
		return
	}
	seq := c.s.store(e)
	c.Take(e, seq)
}

// Take acknowledges a message under the seq given.
func (c *Conn) Take(e envelope.Envelope, seq uint64) {
	if e.ID == "" {
		return
	}
	f := envelope.Control{Control: envelope.ControlAck, ID: e.ID, Seq: seq}
	if seq > 0 {
		f.Log = e.Dest().String()
	}
	c.WriteControl(f)
}

func (c *Conn) control(f envelope.Control) {
	switch f.Control {
	case envelope.ControlHello:
		if c.s.OnHello != nil {
			c.s.OnHello(c, f)
		}
		c.s.open(c, f)
	case envelope.ControlAck:
		if cursors, err := f.CursorMap(); err == nil {
			c.s.acknowledge(c, cursors)
		}
	default:
		if c.s.OnControl != nil {
			c.s.OnControl(c, f)
		}
	}
}

// claimNode returns the claim "nid" of a JWT, unverified.
func claimNode(key string) (envelope.NodeID, error) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return "", errors.New("not a JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		Nid envelope.NodeID `json:"nid"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", err
	}
	if claims.Nid == "" {
		return "", errors.New("no nid")
	}
	return claims.Nid, nil
}
