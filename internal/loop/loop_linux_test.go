package loop

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patient bounds what only a bug makes long.
const patient = 30 * time.Second

func start(t *testing.T, cfg Config) *Loops {
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// pair returns a connection of a loop and its client.
func pair(t *testing.T, l *Loops, early []byte) (*Conn, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Take(server.(*net.TCPConn), early)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), client.Close() })
	_ = client.SetDeadline(time.Now().Add(patient))
	return c, client.(*net.TCPConn)
}

// echo sends back what comes in, frames as they are.
type echo struct {
	c    *Conn
	over chan error // what the last Read said
	long func()     // called inline before answering; may be nil
}

func newEcho(c *Conn) *echo {
	e := &echo{c: c, over: make(chan error, 1)}
	c.Watch(e.ready)
	return e
}

func (e *echo) ready(inline bool) bool {
	buf := make([]byte, 100)
	for {
		n, err := e.c.Read(buf)
		switch {
		case errors.Is(err, ErrNothing) && (inline || e.c.Await()):
			return false
		case errors.Is(err, ErrNothing):
			continue
		case err != nil:
			e.over <- err
			return true
		}
		if e.long != nil {
			e.long()
		}
		e.c.Cork()
		_, _ = e.c.Write(buf[:n])
		if left, err := e.c.Uncork(); left > 0 && err == nil && inline {
			inline = false
			e.c.Keep()
			go func() {
				for left, err := 1, error(nil); left > 0 && err == nil; {
					left, err = e.c.Drain()
				}
				e.ready(false)
			}()
			return true
		}
	}
}

// within fails the test when f does not return in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patient):
		t.Fatalf("%s takes too long", what)
	}
}

// Under load a loop gives way to whoever else waits for its processor.
func TestGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var rounds atomic.Int64
	l := start(t, Config{Begin: func() { rounds.Add(1) }, turn: 1})
	c, client := pair(t, l, frame(1, true, []byte("ball")))
	other, err := l.Take(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	newEcho(other).ready(false)
	newEcho(c).ready(false)
	const turns, least, most = 20, 100, 1000 // without giving way it is hundreds or thousands for each turn
	turn := func() { time.Sleep(time.Microsecond) }
	within(t, "the game", func() {
		for rounds.Load() < least {
			turn()
		}
	})
	began := rounds.Load()
	for range turns {
		turn()
	}
	if played := rounds.Load() - began; played > most {
		t.Errorf("%d rounds while another had %d turns", played, turns)
	}
}

// TestEcho has many clients say frames of all sizes in pieces of all sizes.
func TestEcho(t *testing.T) {
	var rounds atomic.Int64
	l := start(t, Config{Begin: func() { rounds.Add(1) }, End: func() { rounds.Add(-1) }})
	var wg sync.WaitGroup
	for i := range 60 {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		var all []byte
		for len(all) < 300_000 {
			size := []int{0, 5, 125, 126, 4000, maxWhole + 1}[r.IntN(6)]
			if r.IntN(3) > 0 {
				all = append(all, frame(1, true, bytes.Repeat([]byte{byte(size)}, size))...)
				continue
			}
			all = append(all, frame(1, false, make([]byte, size))...)
			all = append(all, frame(9, true, []byte("ping"))...)
			all = append(all, frame(0, true, []byte("end"))...)
		}
		early := r.IntN(200)
		c, client := pair(t, l, all[:early])
		e := newEcho(c)
		wg.Go(func() { e.ready(false) })
		wg.Go(func() {
			for out := all[early:]; len(out) > 0; {
				n := min(len(out), 1+r.IntN(1<<r.IntN(17)))
				if _, err := client.Write(out[:n]); err != nil {
					t.Error(err)
				}
				out = out[n:]
			}
			_ = client.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(io.LimitReader(client, int64(len(all))))
			if err != nil || !bytes.Equal(got, all) {
				t.Errorf("client %d: %d bytes of %d came back, %v", i, len(got), len(all), err)
			}
			if err := <-e.over; !errors.Is(err, io.EOF) {
				t.Errorf("client %d: ended with %v", i, err)
			}
		})
	}
	within(t, "an echo", wg.Wait)
	l.Close()
	within(t, "a round", func() {
		for rounds.Load() != 0 {
			time.Sleep(time.Millisecond)
		}
	})
}

// TestInlineOnlyWhole: the loop calls for whole messages only.
func TestInlineOnlyWhole(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	type call struct {
		inline bool
		read   string
	}
	calls := make(chan call, 10)
	entered := make(chan bool, 10)
	c.Watch(func(inline bool) bool {
		entered <- inline
		var got []byte
		for buf := make([]byte, 1000); ; {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if errors.Is(err, ErrNothing) {
				calls <- call{inline, string(got)}
				if !inline && !c.Await() {
					got = nil
					continue
				}
				return false
			} else if err != nil {
				return true
			}
		}
	})
	if !c.Await() {
		t.Fatal("there is input before any")
	}
	hello := frame(1, true, []byte("hello"))
	say := func(b []byte) {
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	say(hello[:4])
	say(append(hello[4:], hello...))
	got := ""
	for len(got) < 2*len(hello) {
		next := <-calls
		if !next.inline || len(next.read)%len(hello) != 0 {
			t.Fatalf("called inline %v for %q", next.inline, next.read)
		}
		got += next.read
	}
	for len(entered) > 0 {
		<-entered
	}
	first, last := frame(1, false, []byte("a")), frame(0, true, []byte("b"))
	say(first)
	if <-entered {
		t.Fatal("called inline in the middle of a message")
	}
	say(last)
	if next := <-calls; next.inline || next.read != string(first)+string(last) {
		t.Fatalf("called inline %v for the fragments %q", next.inline, next.read)
	}
	say(hello) // and the loop has it again
	for {
		next := <-calls
		if next.read == "" { // it had heard of what was read already
			continue
		}
		if next.read != string(hello) {
			t.Fatalf("called for %q", next.read)
		}
		return
	}
}

// TestHandOver: who blocks in the loop holds nobody else up.
func TestHandOver(t *testing.T) {
	l := start(t, Config{})
	held := make(chan struct{})
	var blocked sync.WaitGroup
	for range 2 * len(l.of) { // in each loop, and once more in the one that went on
		c, client := pair(t, l, nil)
		e := newEcho(c)
		blocked.Add(1)
		e.long = sync.OnceFunc(func() {
			blocked.Done()
			<-held
		})
		c.Await()
		_, _ = client.Write(frame(1, true, nil))
	}
	within(t, "blocking all loops", blocked.Wait)
	for range 2 * len(l.of) {
		c, client := pair(t, l, nil)
		newEcho(c)
		c.Await()
		want := frame(1, true, []byte("hello"))
		_, _ = client.Write(want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(client, got); err != nil {
			t.Fatalf("held up by another: %v", err)
		}
	}
	close(held)
}

// TestSlowReader: what the client does not read waits, and nobody waits for it
// who does not want to.
func TestSlowReader(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	want := make([]byte, 8<<20)
	for i := range want {
		want[i] = byte(i >> 8)
	}
	c.Cork()
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	left, err := c.Uncork()
	if left == 0 || err != nil {
		t.Fatalf("the network has taken all, %v", err)
	}
	drained := make(chan error, 1)
	go func() {
		for left > 0 && err == nil {
			left, err = c.Drain()
		}
		drained <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("what arrived is not what was sent: %v", err)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

// TestAnswersUnread: a client that asks for answers and does not read them
// cannot make the server keep them.
func TestAnswersUnread(t *testing.T) {
	l := start(t, Config{})
	c, _ := pair(t, l, nil)
	for range 1 << 20 {
		if _, err := c.Write(make([]byte, 100)); err != nil {
			if !errors.Is(err, errOwed) {
				t.Fatal(err)
			}
			if c.write.Lock(); len(c.out) > 2*maxOwed {
				t.Errorf("%d bytes are kept", len(c.out))
			}
			c.write.Unlock()
			return
		}
	}
	t.Fatal("100 MB were kept")
}

// TestClose: who waits for the connection hears that it is closed.
func TestClose(t *testing.T) {
	for _, who := range []string{"the loop", "a reader within a message", "a writer", "the client"} {
		t.Run(who, func(t *testing.T) {
			l := start(t, Config{})
			c, client := pair(t, l, nil)
			e := newEcho(c)
			c.Await()
			wrote := make(chan error, 1)
			switch who {
			case "a reader within a message":
				if _, err := client.Write(frame(1, false, []byte("a"))); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(client, make([]byte, 7)); err != nil {
					t.Fatal(err)
				}
			case "a writer":
				c.Cork()
				_, _ = c.Write(make([]byte, 8<<20))
				left, err := c.Uncork()
				go func() {
					for left > 0 && err == nil {
						left, err = c.Drain()
					}
					wrote <- err
				}()
			}
			if who == "the client" {
				_ = client.Close()
			} else {
				_ = c.Close()
			}
			within(t, "hearing of the end", func() {
				if err := <-e.over; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
					t.Errorf("it ended with %v", err)
				}
				if who == "a writer" {
					if err := <-wrote; !errors.Is(err, net.ErrClosed) {
						t.Errorf("the writer heard %v", err)
					}
				}
			})
			_ = c.Close()
			if _, err := c.Write(nil); who != "the client" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("writing after the end: %v", err)
			}
		})
	}
}

// TestBlock: then Read waits, whoever had the input.
func TestBlock(t *testing.T) {
	l := start(t, Config{})
	c, client := pair(t, l, nil)
	inlines := make(chan bool, 10)
	c.Watch(func(inline bool) bool {
		inlines <- inline
		buf := make([]byte, 100)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return true
			}
			c.Cork()
			_, _ = c.Write(buf[:n])
			_, _ = c.Uncork()
		}
	})
	c.Await()
	c.Block()
	if <-inlines {
		t.Fatal("the loop waits itself")
	}
	for range 3 {
		want := frame(1, true, []byte("hello"))
		_, _ = client.Write(want)
		if _, err := io.ReadFull(client, make([]byte, len(want))); err != nil {
			t.Fatal(err)
		}
	}
	if c.Await() {
		t.Error("given back to the loop")
	}
}

func BenchmarkEcho(b *testing.B) {
	l, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	c, err := l.Take(server.(*net.TCPConn), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 4096)
	c.Watch(func(bool) bool {
		for {
			n, err := c.Read(buf)
			if err != nil {
				return !errors.Is(err, ErrNothing)
			}
			c.Cork()
			_, _ = c.Write(buf[:n])
			_, _ = c.Uncork()
		}
	})
	c.Await()
	hello := frame(1, true, make([]byte, 200))
	got := make([]byte, len(hello))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(hello); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, got); err != nil {
			b.Fatal(err)
		}
	}
}
