package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type cursorsRequest struct {
	Delivered map[string]uint64 `json:"delivered"` // handled up to there
	Read      map[string]uint64 `json:"read"`      // read up to there, by the user
}

// cursors answers POST /v1/cursors. When it fails some may have moved; the
// call may be repeated, because cursors only move forward.
func (h *Handler) cursors(r *http.Request, who auth.Verified) (any, error) {
	var req cursorsRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	delivered, err := positions(req.Delivered)
	if err != nil {
		return nil, err
	}
	read, err := positions(req.Read)
	if err != nil {
		return nil, err
	}
	if len(delivered) > 0 {
		_, err = h.Core.Do(r.Context(), who.Principal, gateway.Acknowledge{Cursors: delivered})
	}
	if err == nil && len(read) > 0 {
		_, err = h.Core.Do(r.Context(), who.Principal, gateway.MarkRead{Cursors: read})
	}
	return struct{}{}, err
}

// positions reads cursors as a control frame has them.
func positions(of map[string]uint64) ([]envelope.Position, error) {
	f := envelope.Control{Cursors: of}
	cursors, err := f.CursorMap()
	return envelope.PositionsOf(cursors), err
}

type presenceReply struct {
	Presence []envelope.Presence `json:"presence"`
}

// presence answers GET /v1/presence?client_id=…&client_id=… or ?session_id=.
func (h *Handler) presence(r *http.Request, who auth.Verified) (any, error) {
	q := r.URL.Query()
	cmd := gateway.GetPresence{Session: envelope.SessionID(q.Get("session_id"))}
	for _, id := range q["client_id"] {
		cmd.Clients = append(cmd.Clients, envelope.ClientID(id))
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	reply := presenceReply{Presence: ev.(gateway.Presence).Of}
	if reply.Presence == nil {
		reply.Presence = []envelope.Presence{}
	}
	return reply, nil
}
