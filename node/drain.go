package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// drainPoll is how often a drain looks whether everybody has left.
const drainPoll = 50 * time.Millisecond

// Drain takes the server out of the mesh in peace: it stops being ready and
// taking clients, tells each client when to come back elsewhere, spread over
// half the time ctx leaves, waits for them to go, says goodbye to those that
// stay, writes what is unwritten and leaves. After that Run may be ended.
func (n *Node) Drain(ctx context.Context) {
	n.draining.Store(true)
	n.graph.SetDraining(true)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	window := time.Until(deadline) / 2

	var elsewhere []string
	for _, r := range n.graph.Servers() {
		if r.ID != n.cfg.Graph.Self.ID && !r.Draining {
			elsewhere = append(elsewhere, r.URL)
		}
	}
	if len(elsewhere) == 0 {
		window = 0 // nowhere to go: spreading them out helps nobody
	}
	for _, c := range n.conns.all() {
		c.leave(rand.N(window+1), elsewhere)
	}
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for n.conns.len() > 0 && ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	n.closeAll(envelope.GoingAway, "the server is shutting down")

	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := n.inbox.Flush(leaving); err != nil {
		n.log.Warn("cursors not saved; deliveries will repeat", "err", err)
	}
	n.graph.Leave(leaving)
}

// leaveGrace is what a client gets on top of the time it was told to wait.
const leaveGrace = time.Second

// leave asks the client to come back elsewhere after a while, and closes the
// connection if it is still there then.
func (c *conn) leave(after time.Duration, urls []string) {
	c.reply(gateway.Reconnect{After: after, URLs: urls})
	c.spawn(func() {
		select {
		case <-time.After(after + leaveGrace):
			c.close(envelope.GoingAway, "the server is shutting down; connect to another")
		case <-c.ctx.Done():
		}
	})
}
