package native

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// waiter is a WebSocket connection of a loop as a [gateway.Waiter]. The library,
// which is more than half of the memory and twenty of the objects that such a
// connection would have, comes in with the first thing that is no message of text
// in one frame: a ping of the client or one that is waited for, fragments, large
// frames, a goodbye. From then on it reads everything.
type waiter struct {
	conn *loop.Conn
	max  int // bytes of the largest frame

	look    sync.Mutex // held while it is found out who reads what comes next
	lib     *library   // guarded by look; nil until it is needed, and then for good
	closing bool       // guarded by look; Close reads as well, and only the library knows whose turn it is
}

// Read implements [gateway.Transport].
func (t *waiter) Read() ([]byte, error) {
	frame, lib, err := t.next()
	if lib != nil {
		return lib.Read()
	}
	return frame, err
}

// next reads what comes next, or returns the library when that has to.
func (t *waiter) next() (frame []byte, lib *library, err error) {
	t.look.Lock()
	defer t.look.Unlock()
	switch {
	case t.lib == nil && !t.closing:
		frame, err = t.conn.Text()
	case t.closing || t.lib.reader.Buffered() > 0 || !t.conn.Empty():
		return nil, t.need(), nil
	default: // the library need not be asked: it makes errors of it, which cost
		t.lib.giveBack()
		return nil, nil, gateway.ErrNothing
	}
	switch {
	case err == nil:
		if status, err := judge(frame, t.max); err != nil {
			t.need().status.Store(int32(status))
			return nil, nil, err
		}
		return frame, nil, nil
	case errors.Is(err, loop.ErrNothing):
		return nil, nil, gateway.ErrNothing
	case errors.Is(err, loop.ErrOther):
		return nil, t.need(), nil
	}
	return nil, nil, err
}

// need returns the library; under look.
func (t *waiter) need() *library {
	if t.lib == nil {
		t.lib = newLibrary(t.conn, t.max)
	}
	return t.lib
}

// library returns the library for what only it can do.
func (t *waiter) library() *library {
	t.look.Lock()
	defer t.look.Unlock()
	return t.need()
}

// Write implements [gateway.Transport].
func (t *waiter) Write(frame []byte) error {
	if err := t.Queue(frame); err != nil {
		return err
	}
	left, err := t.Flush()
	for left > 0 && err == nil {
		left, err = t.conn.Drain()
	}
	return err
}

// Close has the library wait for the client's goodbye, which it reads.
func (t *waiter) Close(code envelope.Code, reason string) {
	t.look.Lock()
	t.closing = true
	lib := t.need()
	t.look.Unlock()
	defer time.AfterFunc(closeWithin, t.Abort).Stop() // what is handled inline may take long, after all
	t.conn.Block()
	lib.Close(code, reason)
}

func (t *waiter) Abort()                         { _ = t.conn.Close() }
func (t *waiter) Ping(ctx context.Context) error { return t.library().Ping(ctx) }

func (t *waiter) Watch(ready func(inline bool) (kept bool)) { t.conn.Watch(ready) }
func (t *waiter) Keep()                                     { t.conn.Keep() }
func (t *waiter) Await() bool                               { return t.conn.Await() }
func (t *waiter) Probe() (heard uint32, sent bool)          { return t.conn.Ping() }
func (t *waiter) Heard() uint32                             { return t.conn.Heard() }
func (t *waiter) Flush() (left int, err error)              { return t.conn.Uncork() }
func (t *waiter) Drain() (left int, err error)              { return t.conn.Drain() }

// Queue implements [gateway.Waiter]. What conn does not take the library writes to
// it, or says why not.
func (t *waiter) Queue(frame []byte) error {
	if t.conn.Message(frame) {
		return nil
	}
	t.conn.Cork()
	err := t.library().Write(frame)
	if err != nil { // such as after a goodbye, which nobody would flush
		_, _ = t.conn.Uncork()
	}
	return err
}

var _ gateway.Waiter = (*waiter)(nil)
