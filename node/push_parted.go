package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// parts says that a connection has ended, before it follows nothing any more. Of
// what it was sent and has not acknowledged the server that took it may have
// been to see to, and have died. It never blocks.
func (w *waker) parts(c *conn) {
	if w == nil || !c.owes() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rememberParted(c.who.Node, time.Now())
}

// owes reports whether the client has not acknowledged all that is for it.
func (c *conn) owes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.follows.All() {
		log := f.log
		if f.started && !isTopic(log) && (f.shown > f.acked || f.head > f.sent) {
			return true
		}
	}
	return false
}

// rememberParted has a device looked at some time from now. Under mu.
func (w *waker) rememberParted(device envelope.NodeID, now time.Time) {
	if _, there := w.parted[device]; !there && len(w.parted) >= maxPushNoted {
		w.queue.Stats.Lost.Add(1)
		return
	}
	w.parted[device] = now.Add(w.after)
}

// lookAtParted looks at devices; when the store does not answer, later.
func (w *waker) lookAtParted(ctx context.Context, devices []envelope.NodeID) error {
	err := w.queue.LookAt(ctx, devices)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, device := range devices {
			w.rememberParted(device, time.Now())
		}
	}
	return err
}

// lost has the devices looked at that a dead boot of a server had connections
// of, some at a time: they may be many. Whoever repeats it does no harm.
func (w *waker) lost(ctx context.Context, id envelope.ServerID, boot string) error {
	if w == nil {
		return nil
	}
	edges, err := w.n.cfg.Graph.Store.EdgesOf(ctx, id, boot)
	if err != nil {
		return err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range edges {
		device := envelope.NodeID(e.Addr.ID)
		if _, _, alias := device.Alias(); e.Addr.Kind == envelope.KindNode && !alias {
			w.rememberParted(device, now)
		}
	}
	return nil
}

// leave has others look at what it was remembered here to look at.
func (w *waker) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushWithin)
	defer cancel()
	w.mu.Lock()
	logs, parted := slices.Collect(maps.Keys(w.looks)), slices.Collect(maps.Keys(w.parted))
	w.mu.Unlock()
	keys := make([]push.JobKey, 0, len(logs)+len(parted))
	for _, log := range logs {
		keys = append(keys, push.JobKey{Task: push.Look, Addr: log})
	}
	for _, device := range parted {
		keys = append(keys, push.JobKey{Task: push.Tell, Addr: device.Address()})
	}
	due := time.Now().Add(w.after).UnixMilli()
	for some := range slices.Chunk(keys, maxPushLooks) {
		if err := w.store.Touch(ctx, some, due); err != nil {
			w.queue.Stats.Lost.Add(uint64(len(keys)))
			w.n.log.Warn("nobody is woken of what this server had to look at", "err", err)
			return
		}
		keys = keys[len(some):]
	}
}
