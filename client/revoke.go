package client

import (
	"context"
	"net/http"

	"github.com/allsparkrt/allspark/envelope"
)

// Revocation says that auth keys are worth nothing any more: the one of a name,
// or all of a user, of a device or of everybody that were issued before a time.
// One of the first four is given.
type Revocation struct {
	JTI    string            `json:"jti,omitempty"`
	Client envelope.ClientID `json:"client_id,omitempty"`
	Node   envelope.NodeID   `json:"node_id,omitempty"`
	All    bool              `json:"all,omitempty"`

	Before  int64 `json:"before,omitempty"`  // Unix milliseconds; 0: now
	Expires int64 `json:"expires,omitempty"` // until when it counts, Unix milliseconds; in answers
}

// Revoke revokes auth keys and ends the connections made with them, on all
// servers; for the app. It returns what is revoked.
func (a *API) Revoke(ctx context.Context, r Revocation) (Revocation, error) {
	r.Expires = 0
	var reply Revocation
	err := a.post(ctx, "/v1/revocations", r, &reply, true)
	return reply, err
}

// RevocationsPage is some of what is revoked, in the order of what it is about.
type RevocationsPage struct {
	Revocations []Revocation `json:"revocations"`
	Next        string       `json:"next,omitempty"` // after which the next page is
	More        bool         `json:"more"`
}

// Revocations returns a page of what is revoked, for the app: behind after, at
// most limit; 0: as many as a page has.
func (a *API) Revocations(ctx context.Context, after string, limit int) (RevocationsPage, error) {
	var reply RevocationsPage
	err := a.call(ctx, http.MethodGet, pageOf("/v1/revocations", after, limit), nil, &reply, true)
	return reply, err
}
