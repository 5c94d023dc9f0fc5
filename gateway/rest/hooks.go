package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type hooksReply struct {
	Receivers []receiverReply `json:"receivers"`
}

type receiverReply struct {
	Name       string           `json:"name"`
	Types      []string         `json:"types,omitempty"` // none: all
	Partitions []partitionReply `json:"partitions"`      // in which there has ever been an event
}

type partitionReply struct {
	Partition int               `json:"partition"`
	Server    envelope.ServerID `json:"server,omitempty"` // that delivers it
	Position  uint64            `json:"position"`
	Head      uint64            `json:"head"`
	Lag       uint64            `json:"lag"` // events behind the position
	// When it does not go well; times are Unix milliseconds.
	FailingSince int64  `json:"failing_since,omitempty"`
	Attempts     int    `json:"attempts,omitempty"`
	Reason       string `json:"reason,omitempty"`
	PausedUntil  int64  `json:"paused_until,omitempty"` // it has said that it is gone
}

// hooks answers GET /v1/hooks.
func (h *Handler) hooks(r *http.Request, who auth.Verified) (any, error) {
	if _, err := query(r); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.GetHooks{})
	if err != nil {
		return nil, err
	}
	reply := hooksReply{Receivers: []receiverReply{}}
	for _, of := range ev.(gateway.Hooks).Receivers {
		receiver := receiverReply{Name: of.Name, Types: of.Types, Partitions: []partitionReply{}}
		for _, p := range of.Partitions {
			partition := partitionReply{
				Partition: p.Partition, Server: p.Server, Position: p.Position, Head: p.Head, Lag: p.Head - p.Position,
			}
			if t := p.Trouble; t != nil {
				partition.FailingSince, partition.Attempts, partition.Reason, partition.PausedUntil = t.Since, t.Attempts, t.Reason, t.Paused
			}
			receiver.Partitions = append(receiver.Partitions, partition)
		}
		reply.Receivers = append(reply.Receivers, receiver)
	}
	return reply, nil
}

type replayRequest struct {
	ID        string `json:"id"`       // by which a repetition is recognised
	Receiver  string `json:"receiver"` // may be absent when there is one
	Partition int    `json:"partition"`
	After     uint64 `json:"after"`
}

// replayHooks answers POST /v1/hooks/replay.
func (h *Handler) replayHooks(r *http.Request, who auth.Verified) (any, error) {
	var req replayRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	_, err := h.Core.Do(r.Context(), who.Principal, gateway.ReplayHooks(req))
	return struct{}{}, err
}
