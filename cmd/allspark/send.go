package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// sendCmd sends one message.
type sendCmd struct {
	remote

	To        string `xor:"device" placeholder:"NODE" help:"The device to send to; with --to-session privately to that member of it, which may be an alias."`
	ToClient  string `xor:"device,session" placeholder:"CLIENT" help:"The user to send to."`
	ToSession string `xor:"session" placeholder:"SESSION" help:"The session to send to."`

	Class   string        `default:"durable" enum:"durable,volatile,latest" help:"Delivery: durable, volatile or latest."`
	Key     string        `placeholder:"KEY" help:"What a newer message of class latest replaces."`
	ID      string        `name:"id" placeholder:"ID" help:"Id of the message; a message sent twice with one id is stored once. Default: random."`
	JSON    string        `name:"json" placeholder:"PAYLOAD" help:"Payload as JSON, in place of TEXT."`
	Timeout time.Duration `default:"10s" help:"How long to try; 0 without end."`

	Text *string `arg:"" optional:"" help:"Payload as text."`
}

// Run sends the message and prints the acknowledgement. Without one it fails.
func (c *sendCmd) Run(ctx context.Context, sys *system) error {
	e, err := c.envelope()
	if err != nil {
		return err
	}
	api, err := c.api(sys)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c.Timeout, "no acknowledgement")
	defer cancel()
	ack, err := send(ctx, api, e)
	if err != nil {
		return err
	}
	var out struct {
		ID  string `json:"id"`
		Seq uint64 `json:"seq"`
		Log string `json:"log"`
	}
	out.ID, out.Seq = ack.ID, ack.Seq
	if !ack.Log.IsZero() {
		out.Log = ack.Log.String()
	}
	return json.NewEncoder(sys.stdout).Encode(out)
}

// Pauses between attempts to send.
const (
	sendRetry    = 200 * time.Millisecond
	sendRetryMax = 2 * time.Second
)

// send tries until the message is acknowledged or finally refused. It makes
// HTTP calls, because a connection would replace the one that the device may
// have. Its id makes the message the same one each time.
func send(ctx context.Context, api *client.API, e envelope.Envelope) (client.Ack, error) {
	for pause := sendRetry; ; pause = min(2*pause, sendRetryMax) {
		ack, err := api.SendHTTP(ctx, e)
		refusal, refused := errors.AsType[*envelope.Error](err)
		if err == nil || refused && !refusal.Code.Retry() || e.Class != envelope.Durable {
			return ack, err
		}
		if refused && refusal.RetryMS > 0 {
			pause = time.Duration(refusal.RetryMS) * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(err, cause) {
				err = fmt.Errorf("%w: %w", cause, err)
			}
			return ack, err
		}
	}
}

// envelope returns the message to send.
func (c *sendCmd) envelope() (envelope.Envelope, error) {
	e := envelope.Envelope{
		ID:          cmp.Or(c.ID, rand.Text()), // only what has an id is acknowledged
		DestNode:    envelope.NodeID(c.To),
		DestClient:  envelope.ClientID(c.ToClient),
		DestSession: envelope.SessionID(c.ToSession),
		Key:         c.Key,
	}
	switch c.Class {
	case "volatile":
		e.Class = envelope.Volatile
	case "latest":
		e.Class = envelope.Latest
	}
	switch {
	case e.Dest().IsZero():
		return e, usageError("give --to, --to-client or --to-session")
	case (c.Text == nil) == (c.JSON == ""):
		return e, usageError("give either TEXT or --json")
	case c.Text != nil:
		e.SetPayload(*c.Text)
	case !json.Valid([]byte(c.JSON)):
		return e, usageError("--json: not JSON")
	default:
		e.Body = []byte(`"payload":` + c.JSON)
	}
	return e, nil
}
