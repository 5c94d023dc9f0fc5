package loop

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAttend: who keeps the loop busy is watched over, also when that calls no
// owner: a client may send pongs faster than they are read.
func TestAttend(t *testing.T) {
	pong := frame(opPong, true, nil)
	for _, of := range []struct {
		name    string
		input   []byte
		watched bool
	}{
		{"a pong", pong, false},
		{"more pongs than are read at once", bytes.Repeat(pong, (inputSize+maxWhole)/len(pong)+2), true},
	} {
		t.Run(of.name, func(t *testing.T) {
			l, err := newLoop(Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pipe[0])
			defer unix.Close(pipe[1])
			if _, err := unix.FcntlInt(uintptr(pipe[1]), unix.F_SETPIPE_SZ, 1<<18); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Write(pipe[1], of.input); n < len(of.input) {
				t.Fatalf("%d bytes of %d, %v", n, len(of.input), err)
			}
			c := newConn(l, pipe[0], nil)
			c.Watch(func(bool) bool { t.Error("the owner was called"); return true })
			if !c.Await() {
				t.Fatal("there is input before any")
			}
			l.working = true
			l.taken.Store(1)
			defer l.watch.Stop()
			c.handle(unix.EPOLLIN, new(input))
			if _, err := unix.Read(pipe[0], make([]byte, 1)); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("not all was read: %v", err)
			}
			if l.watching != of.watched {
				t.Errorf("watched: %v", l.watching)
			}
		})
	}
}
