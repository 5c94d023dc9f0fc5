package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/allsparkrt/allspark/envelope"
)

// Session describes a session. Whoever is anonymous there has an alias in place
// of the id of a device, see [envelope.AliasOf].
type Session struct {
	ID     envelope.SessionID `json:"session_id"`
	Owner  envelope.NodeID    `json:"owner"`
	Master envelope.NodeID    `json:"master,omitempty"` // of a game: who gets what the others send; "" while there is none
	envelope.Settings
	CreatedMS int64           `json:"created"`           // Unix milliseconds
	Node      envelope.NodeID `json:"node_id,omitempty"` // the caller's own name there; "" if it has none
	Role      string          `json:"role,omitempty"`    // the caller's: "owner", "moderator", "member" or "reader"
	State     string          `json:"state,omitempty"`   // the caller's: "joined" or "invited"
	Members   []Member        `json:"members,omitempty"` // as far as the caller may see them
	Next      envelope.NodeID `json:"next,omitempty"`    // after which the next page of members is
	More      bool            `json:"more,omitempty"`    // there is one
}

// SessionsPage is some of the sessions that there are, in the order of their ids
// and without their members.
type SessionsPage struct {
	Sessions []Session          `json:"sessions"`
	Next     envelope.SessionID `json:"next,omitempty"` // after which the next page is
	More     bool               `json:"more"`
}

// Member is one device in a session.
type Member struct {
	Node   envelope.NodeID   `json:"node_id"`             // its id, or an alias
	Client envelope.ClientID `json:"client_id,omitempty"` // "" of who is anonymous
	Device envelope.NodeID   `json:"device_id,omitempty"` // whose alias Node is, if that has been revealed
	Since  uint64            `json:"since"`               // seq of the entry that let it in
	Role   string            `json:"role"`
}

// Membership says by what name the caller is or was in a session, and where in
// the session's log that began or ended.
type Membership struct {
	ID   envelope.SessionID `json:"session_id"`
	Node envelope.NodeID    `json:"node_id"`
	Seq  uint64             `json:"seq"`
}

// Standing is a device's membership of a session as a call has left it.
type Standing struct {
	ID    envelope.SessionID `json:"session_id"`
	Node  envelope.NodeID    `json:"node_id"`
	State string             `json:"state"`           // "joined", "left", "invited", "declined", "banned" or "none"
	Role  string             `json:"role,omitempty"`  // of a member, or that is offered
	Since uint64             `json:"since,omitempty"` // seq of the entry that let it in last; 0: never
	Until uint64             `json:"until,omitempty"` // seq of the entry that let it out again; 0: it is in
}

// JoinOption says how somebody joins a session.
type JoinOption func(*joining)

type joining struct {
	Anonymous bool   `json:"as_anonymous,omitempty"`
	Alias     string `json:"alias,omitempty"`
}

// Anonymously has somebody join by an alias, and its id shown to nobody: by the
// name given, or with "" by the alias it has had there before, else by a random
// one. An alias that somebody has is Conflict, and one keeps the first one has.
func Anonymously(alias string) JoinOption {
	return func(j *joining) { j.Anonymous, j.Alias = true, alias }
}

func joinedBy(options []JoinOption) (j joining) {
	for _, option := range options {
		option(&j)
	}
	return j
}

// CreateSession makes a session of which the caller is owner and first member.
// With id "" the server chooses one. A session that the caller has made with
// the same settings before is returned; any other of that id is Conflict.
func (a *API) CreateSession(ctx context.Context, id envelope.SessionID, settings envelope.Settings, options ...JoinOption) (Session, error) {
	body := struct {
		ID envelope.SessionID `json:"session_id,omitempty"`
		envelope.Settings
		joining
	}{id, settings, joinedBy(options)}
	var s Session
	return s, a.post(ctx, "/v1/sessions", body, &s, id != "")
}

// UpdateSession changes the settings that are not nil, which the owner may. The
// session is returned without its members.
func (a *API) UpdateSession(ctx context.Context, id envelope.SessionID, change envelope.Settings) (Session, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return Session{}, err
	}
	var s Session
	return s, a.call(ctx, http.MethodPatch, sessionPath(id, ""), body, &s, true)
}

// Session returns a session of which the caller is a member, or to which it is
// invited, with the first page of its members.
func (a *API) Session(ctx context.Context, id envelope.SessionID) (Session, error) {
	return a.SessionMembers(ctx, id, "", 0)
}

// SessionMembers is [API.Session] with another page of its members: those whose
// names are behind after, at most limit; 0: as many as a page has.
func (a *API) SessionMembers(ctx context.Context, id envelope.SessionID, after envelope.NodeID, limit int) (Session, error) {
	var s Session
	return s, a.call(ctx, http.MethodGet, pageOf(sessionPath(id, ""), string(after), limit), nil, &s, true)
}

// Sessions returns a page of the sessions that there are, for the app: behind
// after, at most limit; 0: as many as a page has. Topics with rules are among them.
func (a *API) Sessions(ctx context.Context, after envelope.SessionID, limit int) (SessionsPage, error) {
	var reply SessionsPage
	err := a.call(ctx, http.MethodGet, pageOf("/v1/sessions", string(after), limit), nil, &reply, true)
	return reply, err
}

// JoinSession makes the caller a member of a session that is open or to which
// it is invited. A member stays one.
func (a *API) JoinSession(ctx context.Context, id envelope.SessionID, options ...JoinOption) (Membership, error) {
	var body any
	if len(options) > 0 {
		body = joinedBy(options)
	}
	var m Membership
	return m, a.post(ctx, sessionPath(id, "/join"), body, &m, true)
}

// LeaveSession ends the caller's membership. Nothing sent to the session
// afterwards arrives. An owner goes last, or after [API.TransferSession].
func (a *API) LeaveSession(ctx context.Context, id envelope.SessionID) (Membership, error) {
	var m Membership
	return m, a.post(ctx, sessionPath(id, "/leave"), nil, &m, true)
}

// RevealAnonymity tells everybody in a session whose the caller's alias there
// is, for good. The caller keeps the alias.
func (a *API) RevealAnonymity(ctx context.Context, id envelope.SessionID) (Standing, error) {
	var s Standing
	return s, a.post(ctx, sessionPath(id, "/reveal"), nil, &s, true)
}

// DeclineInvitation refuses to join. To accept is to join.
func (a *API) DeclineInvitation(ctx context.Context, id envelope.SessionID) (Standing, error) {
	var s Standing
	return s, a.post(ctx, sessionPath(id, "/decline"), nil, &s, true)
}

// The calls below act on somebody else, named by the id of a device or by an
// alias. They are for the owner, moderators as far as they may, and the app;
// from others they are Forbidden, or NotFound if the caller is not in the
// session. A call that finds done what it asks for returns the same again.

// Invite offers a device to join in a role ("": "member"), which a message of
// type [envelope.TypeInvited] in its own log tells it.
func (a *API) Invite(ctx context.Context, id envelope.SessionID, node envelope.NodeID, role string) (Standing, error) {
	return a.onMember(ctx, id, "/invite", memberCall{Node: node, Role: role})
}

// Kick ends a membership, or takes an invitation back.
func (a *API) Kick(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Standing, error) {
	return a.onMember(ctx, id, "/kick", memberCall{Node: node})
}

// Ban ends a membership and keeps the device from coming back by any name.
func (a *API) Ban(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Standing, error) {
	return a.onMember(ctx, id, "/ban", memberCall{Node: node})
}

// Unban lets a device join and be invited again.
func (a *API) Unban(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Standing, error) {
	return a.onMember(ctx, id, "/unban", memberCall{Node: node})
}

// SetRole makes a member "moderator", "member" or "reader".
func (a *API) SetRole(ctx context.Context, id envelope.SessionID, node envelope.NodeID, role string) (Standing, error) {
	return a.onMember(ctx, id, "/role", memberCall{Node: node, Role: role})
}

// TransferSession makes a member the owner. Who was it is a moderator then.
func (a *API) TransferSession(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Standing, error) {
	return a.onMember(ctx, id, "/transfer", memberCall{Node: node})
}

// AppointMaster makes a member the master of a game. The owner may, the master
// itself and the app; moderators may not.
func (a *API) AppointMaster(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Standing, error) {
	return a.onMember(ctx, id, "/master", memberCall{Node: node})
}

// AddMember makes a user's device a member without asking it, in a role ("":
// "member"). Only the app may.
func (a *API) AddMember(ctx context.Context, id envelope.SessionID, node envelope.NodeID, client envelope.ClientID, role string, options ...JoinOption) (Standing, error) {
	return a.onMember(ctx, id, "/add", memberCall{Node: node, Client: client, Role: role, joining: joinedBy(options)})
}

type memberCall struct {
	Node   envelope.NodeID   `json:"node_id"`
	Client envelope.ClientID `json:"client_id,omitempty"`
	Role   string            `json:"role,omitempty"`
	joining
}

func (a *API) onMember(ctx context.Context, id envelope.SessionID, action string, body memberCall) (Standing, error) {
	var s Standing
	return s, a.post(ctx, sessionPath(id, action), body, &s, true)
}

func sessionPath(id envelope.SessionID, action string) string {
	return "/v1/sessions/" + url.PathEscape(string(id)) + action
}
