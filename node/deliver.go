package node

import (
	"github.com/allsparkrt/allspark/envelope"
)

// publishStored hands a message that is in its log to its readers. The sender
// has been acknowledged; what gets lost from here on, a reader finds in the log.
func (n *Node) publishStored(log envelope.Address, env *envelope.Envelope, seq uint64) {
	if log.Kind == envelope.KindHook {
		n.hooks.wake(log)
		return
	}
	env.Seq = seq
	n.publish(log, env)
	n.keeper.appended(log, seq)
}

// publish hands a message to the local readers of its address and to the
// servers with an edge for it. It never blocks. env is read-only from here on.
func (n *Node) publish(addr envelope.Address, env *envelope.Envelope) {
	reached := n.deliver(addr, env) > 0
	if servers, ok := n.graph.Settled(addr, env.Seq); ok {
		n.forward(servers, addr, env, reached)
		return
	}
	n.graph.Route(addr, env.Seq, func(servers []envelope.ServerID) { n.forward(servers, addr, env, reached) })
}

// forward hands a message to the servers with an edge for its address; here
// says whether it has reached somebody at this one.
func (n *Node) forward(servers []envelope.ServerID, addr envelope.Address, env *envelope.Envelope, here bool) {
	n.peers.deliver(servers, addr, env)
	if !here && len(servers) == 0 && env.Seq == 0 {
		n.stats.DroppedAway.Add(1)
	}
}

// deliver hands a message to the local readers of its address and returns how
// many there are. It never blocks.
func (n *Node) deliver(addr envelope.Address, env *envelope.Envelope) int {
	if addr.Kind == envelope.KindSession {
		n.observe(env)
	}
	m := encoded{env: env}
	readers := n.conns.eachFollower(addr, func(f *follow) { f.offer(&m) })
	n.stats.Delivered.Add(uint64(readers))
	return readers
}

// hint tells the local readers of a log how far it goes.
func (n *Node) hint(log envelope.Address, head uint64) {
	n.conns.eachFollower(log, func(f *follow) { f.hinted(head) })
}

// refresh makes the device's connection look whether it has joined or left a
// session. Others may cause that as often as they like: one who is about to look
// does for all.
func (n *Node) refresh(device envelope.NodeID, id envelope.SessionID) {
	c := n.conns.device(device)
	if c == nil || !c.toLook(id) {
		return
	}
	c.spawn(func() {
		for wait := readRetry; ; wait = min(2*wait, readRetryMax) {
			err := c.lookAgain()
			if err == nil || c.ctx.Err() != nil {
				return
			}
			if wait == readRetry {
				n.log.Warn("cannot look for joined sessions; trying again", "conn", c.id, "err", err)
			}
			pause(&c.ctx, wait)
		}
	})
}

// memberChanged tells every server to forget what it remembers of a membership,
// or with no device of the master of a game.
// One that is not told trusts it for a moment more.
func (n *Node) memberChanged(id envelope.SessionID, device envelope.NodeID) {
	body := envelope.AppendString(envelope.AppendString(nil, string(id)), string(device))
	for _, r := range n.graph.Servers() {
		if r.ID != n.cfg.Graph.Self.ID {
			n.peers.send(r.ID, recordMember, body)
		}
	}
}

// forget takes the word of memberChanged, or of topicChanged, from another server.
func (n *Node) forget(id envelope.SessionID, device envelope.NodeID) {
	if id.IsTopic() {
		n.topics.Forget(id)
		return
	}
	n.sessions.Forget(id, device)
	if device == "" {
		n.masters.changed(id)
	}
}

// moved tells the connection of a device that has joined or left a session,
// wherever it is.
func (n *Node) moved(device envelope.NodeID, id envelope.SessionID) {
	n.refresh(device, id)
	n.graph.Route(device.Address(), 0, func(servers []envelope.ServerID) {
		for _, server := range servers {
			n.peers.refresh(server, device, id)
		}
	})
}
