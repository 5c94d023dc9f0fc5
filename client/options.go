package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"

	"github.com/allsparkrt/allspark/envelope"
)

// Options say how to connect. Servers and a key are needed, the rest is not.
type Options struct {
	// Servers are base URLs ("https://host:port") for the pre-connection call,
	// tried in turn. Servers named in replies are tried after them.
	Servers []string
	// AuthKey is the device's credential.
	AuthKey string
	// NewAuthKey returns the credential instead, for each call anew; it may be
	// called by several goroutines at a time. Half a minute before the one of the
	// connection ends it is asked for another, with which the connection goes on.
	NewAuthKey func(ctx context.Context) (string, error)
	// Session asks for a server that has members of this session.
	Session envelope.SessionID
	// Proxy asks for a server that can be reached by ports 80 and 443 only.
	Proxy bool

	// Cursors say up to which seq each log has been handled before; nil or an
	// absent log means up to the cursor that the server keeps.
	Cursors map[envelope.Address]uint64
	// Epoch is that of the store which Cursors are from (see [Client.Epoch]).
	Epoch string
	// FromNow starts at the ends of the logs, without what has been waiting.
	FromNow bool
	// ManualAck leaves it to the user to call [Client.Ack].
	ManualAck bool

	// OnGap is told when entries of a log are gone. It is called by
	// [Client.Receive] in the place where they are missing.
	OnGap func(Gap)
	// OnCaughtUp is told when everything that was waiting has been received.
	// It is called by [Client.Receive] after the last such message, once for
	// each connection.
	OnCaughtUp func(heads map[envelope.Address]uint64)
	// OnHeader is told the header of a session that has one before anything of
	// what follows there: for a member who has received nothing yet, and after a
	// gap. It is called by [Client.Receive] in that place.
	OnHeader func(Header)
	// OnReceipt is told when a message sent with Receipt has reached a device
	// of another user, or has been read there. It must not block.
	OnReceipt func(Receipt)
	// OnRead is told how far the user has read on its other devices, forward
	// only, and after the first connection how far on any. It must not block.
	OnRead func(cursors map[envelope.Address]uint64)
	// OnPresence is told what the server says of users' presence: when they
	// come and go, to a subscription, and in answer to [Client.Presence]. It
	// must not block.
	OnPresence func([]envelope.Presence)
	// OnState is told when the state changes, and the reason if it is an
	// error. It must not block.
	OnState func(State, error)

	MaxInflight int // sends waiting for their answers; default 1024
	MaxFrame    int // bytes of the largest frame to send; default [envelope.DefaultMaxFrame]
	Buffer      int // messages that may wait for the user; default 256

	HTTPClient *http.Client // default [http.DefaultClient]
	Logger     *slog.Logger // default: none
	Rand       rand.Source  // of the back-off's jitter; used by one goroutine; default: random

	oneKey bool // there is no other auth key
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Servers) == 0 {
		return o, errors.New("client: no servers")
	}
	if o.NewAuthKey == nil {
		if o.AuthKey == "" {
			return o, errors.New("client: no auth key")
		}
		o.oneKey = true
		key := o.AuthKey
		o.NewAuthKey = func(context.Context) (string, error) { return key, nil }
	}
	if o.MaxInflight <= 0 {
		o.MaxInflight = 1024
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = envelope.DefaultMaxFrame
	}
	if o.Buffer <= 0 {
		o.Buffer = 256
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return o, nil
}
