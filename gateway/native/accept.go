package native

import (
	"bufio"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// accept answers a handshake, and returns the WebSocket with the network
// connection below it. When it is refused there is an answer already.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, o websocket.AcceptOptions) (*websocket.Conn, net.Conn, error) {
	o.OriginPatterns, o.CompressionMode = h.Origins, websocket.CompressionDisabled
	hijacked := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijacked, r, &o)
	if err == nil {
		return ws, hijacked.conn, nil
	}
	refusal := envelope.Errorf(envelope.BadRequest, "this is no handshake of a WebSocket that is understood here")
	if hijacked.refused == http.StatusForbidden {
		refusal = envelope.Errorf(envelope.Forbidden, "pages of this origin do not connect here")
	}
	refusal.Cause = err
	if hijacked.refused != 0 {
		gateway.Refuse(w, h.Core, h.Log, &gateway.StatusError{Status: hijacked.refused, Err: refusal})
	}
	return nil, nil, err
}

// hijacker notes the network connection that the WebSocket takes over, or else
// with which status the library has refused to, whose answer is plain text.
type hijacker struct {
	http.ResponseWriter
	conn    net.Conn
	refused int
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
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
