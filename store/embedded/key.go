package embedded

import (
	"encoding/binary"

	"github.com/allsparkrt/allspark/envelope"
)

// The first byte of a key says what the row is. An id never holds a zero
// byte, so one ends an id and rows of an id are neighbours:
//
//	e kind id 0 seq            entry: the envelope's binary form
//	d kind id 0 src 0 msgid    where a message with an id went: uvarint seq, 16 bytes digest
//	c node 0 kind id           cursor: uvarint delivered, uvarint read
//	s session                  session (JSON)
//	m session 0 node           membership (JSON)
//	n node 0 session           the same membership found by device: empty
//	v server                   server record (JSON)
//	g kind id 0 server         edge (JSON)
//	z name                     about the store itself: format, epoch
//
// seq is eight bytes, big endian, so that keys sort as numbers do.
const (
	rowEntry           = 'e'
	rowStub            = 'd'
	rowCursor          = 'c'
	rowSession         = 's'
	rowMember          = 'm'
	rowMembership      = 'n'
	rowServer          = 'v'
	rowEdge            = 'g'
	rowMeta            = 'z'
	endOfID       byte = 0
)

func appendID[S ~string](key []byte, id S) []byte {
	return append(append(key, id...), endOfID)
}

func appendAddress(key []byte, a envelope.Address) []byte {
	return appendID(append(key, byte(a.Kind)), a.ID)
}

func appendEntryKey(key []byte, log envelope.Address, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendAddress(append(key, rowEntry), log), seq)
}

func appendStubKey(key []byte, log envelope.Address, src envelope.NodeID, id string) []byte {
	return append(appendID(appendAddress(append(key, rowStub), log), src), id...)
}

func cursorPrefix(node envelope.NodeID) []byte { return appendID([]byte{rowCursor}, node) }

func cursorKey(node envelope.NodeID, log envelope.Address) []byte {
	return append(append(cursorPrefix(node), byte(log.Kind)), log.ID...)
}

func sessionKey(id envelope.SessionID) []byte { return append([]byte{rowSession}, id...) }

func memberPrefix(id envelope.SessionID) []byte { return appendID([]byte{rowMember}, id) }

func memberKey(id envelope.SessionID, node envelope.NodeID) []byte {
	return append(memberPrefix(id), node...)
}

func membershipPrefix(node envelope.NodeID) []byte { return appendID([]byte{rowMembership}, node) }

func membershipKey(node envelope.NodeID, id envelope.SessionID) []byte {
	return append(membershipPrefix(node), id...)
}

func serverKey(id envelope.ServerID) []byte { return append([]byte{rowServer}, id...) }

func edgePrefix(a envelope.Address) []byte { return appendAddress([]byte{rowEdge}, a) }

func edgeKey(a envelope.Address, id envelope.ServerID) []byte { return append(edgePrefix(a), id...) }

func metaKey(name string) []byte { return append([]byte{rowMeta}, name...) }

// after returns the first key behind all that start with prefix, whose last
// byte is never the highest.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}
