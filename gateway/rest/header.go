package rest

import (
	"encoding/json"
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// headerReply is what comes before the document, if that is asked for.
type headerReply struct {
	SessionID envelope.SessionID `json:"session_id"`
	Seq       uint64             `json:"seq"`     // of the entry in the session's log
	NodeID    envelope.NodeID    `json:"node_id"` // who has set it, by the name it has there
}

// setHeader answers PUT /v1/sessions/{id}/header, whose body is the document.
func (h *Handler) setHeader(r *http.Request, who auth.Verified) (any, error) {
	document, err := readBody(r, gateway.MaxCallBody)
	if err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.SetHeader{ID: sessionOf(r), Document: document})
	if err != nil {
		return nil, err
	}
	set := ev.(gateway.Header)
	return headerReply{SessionID: sessionOf(r), Seq: set.Seq, NodeID: set.By}, nil
}

// header answers GET /v1/sessions/{id}/header, with the document as payload.
func (h *Handler) header(r *http.Request, who auth.Verified) (any, error) {
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.GetHeader{ID: sessionOf(r)})
	if err != nil {
		return nil, err
	}
	is := ev.(gateway.Header)
	reply, err := json.Marshal(headerReply{SessionID: sessionOf(r), Seq: is.Seq, NodeID: is.By})
	if err != nil {
		return nil, err
	}
	reply = append(reply[:len(reply)-1], `,"payload":`...)
	return verbatim(append(append(reply, is.Document...), '}')), nil
}
