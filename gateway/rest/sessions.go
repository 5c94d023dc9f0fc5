package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// settings are what a session is made with, or what is to be changed of it.
type settings struct {
	AnyoneCanJoin *bool   `json:"anyone_can_join"` // default true
	MemberLimit   *int    `json:"member_limit"`    // default 0: none
	MemberList    *string `json:"member_list"`     // who may see it: "members" (default) or "moderators"
}

// membersHidden reads the member_list; nil when it is not given.
func (s *settings) membersHidden() (*bool, error) {
	if s.MemberList == nil {
		return nil, nil
	}
	hidden := *s.MemberList == listModerators
	if !hidden && *s.MemberList != listMembers {
		return nil, envelope.Errorf(envelope.BadRequest, "member_list is %s or %s", listMembers, listModerators)
	}
	return &hidden, nil
}

const (
	listMembers    = "members"
	listModerators = "moderators"
)

type createRequest struct {
	SessionID envelope.SessionID `json:"session_id"`
	settings
}

type sessionReply struct {
	SessionID     envelope.SessionID `json:"session_id"`
	Owner         envelope.NodeID    `json:"owner"`
	AnyoneCanJoin bool               `json:"anyone_can_join"`
	MemberLimit   int                `json:"member_limit"`
	MemberList    string             `json:"member_list"`
	CreatedMS     int64              `json:"created"`         // Unix milliseconds
	Role          string             `json:"role,omitempty"`  // the caller's own
	State         string             `json:"state,omitempty"` // the caller's: "joined" or "invited"
	Members       []memberReply      `json:"members,omitempty"`
}

type memberReply struct {
	NodeID   envelope.NodeID   `json:"node_id"`
	ClientID envelope.ClientID `json:"client_id"`
	Since    uint64            `json:"since"` // seq of the entry that let it in
	Role     string            `json:"role"`
}

// memberRequest is the body of the calls that act on a device.
type memberRequest struct {
	NodeID   envelope.NodeID   `json:"node_id"`
	ClientID envelope.ClientID `json:"client_id"` // of add; default the node_id
	Role     string            `json:"role"`      // of invite, role and add; default "member"
}

// standingReply is a device's membership as such a call has left it.
type standingReply struct {
	SessionID envelope.SessionID `json:"session_id"`
	NodeID    envelope.NodeID    `json:"node_id"`
	State     string             `json:"state"`
	Role      string             `json:"role,omitempty"`  // of a member, or that is offered
	Since     uint64             `json:"since,omitempty"` // seq of the entry that let it in
	Until     uint64             `json:"until,omitempty"` // seq of the entry that let it out
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
	hidden, err := req.membersHidden()
	if err != nil {
		return nil, err
	}
	cmd := gateway.CreateSession{ID: req.SessionID, AnyoneCanJoin: req.AnyoneCanJoin == nil || *req.AnyoneCanJoin}
	if req.MemberLimit != nil {
		cmd.MemberLimit = *req.MemberLimit
	}
	cmd.MembersHidden = hidden != nil && *hidden
	return describe(h.Core.Do(r.Context(), who.Principal, cmd))
}

func (h *Handler) updateSession(r *http.Request, who auth.Verified) (any, error) {
	var req settings
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	hidden, err := req.membersHidden()
	if err != nil {
		return nil, err
	}
	return describe(h.Core.Do(r.Context(), who.Principal, gateway.UpdateSession{
		ID: sessionOf(r), AnyoneCanJoin: req.AnyoneCanJoin, MemberLimit: req.MemberLimit, MembersHidden: hidden,
	}))
}

// changeMember answers POST /v1/sessions/{id}/… for an action on a device.
func (h *Handler) changeMember(action gateway.MemberAction) func(*http.Request, auth.Verified) (any, error) {
	return func(r *http.Request, who auth.Verified) (any, error) {
		var req memberRequest
		if err := readJSON(r, &req); err != nil {
			return nil, err
		}
		if action == gateway.Decline {
			req.NodeID = who.Node
		}
		if req.ClientID == "" {
			req.ClientID = envelope.ClientID(req.NodeID)
		}
		if !envelope.ValidID(string(req.NodeID)) || !envelope.ValidID(string(req.ClientID)) {
			return nil, envelope.Errorf(envelope.BadRequest, "node_id or client_id has not the form of an id")
		}
		ev, err := h.Core.Do(r.Context(), who.Principal, gateway.ChangeMember{
			ID: sessionOf(r), Action: action, Node: req.NodeID, Client: req.ClientID, Role: req.Role,
		})
		if err != nil {
			return nil, err
		}
		m := ev.(gateway.MemberInfo)
		reply := standingReply{SessionID: sessionOf(r), NodeID: req.NodeID, State: m.State, Since: m.Since, Until: m.Until}
		if m.State == "joined" || m.State == "invited" {
			reply.Role = m.Role
		}
		return reply, nil
	}
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
		SessionID: info.ID, Owner: info.Owner, CreatedMS: info.Created.UnixMilli(),
		AnyoneCanJoin: info.AnyoneCanJoin, MemberLimit: info.MemberLimit, MemberList: listMembers,
		Role: info.Own.Role, State: info.Own.State,
	}
	if info.MembersHidden {
		reply.MemberList = listModerators
	}
	for _, m := range info.Members {
		reply.Members = append(reply.Members, memberReply{NodeID: m.Node, ClientID: m.Client, Since: m.Since, Role: m.Role})
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
