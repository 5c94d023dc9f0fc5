package loop

import (
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// errOwed is for a client that makes the library answer and reads no answers.
var errOwed = errors.New("loop: the client does not read the answers to its control frames")

// keepOutput is the largest output buffer that is used again, in bytes.
const keepOutput = 64 << 10

var outputs = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Cork holds back what is written until Uncork.
func (c *Conn) Cork() {
	c.write.Lock()
	defer c.write.Unlock()
	c.corked = true
}

// Message takes a text message (RFC 6455, section 5.6) to be sent by Uncork. It
// does without the library, to which each costs as much as all else that is done
// for it here. It reports false, and has taken nothing, when the library is
// within a frame, or nothing may follow: then the library is to be given it.
func (c *Conn) Message(text []byte) bool {
	c.write.Lock()
	defer c.write.Unlock()
	if c.within > 0 || c.parted || c.failed != nil {
		return false
	}
	c.corked = true
	var head [10]byte
	c.append(appendHeader(head[:0], opText, len(text)))
	c.append(text)
	return true
}

// Uncork sends what was written as far as the network takes it now, and returns
// how many bytes are left. They are sent when there is room; see [Conn.Drain].
func (c *Conn) Uncork() (left int, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	c.corked = false
	c.flush()
	return len(c.out), c.failed
}

// Drain waits until some of what was written is sent, and returns how many bytes
// are left.
func (c *Conn) Drain() (left int, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	if c.room == nil {
		c.room = sync.NewCond(&c.write)
	}
	for before := len(c.out); len(c.out) > 0 && len(c.out) >= before && c.failed == nil; {
		c.room.Wait()
	}
	return len(c.out), c.failed
}

// Write never waits. Between Cork and Uncork it takes any number of bytes; at
// other times the library writes control frames, of which a client that does not
// read cannot have many.
func (c *Conn) Write(p []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	if c.failed != nil {
		return 0, c.failed
	}
	c.append(p)
	for next := uint64(len(p)); next > 0; { // the library writes the header of a frame in one piece
		if c.within == 0 {
			var op byte
			c.within, _, op, _ = header(p[uint64(len(p))-next:])
			c.parted = c.parted || op == opClose
		}
		n := min(c.within, next)
		if n == 0 {
			break
		}
		c.within, next = c.within-n, next-n
	}
	if !c.corked {
		c.owed += len(p)
		if c.flush(); c.owed > maxOwed && c.failed == nil {
			c.fail(errOwed)
		}
	}
	return len(p), c.failed
}

// append takes what is to be sent; under write.
func (c *Conn) append(p []byte) {
	if c.lent == nil {
		c.lent = outputs.Get().(*[]byte)
		c.out = (*c.lent)[:0]
	}
	c.out = append(c.out, p...)
}

// writable sends what is left when there is room again.
func (c *Conn) writable() {
	c.write.Lock()
	defer c.write.Unlock()
	if len(c.out) > 0 && !c.corked {
		c.flush()
	}
}

// flush sends what the network takes; under write.
func (c *Conn) flush() {
	sent := 0
	for sent < len(c.out) {
		n, err := c.send(c.out[sent:])
		if sent += n; errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			c.fail(err)
			return
		}
	}
	if sent > 0 && c.room != nil {
		c.room.Broadcast()
	}
	switch { // much may wait: it is not moved for each answer to a ping that finds no room
	case sent == len(c.out):
		c.release()
	case sent > 0:
		c.out = append(c.out[:0], c.out[sent:]...)
	}
}

// release gives the output buffer back; under write.
func (c *Conn) release() {
	if c.lent != nil && cap(c.out) <= keepOutput {
		*c.lent = c.out[:0]
		outputs.Put(c.lent)
	}
	c.out, c.lent, c.owed = nil, nil, 0
}

// fail ends the writing: nothing is taken any more. Who waits in Drain hears of it
// here, for there may be nothing sent that would tell him; under write.
func (c *Conn) fail(err error) {
	if c.failed == nil {
		c.failed = err
	}
	c.release()
	if c.room != nil {
		c.room.Broadcast()
	}
}

// send writes to the network without waiting.
func (c *Conn) send(p []byte) (int, error) {
	c.life.RLock()
	defer c.life.RUnlock()
	for {
		if c.closed {
			return 0, net.ErrClosed
		}
		n, err := unix.Write(c.fd, p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, err
		default:
			return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", err)}
		}
	}
}
