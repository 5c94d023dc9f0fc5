package client

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Guest is an identity for somebody without an account.
type Guest struct {
	AuthKey   string            `json:"auth_key"`
	Node      envelope.NodeID   `json:"node_id"`
	Client    envelope.ClientID `json:"client_id"`
	ExpiresIn int               `json:"expires_in"` // seconds
}

// Lasts returns how long the identity lasts from when it was made.
func (g Guest) Lasts() time.Duration { return time.Duration(g.ExpiresIn) * time.Second }

// Guest makes a new identity, with which one connects, joins sessions, speaks
// and reads there, and nothing else; with only, in that session alone. The call
// needs no credential: AuthKey is not asked and may be nil. The error is
// NotFound where servers take no guests.
func (a *API) Guest(ctx context.Context, only envelope.SessionID) (Guest, error) {
	anybody := API{Servers: a.Servers, HTTPClient: a.HTTPClient}
	var body any
	if only != "" {
		body = struct {
			Session envelope.SessionID `json:"session_id"`
		}{only}
	}
	var g Guest
	return g, anybody.post(ctx, "/v1/guests", body, &g, true)
}
