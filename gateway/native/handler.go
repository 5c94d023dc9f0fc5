package native

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
	"github.com/allsparkrt/allspark/internal/stack"
)

// bearerPrefix marks the subprotocol entry that carries the validation token,
// for browsers, which cannot set headers.
const bearerPrefix = "bearer."

// Handler serves the WebSocket end points.
type Handler struct {
	Core     gateway.Core
	Verifier *auth.Verifier
	Tickets  *auth.Tickets
	Origins  []string // allowed Origin hosts besides our own, as patterns of path.Match
	MaxFrame int      // bytes
	Log      *slog.Logger
	// Loops wait for the clients' frames; nil: a goroutine for each client does.
	Loops *loop.Loops
	// Context ends when connections must end at once.
	Context context.Context
}

// Register adds the end points to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	// All connections share these: they have no state.
	codec, verify := NewCodec(false), gateway.Verify(h.verify)
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) { h.serveWS(w, r, codec, verify) })
	mux.HandleFunc("GET /connectV3", h.serveLegacy)
	h.registerSessions(mux)
}

func (h *Handler) serveWS(w http.ResponseWriter, r *http.Request, codec *Codec, verify gateway.Verify) {
	stack.Reserve()
	who, err := h.redeem(ticketOf(r))
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	h.serve(w, r, who, codec, gateway.Options{Hello: true, Verify: verify})
}

// verify checks the auth key of a client that is connected already.
func (h *Handler) verify(ctx context.Context, authKey string) (gateway.Verified, error) {
	who, err := h.Verifier.Verify(ctx, authKey)
	if err != nil {
		return gateway.Verified{}, err
	}
	return gateway.Verified{
		Who: who.Principal, Expires: who.Expires.Add(auth.Leeway), Credential: gateway.Credential{JTI: who.JTI, Issued: who.Issued},
	}, nil
}

// redeem turns a validation token into its owner. Whether there is room is
// asked first: a token refused for want of room stays good.
func (h *Handler) redeem(token string) (auth.Verified, error) {
	if err := h.Core.Admit(); err != nil {
		return auth.Verified{}, err
	}
	id, boot := h.Core.Self()
	return h.Tickets.Redeem(token, id, boot)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, who auth.Verified, codec *Codec, o gateway.Options) {
	o.Address = gateway.AddressOf(r.Context())
	o.Expires, o.JTI, o.Issued = who.Expires.Add(auth.Leeway), who.JTI, who.Issued
	ws, hijacked, err := h.accept(w, r, h.Loops, Subprotocol)
	if err != nil {
		return // it has been told
	}
	var t gateway.Transport
	if hijacked.looped != nil {
		t = &waiter{conn: hijacked.looped, max: h.MaxFrame}
	} else {
		ws.SetReadLimit(-1) // the transport has its own
		t = &transport{ws: ws, net: hijacked.conn, max: h.MaxFrame}
	}
	h.Core.Serve(h.Context, who.Principal, t, codec, o)
}

// ticketOf finds the validation token in a handshake: a subprotocol entry, or
// the query of clients that cannot set one. It is good for one minute and one
// use, so it may stand in a URL.
func ticketOf(r *http.Request) string {
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for entry := range strings.SplitSeq(header, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(entry), bearerPrefix); ok {
				return token
			}
		}
	}
	return r.URL.Query().Get("token")
}

// upgrading reports whether a request opens a WebSocket (RFC 6455, section 4.2.1).
func upgrading(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

var errNotUpgrade = envelope.Errorf(envelope.BadRequest, "this is a WebSocket end point")
