// Package rest serves the HTTP API: guests, the pre-connection call, sessions, sending
// and reading messages without a socket, cursors, presence and traces.
package rest

import (
	"context"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// maxServers is how many servers the pre-connection call names.
const maxServers = 3

// Handler serves the HTTP API under /v1/.
type Handler struct {
	Core     gateway.Core
	Verifier *auth.Verifier
	Tickets  *auth.Tickets
	Guests   *auth.Guests // nil: none are made
	// MayMakeGuest refuses guests, by the address in ctx; nil: none are refused.
	MayMakeGuest func(ctx context.Context) error
	PushKey      string // the public key of Web Push, base64url; "" without it
	MaxFrame     int    // bytes of the largest message
	Log          *slog.Logger
}

// Register adds the calls to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	h.each(mux.HandleFunc)
	mux.HandleFunc("/v1/", gateway.Unmatched(mux, h.Core, h.Log))
}

// each hands over every call, by the pattern of its method and path.
func (h *Handler) each(handle func(pattern string, serve func(http.ResponseWriter, *http.Request))) {
	handle("GET /v1/openapi.json", h.openAPI)
	handle("POST /v1/connect", h.call(h.connect))
	if h.Guests != nil {
		handle("POST /v1/guests", h.guest)
	}
	handle("POST /v1/messages", h.call(h.send))
	handle("GET /v1/messages", h.call(h.history))
	handle("GET /v1/messages/{id}/trace", h.call(h.trace))
	handle("POST /v1/cursors", h.call(h.cursors))
	handle("GET /v1/cursors", h.call(h.getCursors))
	handle("POST /v1/messages:batch", h.call(h.sendMany))
	handle("POST /v1/disconnect", h.call(h.disconnect))
	handle("GET /v1/mesh", h.call(h.mesh))
	handle("POST /v1/servers/{id}/drain", h.call(h.drain))
	handle("GET /v1/edges", h.call(h.edges))
	handle("GET /v1/push/key", h.call(h.pushKey))
	handle("PUT /v1/push/token", h.call(h.putPushToken))
	handle("DELETE /v1/push/token", h.call(h.dropPushToken))
	handle("PUT /v1/push/mute", h.call(h.mute(false)))
	handle("DELETE /v1/push/mute", h.call(h.mute(true)))
	handle("POST /v1/push/test", h.call(h.testPush))
	handle("GET /v1/push/failed", h.call(h.failedPushes))
	handle("DELETE /v1/push/failed/{id}", h.call(h.settleFailedPush(false)))
	handle("POST /v1/push/failed/{id}/retry", h.call(h.settleFailedPush(true)))
	handle("GET /v1/presence", h.call(h.presence))
	handle("POST /v1/sessions", h.call(h.createSession))
	handle("GET /v1/sessions", h.call(h.listSessions))
	handle("GET /v1/sessions/{id}", h.call(h.getSession))
	handle("POST /v1/sessions/{id}/join", h.call(h.joinSession))
	handle("POST /v1/sessions/{id}/leave", h.call(h.leaveSession))
	handle("POST /v1/sessions/{id}/reveal", h.call(h.reveal))
	handle("PATCH /v1/sessions/{id}", h.call(h.updateSession))
	handle("GET /v1/sessions/{id}/header", h.call(h.header))
	handle("PUT /v1/sessions/{id}/header", h.call(h.setHeader))
	handle("POST /v1/revocations", h.call(h.revoke))
	handle("GET /v1/revocations", h.call(h.revocations))
	handle("GET /v1/hooks", h.call(h.hooks))
	handle("POST /v1/hooks/replay", h.call(h.replayHooks))
	for name, action := range map[string]gateway.MemberAction{
		"invite": gateway.Invite, "decline": gateway.Decline, "kick": gateway.Kick, "ban": gateway.Ban, "unban": gateway.Unban,
		"role": gateway.SetRole, "transfer": gateway.Transfer, "master": gateway.Appoint, "add": gateway.Add,
	} {
		handle("POST /v1/sessions/{id}/"+name, h.call(h.changeMember(action)))
	}
}

// call authenticates, runs f and writes its answer, which is JSON.
func (h *Handler) call(f func(r *http.Request, who auth.Verified) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := h.authenticate(r)
		var answer any
		if err == nil {
			answer, err = f(r, who)
		}
		if err != nil {
			gateway.Refuse(w, h.Core, h.Log, err)
			return
		}
		if text, ok := answer.(verbatim); ok {
			gateway.WriteVerbatim(w, text)
			return
		}
		gateway.WriteJSON(w, http.StatusOK, answer)
	}
}

func (h *Handler) authenticate(r *http.Request) (auth.Verified, error) {
	token, err := auth.Bearer(r)
	if err != nil {
		return auth.Verified{}, err
	}
	return h.Verifier.Verify(r.Context(), token)
}

type connectRequest struct {
	SessionID envelope.SessionID `json:"session_id"`
	Proxy     bool               `json:"proxy"`
}

type connectReply struct {
	Servers   []connectServer `json:"servers"`
	ExpiresIn int             `json:"expires_in"` // seconds
}

type connectServer struct {
	NodeID          envelope.ServerID `json:"node_id"`
	URL             string            `json:"url"`
	ProxyURL        string            `json:"proxy_url,omitempty"`
	ValidationToken string            `json:"validation_token"`
}

func (h *Handler) connect(r *http.Request, who auth.Verified) (any, error) {
	var req connectRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.Locate{NeedProxy: req.Proxy, Session: req.SessionID, Max: maxServers})
	if err != nil {
		return nil, err
	}
	found := ev.(gateway.Servers).Servers
	if len(found) == 0 {
		return nil, envelope.BusyError(1000, "no server takes connections", nil)
	}
	reply := connectReply{Servers: make([]connectServer, 0, len(found))}
	for _, s := range found {
		ticket, expires, err := h.Tickets.Issue(s.ID, s.Boot, who)
		if err != nil {
			return nil, err
		}
		reply.ExpiresIn = int(time.Until(expires).Round(time.Second).Seconds())
		reply.Servers = append(reply.Servers, connectServer{NodeID: s.ID, URL: s.URL, ProxyURL: s.ProxyURL, ValidationToken: ticket})
	}
	return reply, nil
}

// readJSON reads the body of a call strictly into v. No body is an empty object.
func readJSON(r *http.Request, v any) error {
	body, err := readBody(r, gateway.MaxCallBody)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := envelope.UnmarshalStrict(body, v); err != nil {
		return &envelope.Error{Code: envelope.BadRequest, Detail: "the body is not the JSON object this call takes", Cause: err}
	}
	return nil
}

func readBody(r *http.Request, max int) ([]byte, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if mt, _, err := mime.ParseMediaType(t); err != nil || mt != "application/json" && mt != "application/x-www-form-urlencoded" {
			return nil, &gateway.StatusError{
				Status: http.StatusUnsupportedMediaType, Err: envelope.Errorf(envelope.BadRequest, "the body must be application/json"),
			}
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(max)+1))
	if err != nil {
		return nil, &envelope.Error{Code: envelope.BadRequest, Detail: "the body did not arrive", Cause: err}
	}
	if len(body) > max {
		return nil, envelope.Errorf(envelope.TooLarge, "the body has at most %d bytes", max)
	}
	return body, nil
}
