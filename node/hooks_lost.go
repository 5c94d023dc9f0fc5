package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
)

// serversChanged says that some have come or gone. It never blocks.
func (h *hooks) serversChanged() {
	if h == nil {
		return
	}
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// watchServers records of servers that have died which devices they had. One of
// the living does it at once. Should it not get that far, it is made up for
// before the dead server's edges are dropped (see [hooks.lost]).
func (h *hooks) watchServers(ctx context.Context) {
	known := make(map[envelope.ServerID]string)
	for {
		alive := make(map[envelope.ServerID]string)
		for _, r := range h.n.graph.Servers() {
			alive[r.ID] = r.Boot
		}
		for id, boot := range known {
			if alive[id] == boot || !h.n.chosen(envelope.Address{Kind: envelope.KindHook, ID: string(id)}) {
				continue
			}
			if err := h.lost(ctx, id, boot); err != nil && ctx.Err() == nil {
				h.n.log.Warn("it is not recorded yet which devices a dead server had", "server", id, "err", err)
			}
		}
		known = alive
		select {
		case <-h.news:
		case <-ctx.Done():
			return
		}
	}
}

// lost records that the connections have ended that a dead boot of a server had:
// those whose edges are still there. Whoever repeats it says the same.
func (h *hooks) lost(ctx context.Context, id envelope.ServerID, boot string) error {
	if h == nil {
		return nil
	}
	edges, err := h.n.cfg.Graph.Store.EdgesOf(ctx, id, boot)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	var batch []*queued
	for i, e := range edges {
		device := envelope.NodeID(e.Addr.ID)
		if _, _, alias := device.Alias(); e.Addr.Kind == envelope.KindNode && !alias {
			batch = append(batch, &queued{event: hook.Event{
				ID: e.Conn + ":" + boot + ":lost", Type: hook.Disconnected, Subject: e.Addr.String(),
				Node: device, Connection: e.Conn, Server: id, Reason: "lost",
			}, at: now})
		}
		if len(batch) < hookBatch && i < len(edges)-1 || len(batch) == 0 {
			continue
		}
		for wait := readRetry; ; wait = min(2*wait, readRetryMax) {
			if batch = h.put(ctx, batch); len(batch) == 0 {
				break
			}
			if pause(ctx, wait); ctx.Err() != nil {
				return envelope.BusyError(1000, "the store did not take the events", context.Cause(ctx))
			}
		}
	}
	return nil
}
