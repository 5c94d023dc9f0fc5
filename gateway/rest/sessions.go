package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type createRequest struct {
	SessionID envelope.SessionID `json:"session_id"`
	Master    envelope.NodeID    `json:"master"` // of a game: who is it when it has joined; default the caller
	envelope.Settings
	aliasRequest
}

// aliasRequest says by what name somebody joins.
type aliasRequest struct {
	AsAnonymous bool   `json:"as_anonymous"` // by an alias
	Alias       string `json:"alias"`        // the name of it; implies as_anonymous
}

func (r aliasRequest) as() gateway.Alias {
	return gateway.Alias{Anonymous: r.AsAnonymous || r.Alias != "", Name: r.Alias}
}

type sessionReply struct {
	SessionID envelope.SessionID `json:"session_id"`
	Owner     envelope.NodeID    `json:"owner"`
	Master    envelope.NodeID    `json:"master,omitempty"` // of a game
	envelope.Settings
	CreatedMS int64           `json:"created"`           // Unix milliseconds
	NodeID    envelope.NodeID `json:"node_id,omitempty"` // the caller's own name there
	Role      string          `json:"role,omitempty"`    // the caller's own
	State     string          `json:"state,omitempty"`   // the caller's: "joined" or "invited"
	Members   []memberReply   `json:"members,omitempty"`
	Next      envelope.NodeID `json:"next,omitempty"` // after= of the next page of members
	More      bool            `json:"more,omitempty"` // there is one
}

type sessionsReply struct {
	Sessions []sessionReply     `json:"sessions"`       // without members
	Next     envelope.SessionID `json:"next,omitempty"` // after= of the next page
	More     bool               `json:"more"`
}

type memberReply struct {
	NodeID   envelope.NodeID   `json:"node_id"`
	ClientID envelope.ClientID `json:"client_id,omitempty"` // not of who is anonymous
	DeviceID envelope.NodeID   `json:"device_id,omitempty"` // whose alias node_id is, when it has been revealed
	Since    uint64            `json:"since"`               // seq of the entry that let it in
	Role     string            `json:"role"`
}

// memberRequest is the body of the calls that act on a device.
type memberRequest struct {
	NodeID       envelope.NodeID   `json:"node_id"`
	ClientID     envelope.ClientID `json:"client_id"` // of add; default the node_id
	Role         string            `json:"role"`      // of invite, role and add; default "member"
	aliasRequest                   // of add
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
	NodeID    envelope.NodeID    `json:"node_id"` // the name that the caller has there
	Seq       uint64             `json:"seq"`     // of the entry in the session's log
}

func (h *Handler) createSession(r *http.Request, who auth.Verified) (any, error) {
	var req createRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return nil, err
	}
	return describe(h.Core.Do(r.Context(), who.Principal, gateway.CreateSession{ID: req.SessionID, Key: key, Settings: req.Settings, As: req.as(), Master: req.Master}))
}

func (h *Handler) updateSession(r *http.Request, who auth.Verified) (any, error) {
	var change envelope.Settings
	if err := readJSON(r, &change); err != nil {
		return nil, err
	}
	return describe(h.Core.Do(r.Context(), who.Principal, gateway.UpdateSession{ID: sessionOf(r), Change: change}))
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
		if _, _, alias := req.NodeID.Alias(); req.ClientID == "" && !alias {
			req.ClientID = envelope.ClientID(req.NodeID)
		}
		if !envelope.ValidNode(string(req.NodeID)) || req.ClientID != "" && !envelope.ValidID(string(req.ClientID)) {
			return nil, envelope.Errorf(envelope.BadRequest, "node_id or client_id has not the form of an id")
		}
		ev, err := h.Core.Do(r.Context(), who.Principal, gateway.ChangeMember{
			ID: sessionOf(r), Action: action, Node: req.NodeID, Client: req.ClientID, Role: req.Role, As: req.as(),
		})
		if err != nil {
			return nil, err
		}
		m := ev.(gateway.MemberInfo)
		reply := standingReply{SessionID: sessionOf(r), NodeID: m.Node, State: m.State, Since: m.Since, Until: m.Until}
		if m.State == "joined" || m.State == "invited" {
			reply.Role = m.Role
		}
		return reply, nil
	}
}

// listSessions answers GET /v1/sessions?after=&limit=.
func (h *Handler) listSessions(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.ListSessions{After: envelope.SessionID(q.id("after")), Limit: int(q.number("limit"))}
	if q.err != nil {
		return nil, q.err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	page := ev.(gateway.Sessions)
	reply := sessionsReply{Sessions: []sessionReply{}, More: page.More}
	for _, info := range page.Of {
		reply.Sessions = append(reply.Sessions, sessionOfInfo(info))
	}
	if page.More {
		reply.Next = page.Next
	}
	return reply, nil
}

// getSession answers GET /v1/sessions/{id}?after=&limit=.
func (h *Handler) getSession(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.GetSession{ID: sessionOf(r), After: q.node("after"), Limit: int(q.number("limit"))}
	if q.err != nil {
		return nil, q.err
	}
	return describe(h.Core.Do(r.Context(), who.Principal, cmd))
}

func (h *Handler) joinSession(r *http.Request, who auth.Verified) (any, error) {
	var req aliasRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return membership(h.Core.Do(r.Context(), who.Principal, gateway.JoinSession{ID: sessionOf(r), As: req.as()}))
}

// reveal answers POST /v1/sessions/{id}/reveal.
func (h *Handler) reveal(r *http.Request, who auth.Verified) (any, error) {
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.RevealAnonymity{ID: sessionOf(r)})
	if err != nil {
		return nil, err
	}
	m := ev.(gateway.MemberInfo)
	return standingReply{SessionID: sessionOf(r), NodeID: m.Node, State: m.State, Role: m.Role, Since: m.Since}, nil
}

func (h *Handler) leaveSession(r *http.Request, who auth.Verified) (any, error) {
	return membership(h.Core.Do(r.Context(), who.Principal, gateway.LeaveSession{ID: sessionOf(r)}))
}

func sessionOf(r *http.Request) envelope.SessionID { return envelope.SessionID(r.PathValue("id")) }

func describe(ev gateway.Event, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return sessionOfInfo(ev.(gateway.SessionInfo)), nil
}

func sessionOfInfo(info gateway.SessionInfo) sessionReply {
	reply := sessionReply{
		SessionID: info.ID, Owner: info.Owner, Master: info.Master, Settings: info.Settings, CreatedMS: info.Created.UnixMilli(),
		NodeID: info.Own.Node, Role: info.Own.Role, State: info.Own.State,
		Next: info.Next, More: info.More,
	}
	for _, m := range info.Members {
		of := memberReply{NodeID: m.Node, ClientID: m.Client, Since: m.Since, Role: m.Role}
		if m.Device != m.Node {
			of.DeviceID = m.Device
		}
		reply.Members = append(reply.Members, of)
	}
	return reply
}

func membership(ev gateway.Event, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	m := ev.(gateway.Membership)
	return membershipReply{SessionID: m.ID, NodeID: m.Node, Seq: m.Seq}, nil
}
