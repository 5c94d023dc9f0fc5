package node

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/hook"
)

// errBack means that a server was not dead.
var errBack = errors.New("the server is back")

// serversChanged says that some have come or gone. It never blocks.
func (h *hooks) serversChanged() {
	if h == nil {
		return
	}
	poke(h.news)
}

// watchServers records of servers that have died which devices they had. One of
// the living does it at once. Should it not get that far, it is made up for
// before the dead server's edges are dropped (see [hooks.lost]).
func (h *hooks) watchServers(ctx context.Context) {
	known := make(map[envelope.ServerID]graph.Record)
	for {
		alive := make(map[envelope.ServerID]graph.Record)
		for _, r := range h.n.graph.Servers() {
			alive[r.ID] = r
		}
		for id, was := range known {
			if alive[id].Boot == was.Boot || !h.n.chosen(envelope.Address{Kind: envelope.KindHook, ID: string(id)}) {
				continue
			}
			if err := h.lost(ctx, was, func() bool { return h.n.graph.Lives(id) }); err != nil && !errors.Is(err, errBack) && ctx.Err() == nil {
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
// those whose edges are still there. Whoever repeats it says the same. It ends with
// errBack when the server is back: that makes up for it itself, see [hooks.keep] and
// [graph.Config.OnDead].
func (h *hooks) lost(ctx context.Context, dead graph.Record, back func() bool) error {
	if h == nil {
		return nil
	}
	edges, err := h.n.cfg.Graph.Store.EdgesOf(ctx, dead.ID, dead.Boot)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	which := ":" + dead.Boot + ":lost" // the same connection may be lost again
	if dead.Revivals > 0 {
		which += strconv.FormatUint(dead.Revivals, 10)
	}
	var batch []*queued
	for i, e := range edges {
		device := envelope.NodeID(e.Addr.ID)
		if _, _, alias := device.Alias(); e.Addr.Kind == envelope.KindNode && !alias {
			batch = append(batch, &queued{event: hook.Event{
				ID: e.Conn + which, Type: hook.Disconnected, Subject: e.Addr.String(),
				Node: device, Connection: e.Conn, Server: dead.ID, Reason: "lost",
			}, at: now})
		}
		if len(batch) < hookBatch && i < len(edges)-1 || len(batch) == 0 {
			continue
		}
		for wait := readRetry; ; wait = min(2*wait, readRetryMax) {
			if back() {
				return errBack
			}
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

// revived says that others have taken this server for dead. It never blocks.
func (h *hooks) revived() {
	if h == nil {
		return
	}
	poke(h.revival)
}

// keep says of all connections anew that they are there, after others have
// recorded that they are lost: they were not.
func (h *hooks) keep(ctx context.Context) {
	for {
		select {
		case <-h.revival:
		case <-ctx.Done():
			return
		}
		pause(ctx, h.n.graph.Tolerance()) // by then nobody records any more that they are
		for _, c := range h.n.conns.all() {
			for len(h.queue) > maxHookQueue/2 { // the rest is for what happens meanwhile
				if pause(ctx, readRetry); ctx.Err() != nil {
					return
				}
			}
			h.kept(c)
		}
	}
}

// kept says that a device is still connected, unless that may have been said to
// have ended.
func (h *hooks) kept(c *conn) {
	e := h.connection(c, hook.Connected)
	e.ID, e.Reason = e.ID+":"+rand.Text(), "kept"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		h.tell(e)
	}
}
