package node

import (
	"encoding/binary"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// A notice is something the connections that follow an address are told
// besides messages: a receipt, a read mark. It is in no log, nothing waits for
// it, and who misses it can ask.
//
// On a link it is the address, the device that gets no copy, a byte for the
// kind, and what the kind has.
const (
	noticeReceipt = 'r'
	noticeRead    = 'm'
)

// notify tells the connections that follow an address, on all servers, but not
// those of the device except. It never blocks.
func (n *Node) notify(addr envelope.Address, except envelope.NodeID, ev gateway.Event) {
	n.notifyHere(addr, except, ev)
	n.graph.Route(addr, 0, func(servers []envelope.ServerID) {
		if len(servers) == 0 {
			return
		}
		body := noticeBody(addr, except, ev)
		for _, id := range servers {
			n.peers.send(id, recordNotice, body)
		}
	})
}

func (n *Node) notifyHere(addr envelope.Address, except envelope.NodeID, ev gateway.Event) {
	n.conns.eachFollower(addr, func(f *follow) {
		if f.c.who.Node != except {
			f.c.notice(ev)
		}
	})
}

// notice takes an event for the client that may get lost on its way here.
func (c *conn) notice(ev gateway.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch told := ev.(type) {
	case gateway.ReadMark:
		c.heardMarks(told)
	case gateway.Receipt:
		if c.mayHear(told) {
			c.pushNotice(c.codec.Append(nil, told))
		}
	}
}

// pushNotice queues a frame that may get lost, and reports false when it has:
// for a slow reader there is no room; under mu.
func (c *conn) pushNotice(frame []byte) bool {
	if len(frame) == 0 { // an event the protocol has no words for
		return true
	}
	own := c.follows.Get(c.who.Node.Address())
	if opened := own != nil && own.started; !opened || c.over || c.lane.full() { // nothing comes before the answer to hello
		c.n.stats.DroppedNotice.Add(1)
		return false
	}
	c.lane.push(frame)
	c.writeSoon()
	return true
}

func noticeBody(addr envelope.Address, except envelope.NodeID, ev gateway.Event) []byte {
	body := envelope.AppendString(envelope.AppendAddress(nil, addr), string(except))
	switch ev := ev.(type) {
	case gateway.Receipt:
		body = envelope.AppendString(append(body, noticeReceipt), ev.ID)
		body = binary.AppendUvarint(envelope.AppendAddress(body, ev.Log), ev.Seq)
		read := byte(0)
		if ev.Read {
			read = 1
		}
		body = envelope.AppendString(append(body, read), string(ev.Node))
		return envelope.AppendString(body, string(ev.Client))
	case gateway.ReadMark:
		body = append(body, noticeRead)
		for log, seq := range ev.Cursors {
			body = binary.AppendUvarint(envelope.AppendAddress(body, log), seq)
		}
		return body
	}
	panic("node: not a notice")
}

// parseNotice reads what noticeBody wrote.
func parseNotice(r *envelope.Reader) (addr envelope.Address, except envelope.NodeID, ev gateway.Event, err error) {
	addr, except = r.Address(), envelope.NodeID(r.String())
	switch r.Byte() {
	case noticeReceipt:
		receipt := gateway.Receipt{ID: r.String(), Log: r.Address(), Seq: r.Uvarint(), Read: r.Byte() == 1}
		receipt.Node, receipt.Client = envelope.NodeID(r.String()), envelope.ClientID(r.String())
		ev = receipt
	case noticeRead:
		mark := gateway.ReadMark{Cursors: make(map[envelope.Address]uint64)}
		for r.Err() == nil && len(r.Rest()) > 0 {
			log := r.Address()
			mark.Cursors[log] = r.Uvarint()
		}
		ev = mark
	default:
		return addr, except, nil, envelope.ErrBinary
	}
	return addr, except, ev, r.Err()
}
