package native

import (
	"errors"
	"net/http"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// accept answers a handshake, and returns the WebSocket with what is below it:
// where there are loops and the connection can be of one, that is in the hijacker
// and there is no WebSocket of the library. When it is refused there is an answer
// already.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, loops *loop.Loops, subprotocols ...string) (*websocket.Conn, *hijacker, error) {
	hijacked := &hijacker{ResponseWriter: w, loops: loops}
	ws, err := websocket.Accept(hijacked, r, &websocket.AcceptOptions{
		Subprotocols: subprotocols, OriginPatterns: h.Origins, CompressionMode: websocket.CompressionDisabled,
	})
	if err == nil || errors.Is(err, errLooped) {
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
