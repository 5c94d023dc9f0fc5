package native

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// sessionCall carries out one of the original system's session calls. form
// holds the parameters of the query and of the body, of which the body's count.
type sessionCall func(ctx context.Context, who auth.Verified, form url.Values) (any, error)

// registerSessions adds the session calls to a mux. The original system took
// each as GET and as POST.
func (h *Handler) registerSessions(mux *http.ServeMux) {
	for path, call := range map[string]sessionCall{
		"/create_session":   h.createSession,
		"/join_session":     h.joinSession,
		"/unjoin_session":   h.leaveSession,
		"/get_session_info": h.sessionInfo,
		"/reveal_anonymity": h.revealAnonymity,
		"/push_message":     h.pushMessage,
	} {
		mux.HandleFunc("GET "+path, h.legacyCall(call))
		mux.HandleFunc("POST "+path, h.legacyCall(call))
		mux.HandleFunc("HEAD "+path, refuseHead) // which GET includes, and who only looks changes nothing
	}
}

func refuseHead(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, POST")
	w.WriteHeader(http.StatusMethodNotAllowed)
}

// plainText is an answer that is not JSON.
type plainText string

// legacyCall reads the parameters, authenticates by auth_key, runs call and
// writes its answer. The original closed the connection where it refused;
// here there is a problem document.
func (h *Handler) legacyCall(call sessionCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := h.answer(w, r, call)
		if err != nil {
			gateway.Refuse(w, h.Core, h.Log, err)
			return
		}
		switch answer := answer.(type) {
		case plainText:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(w, string(answer))
		case legacyMember:
			status := http.StatusOK
			if answer.invited {
				status = http.StatusAccepted
			}
			gateway.WriteJSON(w, status, answer)
		default:
			gateway.WriteJSON(w, http.StatusOK, answer)
		}
	}
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, call sessionCall) (any, error) {
	who, err := h.caller(w, r)
	if err != nil {
		return nil, err
	}
	return call(r.Context(), who, r.Form)
}

// caller finds out who calls, and reads the parameters. Of who has not shown an
// auth key no more is read than it takes to find one.
func (h *Handler) caller(w http.ResponseWriter, r *http.Request) (who auth.Verified, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return who, errNoForm
	}
	shown, limit := query.Get("auth_key"), h.MaxFrame
	if shown == "" {
		limit = min(limit, gateway.MaxCallBody)
	} else if who, err = h.Verifier.Verify(r.Context(), shown); err != nil {
		return who, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, int64(limit))
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return who, tooLarge(limit, limit < h.MaxFrame)
		}
		return who, errNoForm
	}
	if key := r.Form.Get("auth_key"); key != shown || key == "" {
		return h.Verifier.Verify(r.Context(), key)
	}
	return who, nil
}

// errNoForm is without its cause, which quotes the parameters.
var errNoForm = envelope.Errorf(envelope.BadRequest, "the parameters are not in the form of a query")

func tooLarge(limit int, early bool) error {
	if early {
		return envelope.Errorf(envelope.TooLarge, "a body with the auth_key in it has at most %d bytes; with that in the query it may have more", limit)
	}
	return envelope.Errorf(envelope.TooLarge, "the body has at most %d bytes", limit)
}

// createSession answers with the session's id and nothing else.
func (h *Handler) createSession(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	cmd := gateway.CreateSession{
		Settings: envelope.Settings{AnyoneCanJoin: new(isTrue(form.Get("anyone_can_join")))},
		As:       gateway.Alias{Anonymous: wanted(form.Get("is_anonymous"))},
	}
	if few := form.Get("notify_only_last_few_users"); wanted(few) {
		n, err := strconv.Atoi(few)
		if err != nil || n < 0 {
			return nil, envelope.Errorf(envelope.BadRequest, "notify_only_last_few_users is a number; -1 means everybody")
		}
		cmd.Settings.NotifyLast = &n
	}
	if master := form.Get("session_game_master_node_id"); wanted(master) {
		cmd.Master = envelope.NodeID(master)
	}
	if cmd.Master != "" || wanted(form.Get("session_type")) {
		cmd.Settings.Kind = new(kindGame)
	}
	var members []listedMember
	if listed := form.Get("_session_info_"); listed != "" {
		if !who.App {
			return nil, envelope.Errorf(envelope.Forbidden, "_session_info_ is for auth keys of the app")
		}
		var err error
		if cmd.ID, members, err = decodeSessionInfo(listed); err != nil {
			return nil, err
		}
		cmd.Empty = true
	}
	master := slices.IndexFunc(members, func(m listedMember) bool { return m.as.Anonymous && m.node == cmd.Master })
	if master >= 0 { // its alias is, which is to be seen
		cmd.Master = ""
	}
	ev, err := h.Core.Do(ctx, who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	id := ev.(gateway.SessionInfo).ID
	for i, m := range members {
		added, err := h.change(ctx, who, id, gateway.Add, m.node, m.as)
		if err == nil && i == master {
			_, err = h.change(ctx, who, id, gateway.Appoint, added.name, gateway.Alias{})
		}
		if err != nil {
			return nil, err
		}
	}
	return plainText(id), nil
}

// joinSession answers with the device's id and its alias. Where the original
// let the owner add others, the owner invites them: they join by the same call,
// by an alias if they choose to. The app adds them.
func (h *Handler) joinSession(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	id, node, as := sessionOf(form), envelope.NodeID(form.Get("node_id")), aliasIn(form)
	switch {
	case node == "" || node == who.Node:
	case who.App:
		return h.change(ctx, who, id, gateway.Add, node, as)
	case as.Anonymous:
		return nil, errInvitedAs
	default:
		return h.change(ctx, who, id, gateway.Invite, node, as)
	}
	ev, err := h.Core.Do(ctx, who.Principal, gateway.JoinSession{ID: id, As: as})
	if err != nil {
		return nil, err
	}
	return legacyMember{node: who.Node, name: ev.(gateway.Membership).Node}, nil
}

// aliasIn reads by what alias somebody joins. Clients say it as they were told
// it, with the session's id, or only its name.
func aliasIn(form url.Values) gateway.Alias {
	name := form.Get("anonymous_id")
	if in, rest, ok := envelope.NodeID(name).Alias(); ok && in == sessionOf(form) {
		name = rest
	}
	return gateway.Alias{Anonymous: name != "" || wanted(form.Get("is_anonymous")), Name: name}
}

// change adds, invites or appoints a device. To whom it belongs no parameter says; it
// is taken for a user's only one.
func (h *Handler) change(ctx context.Context, who auth.Verified, id envelope.SessionID, action gateway.MemberAction, node envelope.NodeID, as gateway.Alias) (legacyMember, error) {
	ev, err := h.Core.Do(ctx, who.Principal, gateway.ChangeMember{ID: id, Action: action, Node: node, Client: envelope.ClientID(node), As: as})
	if err != nil {
		return legacyMember{}, err
	}
	m := ev.(gateway.MemberInfo)
	return legacyMember{node: node, name: m.Node, invited: m.State == stateInvited}, nil
}

// The states of a membership that make a difference here, see [gateway.MemberInfo].
const (
	stateJoined  = "joined"
	stateInvited = "invited"
)

// leaveSession answers with null.
func (h *Handler) leaveSession(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	_, err := h.Core.Do(ctx, who.Principal, gateway.LeaveSession{ID: sessionOf(form)})
	return nil, err
}

// legacySession is the original system's description of a session. Anonymous
// members are in it by their aliases.
type legacySession struct {
	SessionID     envelope.SessionID `json:"session_id"`
	NodeID        envelope.NodeID    `json:"node_id"`      // the owner
	CreatedAt     float64            `json:"created_at"`   // Unix seconds
	SessionType   int                `json:"session_type"` // 1: a game
	GameMaster    *envelope.NodeID   `json:"session_game_master_node_id"`
	NotifyLast    int                `json:"notify_only_last_few_users"` // −1: everybody
	AnyoneCanJoin bool               `json:"anyone_can_join"`
	NodeIDs       []envelope.NodeID  `json:"node_ids"`
	Current       *legacyMember      `json:"current_node_info,omitempty"`
}

// legacyMember is a device's id and its alias, which is null when it has none.
type legacyMember struct {
	node    envelope.NodeID
	name    envelope.NodeID // in the session: the alias, or else the id again
	invited bool            // and not a member yet
}

// MarshalJSON implements [json.Marshaler].
func (m legacyMember) MarshalJSON() ([]byte, error) {
	alias := "null"
	if m.name != m.node {
		alias = `"` + string(m.name) + `"` // an id needs no escaping
	}
	return []byte(`["` + string(m.node) + `",` + alias + `]`), nil
}

func (h *Handler) sessionInfo(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	ev, err := h.Core.Do(ctx, who.Principal, gateway.GetSession{ID: sessionOf(form), All: true})
	if err != nil {
		return nil, err
	}
	info := ev.(gateway.SessionInfo)
	reply := legacySession{
		SessionID: info.ID, NodeID: info.Owner, CreatedAt: float64(info.Created.UnixMilli()) / 1000, NotifyLast: -1,
		AnyoneCanJoin: *info.Settings.AnyoneCanJoin, NodeIDs: make([]envelope.NodeID, len(info.Members)),
	}
	if info.Own.State == stateJoined { // else it is the app, or invited
		reply.Current = &legacyMember{node: who.Node, name: info.Own.Node}
	}
	for i, m := range info.Members {
		reply.NodeIDs[i] = m.Node
	}
	if n := info.Settings.NotifyLast; n != nil && *n > 0 {
		reply.NotifyLast = *n
	}
	if kind := info.Settings.Kind; kind != nil && *kind == kindGame {
		reply.SessionType = 1
	}
	if info.Master != "" {
		reply.GameMaster = &info.Master
	}
	return reply, nil
}

// revealAnonymity answers with null.
func (h *Handler) revealAnonymity(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	_, err := h.Core.Do(ctx, who.Principal, gateway.RevealAnonymity{ID: sessionOf(form)})
	return nil, err
}

func sessionOf(form url.Values) envelope.SessionID { return envelope.SessionID(form.Get("session_id")) }

// kindGame is the kind of the sessions that the original called games, see
// [envelope.Settings].
const kindGame = "game"

var errInvitedAs = envelope.Errorf(envelope.BadRequest, "who is invited says when joining whether it does so by an alias")

// wanted reports whether a parameter asks for something. The original took
// every text for true; words that clearly say no are not asking for anything.
func wanted(s string) bool {
	switch strings.ToLower(s) {
	case "", "false", "0", "-1", "no", "none", "null":
		return false
	}
	return true
}
