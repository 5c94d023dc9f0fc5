package gateway

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Refresh gives a connection another credential of the same device to live by.
// The reply is [Refreshed].
type Refresh struct {
	ID      string // given back; "" none
	AuthKey string
}

func (Refresh) command() {}

type (
	// Expiring says when the connection ends unless its client asks for [Refresh].
	Expiring struct{ At time.Time }
	// Refreshed answers [Refresh].
	Refreshed struct {
		ID      string
		Expires time.Time // when the connection ends now
	}
)

func (Expiring) event()  {}
func (Refreshed) event() {}

// Verified is what a connection lives by.
type Verified struct {
	Who     envelope.Principal
	Expires time.Time // zero: never
	Credential
}

// Verify checks an auth key. The error is an [*envelope.Error].
type Verify func(ctx context.Context, authKey string) (Verified, error)
