package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// keepAlive is the pause between comments: proxies cut what is silent
	// (WHATWG HTML, section 9.2.7).
	keepAlive = 15 * time.Second
	// commentWithin bounds how long a comment may take that nothing else waits for.
	commentWithin = 20 * time.Second
	// closeWithin bounds a goodbye.
	closeWithin = 5 * time.Second
	// prelude makes an EventSource wait a second before it connects again.
	prelude = "retry: 1000\n\n"
	// freeID is the longest id that goes with every event, in bytes.
	freeID = 128
)

// events is a response of server-sent events as a [gateway.Transport]. The
// client says nothing but hello, which the request does for it.
type events struct {
	// Static after construction.
	rc      *http.ResponseController
	w       io.Writer
	gone    <-chan struct{} // the client has left
	over    chan struct{}   // closed when the connection is over
	writing chan struct{}   // held by who writes

	// Of the reader.
	hello []byte

	// Of who holds writing.
	at     position
	parser envelope.Parser
	buf    []byte
	id     []byte
	since  int  // bytes of frames since the last id
	owed   bool // the position has moved since the last id

	mu    sync.Mutex
	ended bool // guarded by mu; the response is whole, or the server's again: leave it alone
	once  sync.Once
}

func newEvents(w http.ResponseWriter, r *http.Request, at position, topics []envelope.SessionID) *events {
	return &events{
		rc: http.NewResponseController(w), w: w,
		gone: r.Context().Done(), over: make(chan struct{}), writing: make(chan struct{}, 1),
		hello: at.hello(topics...), at: at, parser: envelope.Parser{From: envelope.FromServer},
	}
}

// begin sends what comes before the first event. The response has no end that
// a server's time limit could know.
func (t *events) begin() error {
	if err := t.rc.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	return t.put([]byte(prelude))
}

// Read returns hello and then keeps the connection alive until it ends.
func (t *events) Read() ([]byte, error) {
	if hello := t.hello; hello != nil {
		t.hello = nil
		return hello, nil
	}
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			select {
			case t.writing <- struct{}{}:
				if err := t.comment(); err != nil {
					return nil, err
				}
			default: // who writes keeps it alive, or is given up by others
			}
		case <-t.over:
			return nil, net.ErrClosed
		case <-t.gone:
			return nil, io.EOF
		}
	}
}

// comment writes something that is no event: an id that is owed, else a line
// to be ignored. The caller holds writing, which is given back.
func (t *events) comment() error {
	defer func() { <-t.writing }()
	defer time.AfterFunc(commentWithin, t.Abort).Stop()
	if t.owed {
		return t.put(append(t.appendID(t.buf[:0]), '\n'))
	}
	return t.put([]byte(":\n\n"))
}

// Write writes one frame as an event.
func (t *events) Write(frame []byte) error {
	if err := t.hold(); err != nil {
		return err
	}
	defer func() { <-t.writing }()
	kind := "control"
	if t.at.pass(frame, &t.parser) == "" {
		kind = "message"
	}
	t.owed, t.since = true, t.since+len(frame)
	t.buf = appendEvent(t.buf[:0], kind, frame)
	if t.id = t.at.appendText(t.id[:0]); len(t.id) <= max(freeID, t.since) {
		t.buf = t.appendID(t.buf)
	}
	t.buf = append(t.buf, '\n')
	return t.put(t.buf)
}

// appendID appends the line that says how far the client has come.
func (t *events) appendID(dst []byte) []byte {
	t.owed, t.since = false, 0
	dst = t.at.appendText(append(dst, "id: "...))
	return append(dst, '\n')
}

// appendEvent appends an event without its end. A line break in a frame is
// white space between tokens of JSON; as data it is one too, if perhaps another.
func appendEvent(dst []byte, kind string, data []byte) []byte {
	dst = append(append(append(dst, "event: "...), kind...), '\n')
	for len(data) > 0 {
		line := data
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return dst
}

// hold waits until nobody else writes.
func (t *events) hold() error {
	select {
	case t.writing <- struct{}{}:
		return nil
	case <-t.over:
		return net.ErrClosed
	}
}

// put writes and flushes. It returns when the network has taken it, or Abort
// was called.
func (t *events) put(b []byte) error {
	if _, err := t.w.Write(b); err != nil {
		return err
	}
	return t.rc.Flush()
}

// Ping returns nil while the connection is there: nothing shows what a client
// of server-sent events has received, and the keep-alive finds out whether it
// is gone.
func (t *events) Ping(context.Context) error {
	select {
	case <-t.over:
		return net.ErrClosed
	default:
		return nil
	}
}

// goodbye is the data of the last event.
type goodbye struct {
	CloseCode int           `json:"close_code"` // that of a WebSocket
	Code      envelope.Code `json:"code,omitempty"`
	Detail    string        `json:"detail,omitempty"`
}

// Close implements [gateway.Transport].
func (t *events) Close(code envelope.Code, reason string) {
	defer time.AfterFunc(closeWithin, t.Abort).Stop()
	if t.hold() != nil {
		return
	}
	bye := goodbye{CloseCode: normalClosure, Code: code, Detail: reason}
	if code != "" {
		bye.CloseCode = code.CloseCode()
	}
	data, _ := json.Marshal(bye) // numbers and strings
	if t.put(append(appendEvent(t.buf[:0], "close", data), '\n')) == nil {
		t.leave() // and writing is not given back: nothing follows
	}
	t.end()
}

// normalClosure is the status of RFC 6455, section 7.4.1.
const normalClosure = 1000

// Abort implements [gateway.Transport]. A write that is under way fails.
func (t *events) Abort() {
	t.mu.Lock()
	if !t.ended {
		_ = t.rc.SetWriteDeadline(time.Unix(1, 0))
	}
	t.mu.Unlock()
	t.end()
}

// leave makes the response complete as it is.
func (t *events) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

func (t *events) end() { t.once.Do(func() { close(t.over) }) }
