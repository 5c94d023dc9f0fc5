package loop

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a network connection of a loop. It implements [net.Conn], without
// deadlines. Read is called by one goroutine at a time, all else by any.
//
// Somebody owns its input at any time: at first who has called [Loops.Take].
// [Conn.Await] gives it to the loop, which calls the function of [Conn.Watch]
// when whole messages are there.
type Conn struct {
	// static after construction
	loop       *loop
	fd         int
	generation int32
	ready      func(inline bool) (kept bool) // set by Watch

	heard atomic.Uint32 // how often something has come in

	life   sync.RWMutex // held for reading around each system call, so that the descriptor is not another's
	closed bool         // guarded by life

	mu       sync.Mutex
	busy     bool          // guarded by mu; somebody else than the loop owns the input
	again    bool          // guarded by mu; more came in meanwhile
	blocking bool          // guarded by mu; Block was called
	more     chan struct{} // guarded by mu; a token when Read is to look again; nil: it never had to wait

	// Only who owns the input.
	in     []byte // what has come in and was not read
	ahead  int    // so much of it may be read: it is whole frames, or is not waited for
	rest   uint64 // so much of a large frame has yet to be counted into ahead
	frames frames
	inline bool  // the loop handles it: nothing may wait
	end    error // what comes after in; nil: more
	still  bool  // a pong alone makes no event; guarded by mu while not busy, see makeStill

	handling sync.Mutex // held by the loop while it has the input of an event

	write  sync.Mutex
	room   *sync.Cond // guarded by write; of it: out is shorter, or failed set; nil: nobody has waited
	out    []byte     // guarded by write; not yet taken by the network
	lent   *[]byte    // guarded by write; where out's memory goes back to
	within uint64     // guarded by write; so much is missing of the frame at the end of out
	owed   int        // guarded by write; what control frames have added since out was empty
	corked bool       // guarded by write; more comes before it is to be sent
	parted bool       // guarded by write; the library has said goodbye
	failed error      // guarded by write
}

func newConn(at *loop, fd int, early []byte) *Conn {
	return &Conn{loop: at, fd: fd, busy: true, in: append([]byte(nil), early...)}
}

// Watch says who is called when there is input: by the loop, inline, to read
// until [ErrNothing] and to return false, or to call [Conn.Keep], leave the input
// to a goroutine and return true; or in a goroutine, not inline, to read until
// [ErrNothing] and then call Await. Watch is called once, before Await.
func (c *Conn) Watch(ready func(inline bool) (kept bool)) { c.ready = ready }

// Await gives the input to the loop, after Read has said [ErrNothing]. It reports
// false when there is something by now, and the caller has to go on.
func (c *Conn) Await() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again || c.blocking || c.isClosed() {
		c.again = false
		return false
	}
	c.busy = false
	return true
}

// Keep makes the input that of a goroutine, which may wait within a message.
func (c *Conn) Keep() {
	c.inline = false
	c.in = append([]byte(nil), c.in...) // it was in the loop's memory
}

// Block has Read wait for what has not come yet instead of saying [ErrNothing],
// for good. If the loop has the input, a goroutine gets it, before Block returns:
// nobody calls it while the loop has him handle input.
func (c *Conn) Block() {
	c.mu.Lock()
	c.blocking = true
	idle := !c.busy && c.ready != nil
	c.occupy()
	c.signal()
	c.mu.Unlock()
	if idle {
		go c.ready(false)
	}
	c.handling.Lock()
	defer c.handling.Unlock()
}

// handle does what an event calls for; by the leader of the loop.
func (c *Conn) handle(what uint32, memory *input) {
	if what&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if what&^unix.EPOLLOUT == 0 {
		return
	}
	c.mu.Lock()
	if c.busy {
		c.again = true
		c.signal()
		c.mu.Unlock()
		return
	}
	c.occupy()
	c.handling.Lock()
	defer c.handling.Unlock()
	c.mu.Unlock()
	over := what&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for c.round(memory, over) && !c.Await() {
		over = true // or not: what has come in meanwhile may be the end
	}
}

// round reads what has come in and has whole messages handled; over says that
// behind it may be the end, of which there is no other event. It reports whether
// the loop still has the input.
func (c *Conn) round(memory *input, over bool) bool {
	buf := memory.buf[:]
	n := copy(buf, c.in)
	c.in = nil
	for more := true; more; {
		m, err := c.recv(buf[n:])
		more = err == nil && (over || m == len(buf)-n) // else the kernel has no more
		c.in = skipPongs(buf[:n+m])
		var large bool
		if c.ahead, large = c.frames.whole(c.in); large || c.frames.within || err != nil && !errors.Is(err, unix.EAGAIN) || c.blocks() {
			if !errors.Is(err, unix.EAGAIN) {
				c.end = err
			}
			c.in = append([]byte(nil), c.in...)
			go c.ready(false)
			return false
		}
		if c.ahead > 0 {
			c.loop.attend()
			c.inline = true
			if c.ready(true) {
				return false
			}
			c.inline = false
		}
		n = copy(buf, c.in)
		if more { // it may fill the memory again and again, be it with pongs
			c.loop.attend()
		}
	}
	c.in = nil
	if n > 0 {
		c.in = append([]byte(nil), buf[:n]...)
	}
	return true
}

// Empty reports whether Read would say [ErrNothing]. Where that may wait for the
// rest of a message, so does it.
func (c *Conn) Empty() bool {
	return c.ahead == 0 && (c.inline || errors.Is(c.advance(), ErrNothing))
}

// Read reads of what has come in, in messages that are there as a whole if it
// can. It says [ErrNothing] between messages only, when there is no other.
func (c *Conn) Read(p []byte) (int, error) {
	for c.ahead == 0 {
		if c.inline {
			return 0, ErrNothing
		}
		if err := c.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in[:c.ahead])
	c.in, c.ahead = c.in[n:], c.ahead-n
	return n, nil
}

// Text reads a message that has come whole as one frame of text, without the
// library: that is what nearly all of them are, and a connection that has said
// nothing else needs none of the library's memory. The message is valid until the
// next call, or until the input is given back or kept. Instead of Read it may be called
// between messages; it says [ErrNothing] as Read does, and [ErrOther] when
// something else comes next, of which it has read nothing.
func (c *Conn) Text() ([]byte, error) {
	for {
		if c.ahead == 0 {
			if c.inline {
				return nil, ErrNothing
			}
			if err := c.advance(); err != nil {
				return nil, err
			}
		}
		behind := skipPongs(c.in[:c.ahead])
		c.in, c.ahead = c.in[c.ahead-len(behind):], len(behind)
		if len(behind) == 0 {
			continue
		}
		payload, key, size, ok := plainText(behind)
		if !ok {
			return nil, ErrOther
		}
		unmask(payload, key)
		c.in, c.ahead = c.in[size:], c.ahead-size
		return payload, nil
	}
}

// advance finds something that may be read, and waits for it within a message.
func (c *Conn) advance() error {
	for {
		if c.rest > 0 && len(c.in) > 0 {
			c.ahead = int(min(c.rest, uint64(len(c.in))))
			c.rest -= uint64(c.ahead)
			return nil
		}
		if c.rest == 0 {
			n, large := c.frames.whole(c.in)
			if c.ahead = n; n > 0 {
				return nil
			}
			if large {
				c.rest = c.frames.begin(c.in)
				continue
			}
		}
		if c.end != nil {
			if c.ahead = len(c.in); c.ahead > 0 {
				return nil
			}
			return c.end
		}
		if err := c.fetch(); err != nil {
			return err
		}
	}
}

// readSize is what a goroutine reads at once, in bytes.
const readSize = 16 << 10

// chunks are memory to read into: mostly nothing is there, and little else.
var chunks = sync.Pool{New: func() any { return new([readSize]byte) }}

// fetch reads more, and waits for it if it has to.
func (c *Conn) fetch() error {
	chunk := chunks.Get().(*[readSize]byte)
	n, err := c.recv(chunk[:])
	c.in = append(c.in, chunk[:n]...)
	chunks.Put(chunk)
	switch {
	case err == nil:
	case !errors.Is(err, unix.EAGAIN):
		c.end = err
	case c.rest == 0 && !c.frames.within && !c.blocks():
		c.in = append([]byte(nil), c.in...) // no more memory than it needs, while it waits
		return ErrNothing
	default:
		c.wait()
	}
	return nil
}

// wait returns when there may be more to be read. The first time it returns at
// once: of what came before there was a channel nobody was told.
func (c *Conn) wait() {
	c.mu.Lock()
	more := c.more
	if more == nil {
		c.more = make(chan struct{}, 1)
	}
	c.mu.Unlock()
	if more != nil {
		<-more
	}
}

func (c *Conn) blocks() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocking
}

// recv reads from the network without waiting: [unix.EAGAIN] when nothing is
// there, [io.EOF] when nothing comes any more.
func (c *Conn) recv(p []byte) (int, error) {
	c.life.RLock()
	defer c.life.RUnlock()
	for {
		if c.closed {
			return 0, net.ErrClosed
		}
		n, err := unix.Read(c.fd, p)
		if c.still {
			c.unstill()
		}
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil:
			c.heard.Add(1)
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, err
		default:
			return 0, c.failure("read", err)
		}
	}
}

// Close ends the connection at once. What the network does not take now is lost.
func (c *Conn) Close() error {
	_, _ = c.Uncork() // the library says goodbye and closes, perhaps while others have corked
	c.life.Lock()
	if c.closed {
		c.life.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.loop.remove(c)
	err := unix.Close(c.fd)
	c.life.Unlock()
	c.write.Lock()
	c.fail(net.ErrClosed)
	c.write.Unlock()

	c.mu.Lock()
	idle := !c.busy && c.ready != nil
	c.occupy()
	c.signal()
	c.mu.Unlock()
	if idle {
		go c.ready(false) // to read that it is over
	}
	return err
}

func (c *Conn) isClosed() bool {
	c.life.RLock()
	defer c.life.RUnlock()
	return c.closed
}

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.address(unix.Getsockname) }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.address(unix.Getpeername) }

// address asks the kernel, which knows the addresses anyway.
func (c *Conn) address(name func(fd int) (unix.Sockaddr, error)) net.Addr {
	c.life.RLock()
	defer c.life.RUnlock()
	if c.closed {
		return new(net.TCPAddr)
	}
	at, _ := name(c.fd) // a connection that was reset has none
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: at.Addr[:], Port: at.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: at.Addr[:], Port: at.Port}
	}
	return new(net.TCPAddr)
}

// failure is the error of a system call.
func (c *Conn) failure(call string, err error) error {
	return &net.OpError{Op: call, Net: "tcp", Err: os.NewSyscallError(call, err)}
}

// SetDeadline implements [net.Conn]: there are none.
func (c *Conn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements [net.Conn]: there are none.
func (c *Conn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements [net.Conn]: there are none.
func (c *Conn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// signal has Read look again, if it waits; under mu.
func (c *Conn) signal() {
	if c.more == nil {
		return
	}
	select {
	case c.more <- struct{}{}:
	default:
	}
}
