package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a Reader of lines.
type lines struct {
	got    chan string
	closed chan error
}

func newLines() *lines { return &lines{make(chan string, 1000), make(chan error, 1)} }

func (l *lines) Read(in []byte) (used int, err error) {
	for {
		i := bytes.IndexByte(in[used:], '\n')
		if i < 0 {
			return used, nil
		}
		line := string(in[used : used+i])
		if line == "bad" {
			return used, errors.New("a bad line")
		}
		l.got <- line
		used += i + 1
	}
}

func (l *lines) Closed(err error) { l.closed <- err }

// rig is a loop and a listener.
type rig struct {
	loop *Loop
	l    net.Listener
	dial Dialer
}

func newRig(t *testing.T) *rig {
	loop, err := NewLoop(2)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(loop.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
	return &rig{loop: loop, l: l}
}

// pair returns both ends of a connection; the server's is closed with the test.
func (r *rig) pair(t *testing.T, early string, reader Reader) (*Conn, net.Conn) {
	t.Helper()
	nc, err := r.dial.Dial(t.Context(), r.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := r.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	c, err := r.loop.Add(nc, []byte(early), func(*Conn) Reader { return reader })
	if err != nil {
		t.Fatal(err)
	}
	return c, server
}

// within fails when nothing comes.
func within[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing comes")
	}
	return v
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func say(s string) func([]byte) []byte { return func(b []byte) []byte { return append(b, s...) } }

func TestBothWays(t *testing.T) {
	r := newRig(t)
	in := newLines()
	c, server := r.pair(t, "early\nha", in)
	write(t, server, "lf")
	write(t, server, "\nsecond\n")
	for _, want := range []string{"early", "half", "second"} {
		if got := within(t, in.got); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := c.Write(say("answer")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("answer"))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
}

// More than the socket takes is queued, and comes in its order.
func TestSlowServer(t *testing.T) {
	r := newRig(t)
	c, server := r.pair(t, "", newLines())
	const n, size = 300, 100_000
	for k := range n {
		if err := c.Write(say(strings.Repeat(string('a'+rune(k%26)), size))); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, size)
	for k := range n {
		if _, err := io.ReadFull(server, got); err != nil {
			t.Fatal(err)
		}
		if want := 'a' + byte(k%26); got[0] != want || got[size-1] != want {
			t.Fatalf("part %d begins with %q", k, got[:3])
		}
	}
}

func TestFull(t *testing.T) {
	r := newRig(t)
	c, _ := r.pair(t, "", newLines())
	part := say(strings.Repeat("x", 8<<20))
	var err error
	for range 2 + (MaxQueued+64<<20)/(8<<20) {
		if err = c.Write(part); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

func TestEnds(t *testing.T) {
	r := newRig(t)
	t.Run("by the server", func(t *testing.T) {
		in := newLines()
		c, server := r.pair(t, "", in)
		write(t, server, "last\n")
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if got := within(t, in.got); got != "last" {
			t.Error(got)
		}
		if err := within(t, in.closed); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := c.Write(say("x")); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("by the reader", func(t *testing.T) {
		in := newLines()
		_, server := r.pair(t, "", in)
		write(t, server, "bad\n")
		if err := within(t, in.closed); err == nil || errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is open")
		}
	})
	t.Run("by its user", func(t *testing.T) {
		in := newLines()
		c, server := r.pair(t, "", in)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error(n, err)
		}
		if err := c.Write(say("x")); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if len(in.closed) > 0 {
			t.Error("told of what it did itself")
		}
	})
	t.Run("by the loop", func(t *testing.T) {
		loop, err := NewLoop(1)
		if err != nil {
			t.Fatal(err)
		}
		in := newLines()
		other := &rig{loop: loop, l: r.l}
		_, _ = other.pair(t, "", in)
		if err := loop.Close(); err != nil {
			t.Fatal(err)
		}
		if err := within(t, in.closed); err == nil {
			t.Error("closed without a reason")
		}
		nc, err := r.dial.Dial(t.Context(), r.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := loop.Add(nc, nil, func(*Conn) Reader { return in }); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// Descriptors are used again at once by other connections; nobody gets bytes of
// somebody else.
func TestManyComeAndGo(t *testing.T) {
	r := newRig(t)
	go func() {
		for {
			nc, err := r.l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(nc, nc); _ = nc.Close() }()
		}
	}()
	var all sync.WaitGroup
	for k := range 8 {
		all.Go(func() {
			for range 100 {
				nc, err := r.dial.Dial(t.Context(), r.l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				in := newLines()
				c, err := r.loop.Add(nc, nil, func(*Conn) Reader { return in })
				if err != nil {
					t.Error(err)
					return
				}
				want := strings.Repeat(string('a'+rune(k)), 50)
				if err := c.Write(say(want + "\n")); err != nil {
					t.Error(err)
				}
				select {
				case got := <-in.got:
					if got != want {
						t.Errorf("%q, want %q", got, want)
					}
				case <-time.After(10 * time.Second):
					t.Error("no echo")
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
}
