package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// PushToken says where a push service reaches the app on a device.
type PushToken struct {
	Service string // "apns", "fcm" or "webpush"
	Token   string // of webpush the subscription's endpoint
	App     string // of apns the bundle id
	Sandbox bool   // of apns: the development environment
	Locale  string // BCP 47, in which notifications are worded; "": the server's default

	P256DH, Auth []byte // of webpush the subscription's keys
}

// MarshalJSON implements [json.Marshaler]: the form of PUT /v1/push/token.
func (t PushToken) MarshalJSON() ([]byte, error) {
	type keys struct {
		P256DH string `json:"p256dh,omitempty"`
		Auth   string `json:"auth,omitempty"`
	}
	return json.Marshal(struct {
		Service string `json:"service,omitempty"`
		Token   string `json:"token,omitempty"`
		App     string `json:"app,omitempty"`
		Sandbox bool   `json:"sandbox,omitempty"`
		Locale  string `json:"locale,omitempty"`
		Keys    keys   `json:"keys,omitzero"`
	}{
		t.Service, t.Token, t.App, t.Sandbox, t.Locale,
		keys{base64.RawURLEncoding.EncodeToString(t.P256DH), base64.RawURLEncoding.EncodeToString(t.Auth)},
	})
}

// PutPushToken says where the caller's device can be woken when it has no
// connection. The token leaves the device that has registered it before, and
// takes the place of an older one of the same app.
func (a *API) PutPushToken(ctx context.Context, t PushToken) error {
	return a.pushCall(ctx, http.MethodPut, "/v1/push/token", t)
}

// DropPushToken takes back [API.PutPushToken]; of t the Service and the Token
// count, and "" of either is any.
func (a *API) DropPushToken(ctx context.Context, t PushToken) error {
	return a.pushCall(ctx, http.MethodDelete, "/v1/push/token", PushToken{Service: t.Service, Token: t.Token})
}

type mute struct {
	Log   string `json:"log"`
	Until int64  `json:"until,omitempty"`
}

// Mute keeps what is said in a session, or comes to the caller's user or device,
// from waking the device until a time; the zero time means for good.
func (a *API) Mute(ctx context.Context, log envelope.Address, until time.Time) error {
	m := mute{Log: log.String()}
	if !until.IsZero() {
		m.Until = until.UnixMilli()
	}
	return a.pushCall(ctx, http.MethodPut, "/v1/push/mute", m)
}

// Unmute takes back [API.Mute].
func (a *API) Unmute(ctx context.Context, log envelope.Address) error {
	return a.pushCall(ctx, http.MethodDelete, "/v1/push/mute", mute{Log: log.String()})
}

// pushCall makes a call that may be repeated and answers nothing.
func (a *API) pushCall(ctx context.Context, method, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var reply struct{}
	return a.call(ctx, method, path, raw, &reply, true)
}
