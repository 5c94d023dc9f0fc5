package node

import (
	"sync"

	"github.com/allsparkrt/allspark/envelope"
)

// registry knows the connections of this server: by device, and by the
// addresses whose logs they follow.
type registry struct {
	mu        sync.RWMutex
	devices   map[envelope.NodeID]*conn               // guarded by mu
	followers map[envelope.Address]map[*conn]struct{} // guarded by mu
}

func newRegistry() *registry {
	return &registry{
		devices:   make(map[envelope.NodeID]*conn),
		followers: make(map[envelope.Address]map[*conn]struct{}),
	}
}

// add enters a connection and returns the one of the same device that it
// replaces, or nil. With most devices there already it refuses another one.
func (r *registry) add(c *conn, most int) (replaced *conn, room bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	replaced = r.devices[c.who.Node]
	if replaced == nil && len(r.devices) >= most {
		return nil, false
	}
	r.devices[c.who.Node] = c
	return replaced, true
}

// remove takes out a connection, which follows nothing any more.
func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[c.who.Node] == c {
		delete(r.devices, c.who.Node)
	}
}

// follow makes c hear of entries of a log.
func (r *registry) follow(c *conn, log envelope.Address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.followers[log]
	if set == nil {
		set = make(map[*conn]struct{}, 1)
		r.followers[log] = set
	}
	set[c] = struct{}{}
}

// unfollow takes back follow.
func (r *registry) unfollow(c *conn, log envelope.Address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.followers[log]
	delete(set, c)
	if len(set) == 0 {
		delete(r.followers, log)
	}
}

// eachFollower calls f for the connections that follow a log and returns how
// many there are. f must not block or call the registry.
func (r *registry) eachFollower(log envelope.Address, f func(*conn)) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	set := r.followers[log]
	for c := range set {
		f(c)
	}
	return len(set)
}

// known returns how far a log goes as far as one of its readers here knows that
// has been told where it begins; false when there is none.
func (r *registry) known(log envelope.Address) (head uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for c := range r.followers[log] {
		if head, ok = c.reached(log); ok {
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
