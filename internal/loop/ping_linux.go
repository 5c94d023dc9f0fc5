package loop

import (
	"errors"

	"golang.org/x/sys/unix"
)

// An answer to a ping does not wake up anybody, which would cost several times
// what sending the ping and reading the answer do. From the ping on, input counts for
// the network's events only when there is more of it than a pong: the low-water mark
// of the socket (SO_RCVLOWAT, socket(7)). Whatever comes behind the pong is there at
// once, therefore. A pong that nothing follows is read when somebody asks whether it has
// come. To lower the mark again makes the event of what is left (since Linux 4.18).

// Ping sends a ping (RFC 6455, section 5.5.2) without waiting, and without the
// library, and returns what was heard before. Who wants to know of an answer compares
// that with [Conn.Heard], and does so soon in any case: until then a frame of pongSize
// bytes that has crossed the ping, a close without a status for one, may be left
// unread. Ping reports false when a frame is being written at the moment, or nothing
// may follow.
func (c *Conn) Ping() (heard uint32, sent bool) {
	if c.blocks() { // a goodbye was said, or is about to be
		return 0, false
	}
	c.write.Lock()
	defer c.write.Unlock()
	if c.within > 0 || len(c.out) > 0 || c.failed != nil {
		return 0, false
	}
	heard = c.heard.Load()
	c.makeStill()
	var head [10]byte
	c.append(appendHeader(head[:0], opPing, 0))
	c.flush()
	return heard, c.failed == nil
}

// Heard grows when something has come in, and looks whether it has. It may also grow
// when the server itself ends the connection.
func (c *Conn) Heard() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy { // else it is read, or has been: see occupy
		c.readPong()
	}
	return c.heard.Load()
}

// readPong reads what has made no event, or one that the loop has not come to, and has
// input make one again; under mu, while the loop waits for input. What is no pong is
// for a goroutine.
func (c *Conn) readPong() {
	var frame [pongSize]byte
	n, err := c.recv(frame[:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	in := frame[:n]
	if len(c.in) > 0 { // it may be the rest of a frame
		in = append(c.in, in...)
	}
	c.in = nil
	if in = skipPongs(in); len(in) > 0 || err != nil {
		c.in, c.end = append([]byte(nil), in...), err
		c.occupy()
		go c.ready(false)
	}
}

// makeStill has input make an event only when there is more than a pong; under write.
// Where somebody reads or a frame has come in part, all goes on as before.
func (c *Conn) makeStill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy || c.still || len(c.in) > 0 {
		return
	}
	c.life.RLock()
	defer c.life.RUnlock()
	c.still = !c.closed && unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, pongSize+1) == nil
}

// unstill has all input make an event again, and what is there make one now; by who
// owns the input, or under mu; within life.
func (c *Conn) unstill() {
	c.still = false
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
}

// occupy makes somebody else than the loop the owner of the input, or the loop for the
// time of an event; under mu. Something was heard then: who asks must not find neither
// what lay unread nor that it was read.
func (c *Conn) occupy() {
	if !c.busy {
		c.heard.Add(1)
	}
	c.busy = true
}
