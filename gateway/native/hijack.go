package native

import (
	"bufio"
	"net"
	"net/http"

	"github.com/allsparkrt/allspark/internal/loop"
)

// hijacker gives the WebSocket library the network connection that it takes
// over: one of a loop, if there is one. Or else it notes with which status the
// library has refused to, whose answer is plain text.
type hijacker struct {
	http.ResponseWriter
	loops *loop.Loops // nil: none

	conn   net.Conn      // what the library got
	looped *loop.Conn    // the same, of a loop; nil when it is not
	reader *bufio.Reader // above looped

	refused int
}

// Buffers of the library above a connection of a loop, which has its own: they
// hold the header of a frame.
const (
	loopedReader = 16
	loopedWriter = 16
)

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	tcp, plain := conn.(*net.TCPConn)
	if err != nil || !plain || h.loops == nil {
		return conn, rw, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return conn, rw, err
	}
	looped, err := h.loops.Take(tcp, early)
	if err != nil { // such as too many descriptors
		return conn, rw, nil
	}
	h.conn, h.looped, h.reader = looped, looped, bufio.NewReaderSize(looped, loopedReader)
	return looped, bufio.NewReadWriter(h.reader, bufio.NewWriterSize(looped, loopedWriter)), nil
}

// WriteHeader implements [http.ResponseWriter].
func (h *hijacker) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		h.refused = status
		return
	}
	h.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (h *hijacker) Write(p []byte) (int, error) {
	if h.refused != 0 {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}
