package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// pinged returns a connection that echoes, to whose client a ping has been sent, and
// counts the calls of its owner.
func pinged(t *testing.T, l *Loops) (c *Conn, client *net.TCPConn, called *atomic.Int32) {
	t.Helper()
	called = new(atomic.Int32)
	c, client = pair(t, l, nil)
	e := newEcho(c)
	e.long = func() { called.Add(1) }
	e.ready(false)
	ping(t, c, client)
	return c, client, called
}

// watched waits until the loop has the input, of which it has read as much.
func watched(t *testing.T, c *Conn, in int) {
	t.Helper()
	within(t, "the loop's having the input", func() {
		for has := false; !has; runtime.Gosched() {
			c.mu.Lock()
			has = !c.busy && len(c.in) == in
			c.mu.Unlock()
		}
	})
}

// ping pings a client, and reads that.
func ping(t *testing.T, c *Conn, client net.Conn) {
	t.Helper()
	if _, sent := c.Ping(); !sent {
		t.Fatal("no ping was sent")
	}
	ping := make([]byte, 2)
	if _, err := io.ReadFull(client, ping); err != nil || !bytes.Equal(ping, []byte{0x89, 0}) {
		t.Fatalf("%x, %v", ping, err)
	}
}

// say has a client send what is not read yet.
func say(t *testing.T, c *Conn, client net.Conn, what []byte) {
	t.Helper()
	_, _ = client.Write(what)
	within(t, "sending", func() {
		for unread(t, c) < len(what) {
			runtime.Gosched()
		}
	})
}

func unread(t *testing.T, c *Conn) int {
	n, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// echoed reads what a client said.
func echoed(t *testing.T, client net.Conn, what []byte) {
	t.Helper()
	got := make([]byte, len(what))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, what) {
		t.Fatalf("%x came back of %x, %v", got, what, err)
	}
}

// TestPong: the answer to a ping wakes up nobody until somebody asks for it, and then
// it is read and calls nobody.
func TestPong(t *testing.T) {
	l := start(t, Config{})
	c, client, called := pinged(t, l)
	pong := frame(opPong, true, nil)
	for range 3 {
		say(t, c, client, pong)
		for range l.of { // had there been an event of the pong, it would be over by now
			other, its := pair(t, l, nil)
			newEcho(other).ready(false)
			_, _ = its.Write(pong[:1])
			watched(t, other, 1)
		}
		if n := unread(t, c); n != len(pong) {
			t.Fatalf("%d bytes of a pong are left", n)
		}
		before := c.heard.Load()
		if c.Heard() == before {
			t.Fatal("a pong was not heard of")
		}
		if n := unread(t, c); n > 0 {
			t.Fatalf("%d bytes of a pong were not read", n)
		}
		watched(t, c, 0)
		before = c.Heard()
		if c.Heard() != before {
			t.Fatal("a pong is heard of again")
		}
		ping(t, c, client)
	}
	if n := called.Load(); n > 0 {
		t.Errorf("pongs called the owner %d times", n)
	}
}

// TestLatePong: after somebody has asked in vain the answer to a ping is found all the
// same, be it that the loop does not come to its event, and so is what came instead.
func TestLatePong(t *testing.T) {
	pong := frame(opPong, true, nil)
	for _, of := range []struct {
		name   string
		client func(t *testing.T, c *Conn, client *net.TCPConn)
		end    error // of the connection
		left   int
	}{
		{"whole", func(t *testing.T, c *Conn, client *net.TCPConn) { say(t, c, client, pong) }, nil, 0},
		{"in part", func(t *testing.T, c *Conn, client *net.TCPConn) { say(t, c, client, pong[:3]) }, nil, 3},
		{"none, but the end", func(_ *testing.T, c *Conn, client *net.TCPConn) { end(c, client.CloseWrite) }, io.EOF, 0},
		{"none, but a reset", func(_ *testing.T, c *Conn, client *net.TCPConn) {
			_ = client.SetLinger(0)
			end(c, client.Close)
		}, unix.ECONNRESET, 0},
	} {
		t.Run(of.name, func(t *testing.T) {
			c, client := pair(t, start(t, Config{}), nil)
			e := newEcho(c)
			e.ready(false)
			before, _ := c.Ping()
			if c.Heard() != before {
				t.Fatal("something was heard")
			}
			c.loop.mu.Lock()
			of.client(t, c, client)
			heard := c.Heard() != before
			c.loop.mu.Unlock()
			if !heard {
				t.Error("it was not heard of")
			}
			if of.end != nil {
				within(t, "hearing of the end", func() {
					if err := <-e.over; !errors.Is(err, of.end) {
						t.Errorf("it ended with %v", err)
					}
				})
				return
			}
			watched(t, c, of.left)
			_, _ = client.Write(pong[of.left:])
			watched(t, c, 0)
		})
	}
}

// end has a client end the connection, and waits until that has arrived.
func end(c *Conn, how func() error) {
	_ = how()
	for err := error(unix.EINTR); errors.Is(err, unix.EINTR); {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLRDHUP}}, -1)
	}
}

// TestPongWithinFrame: what looks like a pong and is the rest of a frame is not taken
// for one.
func TestPongWithinFrame(t *testing.T) {
	c, client, _ := pinged(t, start(t, Config{}))
	text := append([]byte{0x80 | opText, 0x80 | 8, 0, 0, 0, 0, 'a', 'b'}, frame(opPong, true, nil)...)
	part := len(text) - pongSize
	_, _ = client.Write(text[:part])
	watched(t, c, part)
	c.loop.mu.Lock() // the loop does not come to it
	say(t, c, client, text[part:])
	c.Heard()
	c.loop.mu.Unlock()
	echoed(t, client, text)
}

// TestPongBeingRead: at no time can one find neither a pong nor that it was read.
func TestPongBeingRead(t *testing.T) {
	for name, then := range map[string]func(c *Conn){
		"by the loop": func(c *Conn) {
			c.mu.Lock()
			c.occupy() // as handle does
			c.mu.Unlock()
		},
		"for a goodbye": func(c *Conn) { c.Block() },
	} {
		t.Run(name, func(t *testing.T) {
			c, client := pair(t, start(t, Config{}), nil)
			c.Watch(func(bool) bool { return true }) // who has the input has not come to read it
			c.Await()
			before := c.Heard()
			ping(t, c, client)
			say(t, c, client, frame(opPong, true, nil))
			then(c)
			if c.Heard() == before {
				t.Error("the pong was not heard of")
			}
		})
	}
}

// TestBehindPong: whatever comes behind the answer to a ping, or instead of it, is
// there at once, and so is all that follows.
func TestBehindPong(t *testing.T) {
	pong, small := frame(opPong, true, nil), frame(opPing, true, nil)
	for _, of := range []struct {
		name         string
		before, said []byte
	}{
		{"a message", pong, frame(opText, true, []byte("hello"))},
		{"a message instead", nil, frame(opText, true, []byte("hello"))},
		{"the smallest message instead", nil, frame(opText, true, []byte("!"))},
		{"a frame of the size of a pong", pong, small},
		{"a large message", pong, frame(opText, true, make([]byte, 3*maxWhole))},
		{"a message in fragments", pong, append(frame(opText, false, []byte("he")), frame(0, true, []byte("llo"))...)},
	} {
		t.Run(of.name, func(t *testing.T) {
			c, client, _ := pinged(t, start(t, Config{}))
			if of.before != nil {
				say(t, c, client, of.before)
			}
			_, _ = client.Write(of.said)
			echoed(t, client, of.said)
			_, _ = client.Write(small)
			echoed(t, client, small)
		})
	}
	t.Run("the end", func(t *testing.T) {
		c, client := pair(t, start(t, Config{}), nil)
		e := newEcho(c)
		e.ready(false)
		ping(t, c, client)
		say(t, c, client, pong)
		_ = client.CloseWrite()
		within(t, "hearing of the end", func() {
			if err := <-e.over; !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
		})
	})
}

// TestInsteadOfPong: what comes instead of the answer to a ping, and is not larger, is
// read when somebody asks for the answer, or needs the input.
func TestInsteadOfPong(t *testing.T) {
	goodbye := frame(opClose, true, nil)
	for _, of := range []struct {
		name string
		then func(c *Conn)
	}{
		{"asked for", func(c *Conn) { c.Heard() }},
		{"a goodbye of the server's own", func(c *Conn) { c.Block() }},
	} {
		t.Run(of.name, func(t *testing.T) {
			c, client, _ := pinged(t, start(t, Config{}))
			say(t, c, client, goodbye)
			of.then(c)
			echoed(t, client, goodbye)
		})
	}
}

// TestPingWithinMessage: the rest of a frame, however small, is read when it comes.
func TestPingWithinMessage(t *testing.T) {
	c, client, _ := pinged(t, start(t, Config{}))
	text := frame(opText, true, []byte("hello"))
	_, _ = client.Write(text[:len(text)-1])
	watched(t, c, len(text)-1)
	ping(t, c, client)
	_, _ = client.Write(text[len(text)-1:])
	echoed(t, client, text)
}
