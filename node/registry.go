package node

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/allsparkrt/allspark/envelope"
)

// registry knows the connections of this server: by device, and by the
// addresses whose logs they follow.
type registry struct {
	mu        sync.RWMutex
	devices   map[envelope.NodeID]*conn      // guarded by mu
	followers map[envelope.Address]followers // guarded by mu
	clients   map[envelope.ClientID]int      // guarded by mu; how many of devices are whose
	addresses map[netip.Addr]int             // guarded by mu; and connected from where

	caps                             connectionCaps // static after construction
	refusedClients, refusedAddresses atomic.Uint64
}

// connectionCaps say how many devices may be connected: in all, of one user
// and from one address. The last two may be 0, for any number.
type connectionCaps struct{ all, client, address int }

func newRegistry(caps connectionCaps) *registry {
	return &registry{
		caps:      caps,
		clients:   make(map[envelope.ClientID]int),
		addresses: make(map[netip.Addr]int),
		devices:   make(map[envelope.NodeID]*conn),
		followers: make(map[envelope.Address]followers),
	}
}

// add enters a connection and returns the one of the same device that it
// replaces, or nil. Beyond the caps the error is Busy or RateLimited.
func (r *registry) add(c *conn) (replaced *conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	replaced = r.devices[c.who.Node]
	if replaced == nil && len(r.devices) >= r.caps.all {
		return nil, envelope.BusyError(capRetry.Milliseconds(), "this server has all the connections it takes", nil)
	}
	if replaced != nil {
		r.count(replaced, -1)
	}
	if err := r.room(c); err != nil {
		if replaced != nil {
			r.count(replaced, 1)
		}
		return nil, err
	}
	r.count(c, 1)
	r.devices[c.who.Node] = c
	return replaced, nil
}

// room refuses a connection beyond the caps of its user and its address; under mu.
func (r *registry) room(c *conn) error {
	at := BoundAddress(c.address)
	refusal := &envelope.Error{Code: envelope.RateLimited, RetryMS: capRetry.Milliseconds()}
	switch {
	case r.caps.client > 0 && !c.who.App && r.clients[c.who.Client] >= r.caps.client:
		r.refusedClients.Add(1)
		refusal.Detail = "too many devices of this user are connected"
	case r.caps.address > 0 && at.IsValid() && r.addresses[at] >= r.caps.address:
		r.refusedAddresses.Add(1)
		refusal.Detail = "too many connections from this address"
	default:
		return nil
	}
	return refusal
}

// count counts a device that is entered or taken out; under mu.
func (r *registry) count(c *conn, by int) {
	if r.clients[c.who.Client] += by; r.clients[c.who.Client] == 0 {
		delete(r.clients, c.who.Client)
	}
	at := BoundAddress(c.address)
	if r.addresses[at] += by; r.addresses[at] == 0 {
		delete(r.addresses, at)
	}
}

// remove takes out a connection, which follows nothing any more.
func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[c.who.Node] == c {
		r.count(c, -1)
		delete(r.devices, c.who.Node)
	}
}

// follow makes a connection hear of entries of a log, in which it has a place that is
// not entered yet.
func (r *registry) follow(f *follow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.followers[f.log]
	of.add(f)
	r.followers[f.log] = of
}

// unfollow takes back follow.
func (r *registry) unfollow(f *follow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.followers[f.log]
	if of.remove(f); of.none() {
		delete(r.followers, f.log)
	} else {
		r.followers[f.log] = of
	}
}

// eachFollower calls hand with the places that connections have in a log, some of
// them perhaps gone meanwhile, and returns how many there are. hand must not block or
// call the registry.
func (r *registry) eachFollower(log envelope.Address, hand func(*follow)) (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for f := range r.followers[log].all() {
		hand(f)
		n++
	}
	return n
}

// hasFollower reports whether some connection follows a log.
func (r *registry) hasFollower(log envelope.Address) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return !r.followers[log].none()
}

// known returns how far a log goes as far as one of its readers here knows that
// has been told where it begins; false when there is none.
func (r *registry) known(log envelope.Address) (head uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for f := range r.followers[log].all() {
		if head, ok = f.reached(); ok {
			break
		}
	}
	return head, ok
}

func (r *registry) device(id envelope.NodeID) *conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.devices[id]
}

func (r *registry) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.devices)
}

func (r *registry) all() []*conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*conn, 0, len(r.devices))
	for _, c := range r.devices {
		all = append(all, c)
	}
	return all
}

// logs returns every log that somebody here follows.
func (r *registry) logs() []envelope.Address {
	r.mu.RLock()
	defer r.mu.RUnlock()
	logs := make([]envelope.Address, 0, len(r.followers))
	for log := range r.followers {
		logs = append(logs, log)
	}
	return logs
}
