package node

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A device has one connection in the mesh, the newest. A server that gets one
// tells all others, and closes its own when it hears of a newer one.
//
// Which is newer must not depend on anybody's wall clock. Each server dates its
// connections in milliseconds since the start of its process, and says with
// each such record what time it is by that clock. The least difference to the
// receiver's own clock ever seen is the difference of the two clocks, but for
// the shortest way between the servers.

// sameMoment is how close two connections of a device must be for their order
// not to be known. Then their ids decide, at both servers alike.
const sameMoment = 100 * time.Millisecond

// clocks are the clocks of other servers' processes.
type clocks struct {
	mu sync.Mutex
	of map[envelope.ServerID]clock // guarded by mu
}

type clock struct {
	process string        // which start of the server it belongs to
	ahead   time.Duration // what is to be added to it to get ours
}

// heard notes that another server's clock was at now when ours is at here, and
// returns what is to be added to its times.
func (k *clocks) heard(from envelope.ServerID, process string, now, here time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, known := k.of[from]
	if !known || c.process != process {
		c = clock{process, here - now}
	}
	c.ahead = min(c.ahead, here-now)
	if k.of == nil {
		k.of = make(map[envelope.ServerID]clock)
	}
	k.of[from] = c
	return c.ahead
}

// keep forgets the clocks of servers that are gone.
func (k *clocks) keep(there map[envelope.ServerID]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.of {
		if !there[id] {
			delete(k.of, id)
		}
	}
}

// rollChunk bounds the connections named by one record.
const rollChunk = 1000

// time says what time it is by this process's clock, in milliseconds since its start.
func (n *Node) time() []byte {
	return binary.AppendUvarint(envelope.AppendString(nil, n.process), uint64(time.Since(n.began).Milliseconds()))
}

// timeThere reads what time wrote, on another server, and returns what is to be
// added to its times.
func (n *Node) timeThere(from envelope.ServerID, r *envelope.Reader) (ahead time.Duration) {
	here := time.Since(n.began)
	process, now := r.String(), r.Uvarint()
	if r.Err() != nil {
		return 0
	}
	return n.clocks.heard(from, process, milliseconds(now), here)
}

// connectedBody names connections of this server and since when they are.
func (n *Node) connectedBody(conns []*conn) []byte {
	body := n.time()
	for _, c := range conns {
		body = envelope.AppendString(body, string(c.who.Node))
		body = binary.AppendUvarint(body, uint64(c.began.Sub(n.began).Milliseconds()))
		body = envelope.AppendString(body, c.id)
	}
	return body
}

// tellConnected tells all servers of a new connection.
func (n *Node) tellConnected(c *conn) {
	body := n.connectedBody([]*conn{c})
	for _, r := range n.graph.Servers() {
		if r.ID != n.cfg.Graph.Self.ID {
			n.peers.send(r.ID, recordConnected, body)
		}
	}
}

// tellRoll tells a server of all connections here: it has missed some.
func (n *Node) tellRoll(to envelope.ServerID) {
	n.peers.send(to, recordBeat, n.time()) // before there is anything to be late
	for some := range slices.Chunk(n.conns.all(), rollChunk) {
		n.peers.send(to, recordConnected, n.connectedBody(some))
	}
}

// connectedElsewhere takes another server's word that devices are connected
// there, and closes their older connections here.
func (n *Node) connectedElsewhere(from envelope.ServerID, r *envelope.Reader) {
	ahead := n.timeThere(from, r)
	for r.Err() == nil && len(r.Rest()) > 0 {
		device, began, id := envelope.NodeID(r.String()), milliseconds(r.Uvarint())+ahead, r.String()
		if c := n.conns.device(device); c != nil && r.Err() == nil && c.olderThan(began, id) {
			n.replace(c)
		}
	}
}

func milliseconds(n uint64) time.Duration { return time.Duration(min(n, 1<<43)) * time.Millisecond }

// olderThan reports whether another connection of the device, which began at
// that time of our clock, is to stay in place of c.
func (c *conn) olderThan(began time.Duration, id string) bool {
	later := began - c.began.Sub(c.n.began)
	if later.Abs() <= sameMoment {
		return c.id < id
	}
	return later > 0
}

// replace ends a connection in favour of a newer one of the same device.
func (n *Node) replace(old *conn) {
	n.stats.Replaced.Add(1)
	old.close(envelope.Replaced, "this device has connected again")
	time.AfterFunc(closing, old.t.Abort) // nobody else knows of it any more
}
