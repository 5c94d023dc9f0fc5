package loop

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestLastWords: that the client has ended is heard even when it comes at once
// with what it said last, and there is one event for both.
func TestLastWords(t *testing.T) {
	l := start(t, Config{})
	for range 200 {
		c, client := pair(t, l, nil)
		e := newEcho(c)
		c.Await()
		_, _ = client.Write(frame(1, true, []byte("bye")))
		_ = client.CloseWrite()
		within(t, "hearing of the end", func() {
			if err := <-e.over; !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
		})
		_, _ = c.Close(), client.Close()
	}
}

// TestCloseWhileCorked: what was said before the end is sent, also by one who
// closes while another has not come to send it.
func TestCloseWhileCorked(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	c.Cork()
	_, _ = c.Write([]byte("goodbye"))
	_ = c.Close()
	if got, err := io.ReadAll(client); string(got) != "goodbye" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	if _, err := c.Uncork(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestAnswersWhileSlow: a client that is slow to read what it has not asked for
// may ask all the same.
func TestAnswersWhileSlow(t *testing.T) {
	l := start(t, Config{})
	c, _ := pair(t, l, nil)
	c.Cork()
	_, _ = c.Write(make([]byte, 8<<20))
	if left, err := c.Uncork(); left < maxOwed || err != nil {
		t.Fatalf("%d bytes are left, %v", left, err)
	}
	if _, err := c.Write(make([]byte, 100)); err != nil {
		t.Error(err)
	}
}

// TestTakeAfterClose: loops that have ended leave a connection as it is.
func TestTakeAfterClose(t *testing.T) {
	l := start(t, Config{})
	l.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Take(server.(*net.TCPConn), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it is taken: %v", err)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = server.Close()
}

// TestDrainHearsOfTheEnd: who waits for room hears that there will be none, also
// when not one byte more was sent before.
func TestDrainHearsOfTheEnd(t *testing.T) {
	for _, end := range []struct {
		name string
		by   func(c *Conn, client *net.TCPConn)
	}{
		{"the client is gone", func(_ *Conn, client *net.TCPConn) {
			_ = client.SetLinger(0) // it leaves no word but a reset
			_ = client.Close()
		}},
		{"it does not read what it is answered", func(c *Conn, _ *net.TCPConn) {
			for err := error(nil); err == nil; {
				_, err = c.Write(appendHeader(nil, opPong, 0))
			}
		}},
		{"the server closes", func(c *Conn, _ *net.TCPConn) { _ = c.Close() }},
	} {
		t.Run(end.name, func(t *testing.T) {
			l := start(t, Config{})
			c, client := pair(t, l, nil)
			c.Watch(func(bool) bool { return true }) // nobody reads, and so finds it out
			c.Message(make([]byte, 16<<20))
			if left, err := c.Uncork(); left == 0 || err != nil {
				t.Fatalf("%d bytes are left, %v", left, err)
			}
			over := make(chan error, 1)
			go func() {
				for {
					if left, err := c.Drain(); left == 0 || err != nil {
						over <- err
						return
					}
				}
			}()
			within(t, "waiting", func() {
				for waits := false; !waits; time.Sleep(time.Millisecond) {
					c.write.Lock()
					waits = c.room != nil
					c.write.Unlock()
				}
			})
			end.by(c, client)
			within(t, "hearing of the end", func() {
				if err := <-over; err == nil {
					t.Error("all was sent, to nobody")
				}
			})
		})
	}
}
