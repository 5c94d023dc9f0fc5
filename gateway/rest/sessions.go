package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type createRequest struct {
	SessionID     envelope.SessionID `json:"session_id"`
	AnyoneCanJoin *bool              `json:"anyone_can_join"` // default true
}

type sessionReply struct {
	SessionID     envelope.SessionID `json:"session_id"`
	Owner         envelope.NodeID    `json:"owner"`
	AnyoneCanJoin bool               `json:"anyone_can_join"`
	CreatedMS     int64              `json:"created"` // Unix milliseconds
	Members       []memberReply      `json:"members,omitempty"`
}

type memberReply struct {
	NodeID   envelope.NodeID   `json:"node_id"`
	ClientID envelope.ClientID `json:"client_id"`
	Since    uint64            `json:"since"` // seq of the entry that let it in
}

type membershipReply struct {
	SessionID envelope.SessionID `json:"session_id"`
	Seq       uint64             `json:"seq"` // of the entry in the session's log
}

func (h *Handler) createSession(r *http.Request, who auth.Verified) (any, error) {
	var req createRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	anyone := req.AnyoneCanJoin == nil || *req.AnyoneCanJoin
	return describe(h.Core.Do(r.Context(), who.Principal, gateway.CreateSession{ID: req.SessionID, AnyoneCanJoin: anyone}))
}

func (h *Handler) getSession(r *http.Request, who auth.Verified) (any, error) {
	return describe(h.Core.Do(r.Context(), who.Principal, gateway.GetSession{ID: sessionOf(r)}))
}

func (h *Handler) joinSession(r *http.Request, who auth.Verified) (any, error) {
	return membership(h.Core.Do(r.Context(), who.Principal, gateway.JoinSession{ID: sessionOf(r)}))
}

func (h *Handler) leaveSession(r *http.Request, who auth.Verified) (any, error) {
	return membership(h.Core.Do(r.Context(), who.Principal, gateway.LeaveSession{ID: sessionOf(r)}))
}

func sessionOf(r *http.Request) envelope.SessionID { return envelope.SessionID(r.PathValue("id")) }

func describe(ev gateway.Event, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	info := ev.(gateway.SessionInfo)
	reply := sessionReply{
		SessionID: info.ID, Owner: info.Owner, AnyoneCanJoin: info.AnyoneCanJoin, CreatedMS: info.Created.UnixMilli(),
	}
	for _, m := range info.Members {
		reply.Members = append(reply.Members, memberReply{NodeID: m.Node, ClientID: m.Client, Since: m.Since})
	}
	return reply, nil
}

func membership(ev gateway.Event, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	m := ev.(gateway.Membership)
	return membershipReply{SessionID: m.ID, Seq: m.Seq}, nil
}
