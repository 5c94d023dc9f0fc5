package native

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// library is the WebSocket library above a connection of a loop.
type library struct {
	transport
	reader *bufio.Reader // of ws, above the connection
	lent   *[]byte       // where the read buffer goes back to; owned by the reader
}

// newLibrary sets the library upon a connection whose handshake is over: it gets
// another one, which answers into nothing.
func newLibrary(conn *loop.Conn, max int) *library {
	// The connection has buffers of its own; these hold the header of a frame.
	reader := bufio.NewReaderSize(conn, 16)
	handshake := &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	ws, err := websocket.Accept(&taken{conn: cut{conn}, rw: bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, 16))}, handshake,
		&websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		panic(err) // the handshake is as it has to be
	}
	ws.SetReadLimit(-1) // the transport has its own
	return &library{transport: transport{ws: ws, net: conn, max: max}, reader: reader}
}

// taken answers a handshake into nothing.
type taken struct {
	header http.Header
	conn   net.Conn
	rw     *bufio.ReadWriter
}

func (t *taken) Header() http.Header {
	if t.header == nil {
		t.header = make(http.Header)
	}
	return t.header
}

func (t *taken) WriteHeader(int)             {}
func (t *taken) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements [http.Hijacker].
func (t *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) { return t.conn, t.rw, nil }

// readBuffers hold frames while they are handled: a connection has none while
// it waits.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Read returns the next frame, or [gateway.ErrNothing].
func (l *library) Read() ([]byte, error) {
	if l.lent == nil {
		l.lent = readBuffers.Get().(*[]byte)
		l.buf = (*l.lent)[:0]
	}
	frame, err := l.transport.Read()
	if err != nil {
		l.giveBack()
		if errors.Is(err, loop.ErrNothing) {
			return nil, gateway.ErrNothing
		}
	}
	return frame, err
}

func (l *library) giveBack() {
	if l.lent != nil && cap(l.buf) <= keepBuffer {
		*l.lent = l.buf[:0]
		readBuffers.Put(l.lent)
	}
	l.buf, l.lent = nil, nil
}
