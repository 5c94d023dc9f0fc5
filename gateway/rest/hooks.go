package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/gateway"
)

type replayRequest struct {
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
