package native

import (
	"net/http"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// accept answers a handshake, and returns the WebSocket with what is below it.
// When it is refused there is an answer already.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, o websocket.AcceptOptions) (*websocket.Conn, *hijacker, error) {
	o.OriginPatterns, o.CompressionMode = h.Origins, websocket.CompressionDisabled
	hijacked := &hijacker{ResponseWriter: w, loops: h.Loops}
	ws, err := websocket.Accept(hijacked, r, &o)
	if err == nil {
		return ws, hijacked, nil
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
