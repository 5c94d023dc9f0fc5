package stream

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// What one answer to a poll holds at most; the frame that reaches it is in it.
const (
	pollFrames = 100
	pollBytes  = 256 << 10
)

// replayGrace is how long a replay may go on when the wait is over.
const replayGrace = 10 * time.Second

// batch gathers the frames of one poll as a [gateway.Transport]: those there
// are, or else the first that comes. The rest waits in the logs.
type batch struct {
	over chan struct{} // closed when nothing more is gathered

	// Of the reader.
	hello []byte

	mu       sync.Mutex
	parser   envelope.Parser // guarded by mu
	at       position        // guarded by mu
	frames   [][]byte        // guarded by mu
	bytes    int             // guarded by mu
	caughtUp bool            // guarded by mu; what comes now is new
	due      bool            // guarded by mu; the wait is over
	closed   bool            // guarded by mu; over is
	goodbye  *envelope.Error // guarded by mu; why the server ended it
}

func newBatch(at position, topics []envelope.SessionID) *batch {
	return &batch{
		over: make(chan struct{}), hello: at.hello(topics...), at: at, parser: envelope.Parser{From: envelope.FromServer},
	}
}

// Read returns hello and then waits for the end.
func (t *batch) Read() ([]byte, error) {
	if hello := t.hello; hello != nil {
		t.hello = nil
		return hello, nil
	}
	<-t.over
	return nil, io.EOF
}

// Write takes one frame, unless the answer is complete. The server's hello,
// subscribed and caught_up are about the connection, of which a poll knows nothing.
func (t *batch) Write(frame []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	switch t.at.pass(frame, &t.parser) {
	case envelope.ControlHello, envelope.ControlSubscribed:
	case envelope.ControlCaughtUp:
		t.caughtUp = true
	default:
		t.frames = append(t.frames, slices.Clone(frame))
		t.bytes += len(frame)
	}
	t.look()
	return nil
}

// look ends the gathering when there is an answer; under mu.
func (t *batch) look() {
	full := len(t.frames) >= pollFrames || t.bytes >= pollBytes
	if full || t.caughtUp && (t.due || len(t.frames) > 0) {
		t.end()
	}
}

// waited says that the wait is over. What is there already is still gathered.
func (t *batch) waited() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = true
	t.look()
}

// end ends the gathering; under mu.
func (t *batch) end() {
	if !t.closed {
		t.closed = true
		close(t.over)
	}
}

// Ping implements [gateway.Transport]. Polls acknowledge by their cursors.
func (t *batch) Ping(context.Context) error { return nil }

// Close implements [gateway.Transport].
func (t *batch) Close(code envelope.Code, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.goodbye = envelope.Errorf(code, "%s", reason)
	}
	t.end()
}

// Abort implements [gateway.Transport].
func (t *batch) Abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// answer returns the JSON of what was gathered, or why there is nothing.
func (t *batch) answer() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.goodbye != nil && len(t.frames) == 0 {
		return nil, t.goodbye
	}
	out := make([]byte, 0, t.bytes+len(t.frames)+t.at.size+64)
	out = append(out, `{"frames":[`...)
	for i, frame := range t.frames {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, frame...)
	}
	out = append(out, `],"cursors":"`...)
	out = t.at.appendText(out) // has no character that JSON escapes
	return append(out, "\"}\n"...), nil
}
