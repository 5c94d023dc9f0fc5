package node

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A device has one connection in the mesh, the newest. A server that gets one
// tells all others. Of two servers that both have one, the one with the smaller
// id decides, so that they cannot both give theirs up; the other one tells it of
// its own again, because it may not have been there when that was said first.
//
// Which is newer must not depend on anybody's wall clock. Each server dates its
// connections in nanoseconds since the start of its process, and says with
// each such record what time it is by that clock. The least difference to the
// receiver's own clock that was seen lately is the difference of the two clocks,
// but for the shortest way between the servers. Lately, because clocks drift,
// and one stands still while its machine does.

// clocks are the clocks of other servers' processes.
type clocks struct {
	mu sync.Mutex
	of map[envelope.ServerID]clock // guarded by mu
}

// clockPeriod is for how long at least, and twice that at most, the difference
// of two clocks is taken for what it was.
const clockPeriod = time.Minute

type clock struct {
	process string        // which start of the server it belongs to
	since   time.Duration // when the present period began, by ours
	ahead   time.Duration // what is to be added to it to get ours, as seen in this period
	before  time.Duration // and in the one before
}

// heard notes that another server's clock was at now when ours is at here, and
// returns what is to be added to its times.
func (k *clocks) heard(from envelope.ServerID, process string, now, here time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, known := k.of[from]
	ahead := here - now
	switch age := here - c.since; {
	case !known || c.process != process || age >= 2*clockPeriod:
		c = clock{process, here, ahead, ahead}
	case age >= clockPeriod:
		c = clock{process, here, ahead, c.ahead}
	default:
		c.ahead = min(c.ahead, ahead)
	}
	if k.of == nil {
		k.of = make(map[envelope.ServerID]clock)
	}
	k.of[from] = c
	return min(c.ahead, c.before)
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

// timeHere says what time it is by this process's clock.
func (n *Node) timeHere() []byte {
	return binary.AppendUvarint(envelope.AppendString(nil, n.process), uint64(time.Since(n.began)))
}

// timeThere reads what timeHere wrote, on another server, and returns what is to be
// added to its times.
func (n *Node) timeThere(from envelope.ServerID, r *envelope.Reader) (ahead time.Duration) {
	here := time.Since(n.began)
	process, now := r.String(), nanoseconds(r.Uvarint())
	if r.Err() != nil {
		return 0
	}
	return n.clocks.heard(from, process, now, here)
}

// connectedBody names connections of this server and since when they are.
func (n *Node) connectedBody(conns []*conn) []byte {
	body := n.timeHere()
	for _, c := range conns {
		body = envelope.AppendString(body, string(c.who.Node))
		body = binary.AppendUvarint(body, uint64(c.began))
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
	n.peers.send(to, recordBeat, n.timeHere()) // before there is anything to be late
	for some := range slices.Chunk(n.conns.all(), rollChunk) {
		n.peers.send(to, recordConnected, n.connectedBody(some))
	}
}

// connectedElsewhere takes another server's word that devices are connected
// there. Of each that is connected here as well, one connection stays.
func (n *Node) connectedElsewhere(from envelope.ServerID, r *envelope.Reader) {
	ahead := n.timeThere(from, r)
	var here []*conn // of devices of which the other server decides
	for r.Err() == nil && len(r.Rest()) > 0 {
		device, began, id := envelope.NodeID(r.String()), nanoseconds(r.Uvarint())+ahead, r.String()
		c := n.conns.device(device)
		switch {
		case c == nil || r.Err() != nil:
		case from < n.cfg.Graph.Self.ID:
			here = append(here, c)
		case c.olderThan(began, id):
			n.replace(c)
		default:
			n.peers.send(from, recordReplaced, envelope.AppendString(envelope.AppendString(nil, string(device)), id))
		}
	}
	if len(here) > 0 {
		n.peers.send(from, recordConnected, n.connectedBody(here))
	}
}

// replacedElsewhere takes another server's word that it has a newer connection
// of a device than the one of that id here.
func (n *Node) replacedElsewhere(device envelope.NodeID, id string) {
	if c := n.conns.device(device); c != nil && c.id == id {
		n.replace(c)
	}
}

func nanoseconds(n uint64) time.Duration { return time.Duration(min(n, 1<<62)) }

// olderThan reports whether another connection of the device, which began at
// that time of our clock, is to stay in place of c.
func (c *conn) olderThan(began time.Duration, id string) bool {
	return c.began < began || c.began == began && c.id < id
}

// replace ends a connection in favour of a newer one of the same device.
func (n *Node) replace(old *conn) {
	n.stats.Replaced.Add(1)
	old.close(envelope.Replaced, "this device has connected again")
	time.AfterFunc(closing, old.t.Abort) // nobody else knows of it any more
}
