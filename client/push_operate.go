package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/allsparkrt/allspark/envelope"
)

// PushTest says which device is to be sent a notification now, and what; without
// any text it says Test.
type PushTest struct {
	Node  envelope.NodeID `json:"node_id,omitempty"` // "": the caller's; another for the app only
	Title string          `json:"title,omitempty"`
	Body  string          `json:"body,omitempty"`
}

// PushTry is what a push service has said to a notification.
type PushTry struct {
	Service string `json:"service"`
	Token   string `json:"token"` // a digest that tells tokens apart
	Sent    bool   `json:"sent"`
	Reason  string `json:"reason,omitempty"` // why not, in the service's word
	Gone    bool   `json:"gone,omitempty"`   // the token is dead, and dropped
	Retry   bool   `json:"retry,omitempty"`  // it may be taken later, in RetryMS
	RetryMS int64  `json:"retry_ms,omitempty"`
}

// TestPush sends one notification to each push token of a device at once, and
// returns what the services have said.
func (a *API) TestPush(ctx context.Context, t PushTest) ([]PushTry, error) {
	var reply struct {
		Tokens []PushTry `json:"tokens"`
	}
	err := a.post(ctx, "/v1/push/test", t, &reply, false)
	return reply.Tokens, err
}

// FailedPush is a notification that was given up: the last one of a device.
type FailedPush struct {
	Node     envelope.NodeID `json:"node_id"`
	At       int64           `json:"at"`            // Unix milliseconds
	Log      string          `json:"log,omitempty"` // the device's own or its user's; "": a session's
	Seq      uint64          `json:"seq,omitempty"` // there
	Service  string          `json:"service"`
	Reason   string          `json:"reason"` // the service's word
	Attempts int             `json:"attempts"`
}

// FailedPushesPage is some of the notifications that were given up, in the order
// of the devices' ids.
type FailedPushesPage struct {
	Failed []FailedPush    `json:"failed"`
	Next   envelope.NodeID `json:"next,omitempty"` // after which the next page is
	More   bool            `json:"more"`
}

// FailedPushes returns a page of what was given up, for the app: of devices
// behind after, at most limit; 0: as many as a page has.
func (a *API) FailedPushes(ctx context.Context, after envelope.NodeID, limit int) (FailedPushesPage, error) {
	var reply FailedPushesPage
	err := a.call(ctx, http.MethodGet, pageOf("/v1/push/failed", string(after), limit), nil, &reply, true)
	return reply, err
}

// RetryFailedPush has a device told again of what was given up, if it has not
// got it by then; for the app.
func (a *API) RetryFailedPush(ctx context.Context, node envelope.NodeID) error {
	return a.call(ctx, http.MethodPost, "/v1/push/failed/"+url.PathEscape(string(node))+"/retry", nil, new(struct{}), true)
}

// ForgetFailedPush takes off the list what was given up for a device; for the app.
func (a *API) ForgetFailedPush(ctx context.Context, node envelope.NodeID) error {
	return a.call(ctx, http.MethodDelete, "/v1/push/failed/"+url.PathEscape(string(node)), nil, new(struct{}), true)
}
