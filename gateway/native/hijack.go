package native

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/allsparkrt/allspark/internal/loop"
)

// hijacker gives the WebSocket library the network connection that it takes
// over, when it has judged the handshake: unless a loop takes it, of which the
// library has nothing to keep. Or else it notes with which status the library has
// refused to, whose answer is plain text.
type hijacker struct {
	http.ResponseWriter
	loops *loop.Loops // nil: none

	conn   net.Conn   // what the library got
	looped *loop.Conn // what a loop took instead; nil when it did not

	refused int
}

// errLooped is what the library hears of a connection that a loop has taken.
var errLooped = errors.New("a loop has it")

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	tcp, plain := conn.(*net.TCPConn)
	if err != nil || !plain || h.loops == nil {
		return cut{conn}, rw, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return cut{conn}, rw, err
	}
	looped, err := h.loops.Take(tcp, early)
	if err != nil { // such as too many descriptors
		return cut{conn}, rw, nil
	}
	h.looped = looped
	return nil, nil, errLooped
}

// cut is a network connection whose end is not taken for that of a message: to the
// library each io.EOF is, also one before the last fragment (RFC 6455, section 5.4).
type cut struct{ net.Conn }

// Read implements [net.Conn].
func (c cut) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
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
