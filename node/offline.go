package node

import (
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// routeWithin bounds the wait for an answer about where an address is.
const routeWithin = 5 * time.Second

// publishAsked is publish for a message that is not stored, and whose sender
// wants to know whether anybody was there for it: a reader at this server, or
// an edge at another one, which may be as old as a lease. done is called once
// and must not block; nothing waits meanwhile.
func (n *Node) publishAsked(addr envelope.Address, env *envelope.Envelope, done func(gateway.Ack, error)) {
	id := env.ID
	n.deliver(addr, env)
	here := n.hasReader(addr, env)
	var answered atomic.Bool
	late := time.AfterFunc(routeWithin, func() {
		if answered.CompareAndSwap(false, true) {
			done(gateway.Ack{}, envelope.BusyError(1000, "whether anybody is there cannot be found out now", nil))
		}
	})
	n.graph.Route(addr, 0, func(servers []envelope.ServerID) {
		n.forward(servers, addr, env, here)
		late.Stop()
		if answered.CompareAndSwap(false, true) {
			done(gateway.Ack{ID: id, Offline: !here && len(servers) == 0}, nil)
		}
	})
}

// hasReader reports whether a message that is not stored is for somebody here.
func (n *Node) hasReader(addr envelope.Address, env *envelope.Envelope) bool {
	found := false
	n.conns.eachFollower(addr, func(f *follow) {
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		found = found || !f.gone && f.started && f.c.hears(f) && !f.own(addr, env, f.c.who)
	})
	return found
}
