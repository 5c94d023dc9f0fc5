package client

import (
	"context"
	"net/http"

	"github.com/allsparkrt/allspark/envelope"
)

// HookReceiver is somewhere that the mesh sends events to, and how far it has got.
type HookReceiver struct {
	Name       string          `json:"name"`
	Types      []string        `json:"types,omitempty"` // what it is told; none: everything
	Partitions []HookPartition `json:"partitions"`      // in which there has ever been an event
}

// HookPartition is how far a receiver has got in a partition. Times are Unix
// milliseconds.
type HookPartition struct {
	Partition int               `json:"partition"`
	Server    envelope.ServerID `json:"server,omitempty"` // that delivers it
	Position  uint64            `json:"position"`
	Head      uint64            `json:"head"`
	Lag       uint64            `json:"lag"` // events behind the position

	FailingSince int64  `json:"failing_since,omitempty"` // 0: it goes well
	Attempts     int    `json:"attempts,omitempty"`
	Reason       string `json:"reason,omitempty"`
	PausedUntil  int64  `json:"paused_until,omitempty"` // it has said that it is gone
}

// Hooks returns how far the receivers of events have got. For the app.
func (a *API) Hooks(ctx context.Context) ([]HookReceiver, error) {
	var reply struct {
		Receivers []HookReceiver `json:"receivers"`
	}
	err := a.call(ctx, http.MethodGet, "/v1/hooks", nil, &reply, true)
	return reply.Receivers, err
}

// HookReplay says which events are to be sent again.
type HookReplay struct {
	ID        string `json:"id,omitempty"`       // by which a repetition of the call is recognised
	Receiver  string `json:"receiver,omitempty"` // may be absent when there is one
	Partition int    `json:"partition"`
	After     uint64 `json:"after"` // those behind that seq
}

// ReplayHooks has events of a partition sent to a receiver again, as far as they
// are kept, and before what comes later. For the app.
func (a *API) ReplayHooks(ctx context.Context, r HookReplay) error {
	return a.post(ctx, "/v1/hooks/replay", r, new(struct{}), r.ID != "")
}
