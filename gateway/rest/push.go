package rest

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// tokenRequest is the body of the calls about push tokens. Endpoint and Keys are
// a browser's PushSubscription as it is (toJSON).
type tokenRequest struct {
	Service  string           `json:"service"` // "apns", "fcm" or "webpush"
	Token    string           `json:"token"`   // of webpush endpoint instead
	App      string           `json:"app"`     // of apns: the bundle id
	Sandbox  bool             `json:"sandbox"` // of apns: the development environment
	Locale   string           `json:"locale"`
	Endpoint string           `json:"endpoint"`
	Keys     subscriptionKeys `json:"keys"`
	Expires  *float64         `json:"expirationTime"` // browsers give it; it is not needed
}

type subscriptionKeys struct {
	P256DH string `json:"p256dh"` // base64url
	Auth   string `json:"auth"`
}

func (r tokenRequest) value() string {
	if r.Endpoint != "" {
		return r.Endpoint
	}
	return r.Token
}

type pushKeyReply struct {
	VAPIDKey string `json:"vapid_public_key"` // base64url: applicationServerKey of PushManager.subscribe
}

// pushKey answers GET /v1/push/key.
func (h *Handler) pushKey(*http.Request, auth.Verified) (any, error) {
	if h.PushKey == "" {
		return nil, envelope.Errorf(envelope.NotFound, "this server sends nothing to browsers")
	}
	return pushKeyReply{h.PushKey}, nil
}

// putPushToken answers PUT /v1/push/token.
func (h *Handler) putPushToken(r *http.Request, who auth.Verified) (any, error) {
	var req tokenRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	cmd := gateway.PutPushToken{Service: req.Service, Value: req.value(), App: req.App, Sandbox: req.Sandbox, Locale: req.Locale}
	cmd.By = gateway.Credential{JTI: who.JTI, Issued: who.Issued}
	var err error
	if cmd.P256DH, err = base64url("keys.p256dh", req.Keys.P256DH); err != nil {
		return nil, err
	}
	if cmd.Auth, err = base64url("keys.auth", req.Keys.Auth); err != nil {
		return nil, err
	}
	_, err = h.Core.Do(r.Context(), who.Principal, cmd)
	return struct{}{}, err
}

// base64url reads a key as browsers give it, padded or not.
func base64url(name, text string) ([]byte, error) {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, envelope.Errorf(envelope.BadRequest, "%s is not base64url", name)
	}
	return key, nil
}

// dropPushToken answers DELETE /v1/push/token: without a body, all of the device's.
func (h *Handler) dropPushToken(r *http.Request, who auth.Verified) (any, error) {
	var req tokenRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	_, err := h.Core.Do(r.Context(), who.Principal, gateway.DropPushToken{Service: req.Service, Value: req.value()})
	return struct{}{}, err
}

type muteRequest struct {
	Log   string `json:"log"`   // session:ID, or client:ID or node:ID of the caller
	Until int64  `json:"until"` // Unix milliseconds; 0: for good
}

// mute answers PUT and, with off, DELETE /v1/push/mute.
func (h *Handler) mute(off bool) func(*http.Request, auth.Verified) (any, error) {
	return func(r *http.Request, who auth.Verified) (any, error) {
		var req muteRequest
		if err := readJSON(r, &req); err != nil {
			return nil, err
		}
		log, err := envelope.ParseAddress(req.Log)
		if err != nil || req.Until < 0 {
			return nil, envelope.Errorf(envelope.BadRequest, "log is an address such as session:ID, until a time in milliseconds")
		}
		_, err = h.Core.Do(r.Context(), who.Principal, gateway.Mute{Log: log, Until: req.Until, Off: off})
		return struct{}{}, err
	}
}
