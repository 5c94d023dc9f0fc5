package node

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
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

// drainServer has a server of the mesh drain, by its own word to the process it
// runs in. Asked again, one that does answers as before.
func (n *Node) drainServer(ctx context.Context, who envelope.Principal, cmd gateway.DrainServer) (gateway.Draining, error) {
	if !who.App {
		return gateway.Draining{}, errNotApp
	}
	servers := n.graph.Servers()
	at := slices.IndexFunc(servers, func(r graph.Record) bool { return r.ID == cmd.Server })
	if at < 0 {
		return gateway.Draining{}, envelope.Errorf(envelope.NotFound, "no such server")
	}
	reply := gateway.Draining{Server: cmd.Server, Boot: servers[at].Boot}
	if cmd.Server == n.cfg.Graph.Self.ID {
		n.drainHere(reply.Boot)
		return reply, nil
	}
	number, answer := n.questions.drain.ask()
	defer n.questions.drain.take(number)
	n.peers.send(cmd.Server, recordDrain, envelope.AppendString(binary.AppendUvarint(nil, number), reply.Boot))
	select {
	case <-answer:
		return reply, nil
	case <-time.After(askWithin):
		return gateway.Draining{}, envelope.BusyError(1000, "the server does not answer", nil)
	case <-ctx.Done():
		return gateway.Draining{}, context.Cause(ctx)
	}
}

// drainHere asks whoever runs this server to drain it, unless it has had a new
// boot since: then it was not meant.
func (n *Node) drainHere(boot string) bool {
	if boot != n.graph.Boot() {
		return false
	}
	select {
	case n.leaving <- struct{}{}:
		n.log.Info("asked to drain")
	default: // it has been asked already
	}
	return true
}

// DrainAsked has a token when the app has asked that this server leaves the
// mesh. Whoever runs it then calls [Node.Drain] and ends it.
func (n *Node) DrainAsked() <-chan struct{} { return n.leaving }

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
