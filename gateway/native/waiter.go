package native

import (
	"bufio"
	"errors"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// waiter is a WebSocket connection of a loop as a [gateway.Waiter].
type waiter struct {
	transport
	conn   *loop.Conn    // below the library
	reader *bufio.Reader // of the library, above conn
	lent   *[]byte       // where the read buffer goes back to

	look    sync.Mutex // held while the library's reader is looked into
	closing bool       // guarded by look; Close reads as well, and only the library knows whose turn it is
}

// readBuffers hold frames while they are handled: a connection has none while
// it waits.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Read implements [gateway.Transport]. That nothing is there the library need
// not be asked: it makes errors of it, which cost.
func (t *waiter) Read() ([]byte, error) {
	if t.nothing() {
		t.giveBack()
		return nil, gateway.ErrNothing
	}
	if t.lent == nil {
		t.lent = readBuffers.Get().(*[]byte)
		t.buf = (*t.lent)[:0]
	}
	frame, err := t.transport.Read()
	if err != nil {
		t.giveBack()
		if errors.Is(err, loop.ErrNothing) {
			return nil, gateway.ErrNothing
		}
	}
	return frame, err
}

// nothing reports whether there is surely nothing to be read.
func (t *waiter) nothing() bool {
	t.look.Lock()
	defer t.look.Unlock()
	return !t.closing && t.reader.Buffered() == 0 && t.conn.Empty()
}

func (t *waiter) giveBack() {
	if t.lent != nil && cap(t.buf) <= keepBuffer {
		*t.lent = t.buf[:0]
		readBuffers.Put(t.lent)
	}
	t.buf, t.lent = nil, nil
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
	t.look.Unlock()
	defer time.AfterFunc(closeWithin, t.Abort).Stop() // what is handled inline may take long, after all
	t.conn.Block()
	t.transport.Close(code, reason)
}

func (t *waiter) Watch(ready func(inline bool) (kept bool)) { t.conn.Watch(ready) }
func (t *waiter) Keep()                                     { t.conn.Keep() }
func (t *waiter) Await() bool                               { return t.conn.Await() }
func (t *waiter) Probe() bool                               { return t.conn.Ping() }
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
	err := t.transport.Write(frame)
	if err != nil { // such as after a goodbye, which nobody would flush
		_, _ = t.conn.Uncork()
	}
	return err
}

var _ gateway.Waiter = (*waiter)(nil)
