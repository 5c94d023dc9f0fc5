package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// revokeRequest names one of the first four.
type revokeRequest struct {
	JTI      string            `json:"jti"`
	ClientID envelope.ClientID `json:"client_id"`
	NodeID   envelope.NodeID   `json:"node_id"`
	All      bool              `json:"all"`
	Before   int64             `json:"before"` // Unix milliseconds; 0: now
}

type revocationReply struct {
	JTI      string            `json:"jti,omitempty"`
	ClientID envelope.ClientID `json:"client_id,omitempty"`
	NodeID   envelope.NodeID   `json:"node_id,omitempty"`
	All      bool              `json:"all,omitempty"`
	Before   int64             `json:"before,omitempty"` // Unix milliseconds
	Expires  int64             `json:"expires"`          // Unix milliseconds
}

type revocationsReply struct {
	Revocations []revocationReply `json:"revocations"`
	Next        string            `json:"next,omitempty"` // after= of the next page
	More        bool              `json:"more"`
}

// revoke answers POST /v1/revocations, which may be repeated.
func (h *Handler) revoke(r *http.Request, who auth.Verified) (any, error) {
	var req revokeRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	cmd := gateway.Revoke{JTI: req.JTI, Client: req.ClientID, Node: req.NodeID, Before: req.Before}
	if everybody := cmd.JTI == "" && cmd.Client == "" && cmd.Node == ""; everybody != req.All {
		return nil, envelope.Errorf(envelope.BadRequest, "give one of jti, client_id, node_id and all")
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	return revocationOf(ev.(gateway.Revocations).Of[0]), nil
}

// revocations answers GET /v1/revocations?after=&limit=.
func (h *Handler) revocations(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.GetRevocations{After: q.Get("after"), Limit: int(q.number("limit"))}
	if q.err != nil {
		return nil, q.err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	page := ev.(gateway.Revocations)
	reply := revocationsReply{Revocations: []revocationReply{}, More: page.More}
	for _, of := range page.Of {
		reply.Revocations = append(reply.Revocations, revocationOf(of))
	}
	if page.More {
		reply.Next = page.Next
	}
	return reply, nil
}

func revocationOf(r gateway.Revoke) revocationReply {
	return revocationReply{
		JTI: r.JTI, ClientID: r.Client, NodeID: r.Node, All: r.JTI == "" && r.Client == "" && r.Node == "",
		Before: r.Before, Expires: r.Expires,
	}
}
