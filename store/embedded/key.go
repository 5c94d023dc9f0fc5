package embedded

import (
	"bytes"
	"encoding/binary"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// The first byte of a key says what the row is. An id never holds a zero
// byte, so one ends an id and rows of an id are neighbours:
//
//	i kind id 0                how far a log has been trimmed, see trimmed
//	i kind id 0 seq            chapter: from seq on the log's entries are in this segment, uvarint
//	a segment e kind id 0 seq  entry: uvarint bytes of the log up to it, the envelope's binary form
//	d kind id 0 src 0 msgid    where a message with an id went, see stub
//	t kind id 0 seq            a trimmed entry with an id, see remnant
//	u kind id 0 of seq         the entry seq edits or deletes the entry of: one byte, e or d
//	c node 0 kind id           cursor: uvarint delivered, uvarint read
//	r kind id 0 node           the same cursor found by log: empty
//	s session                  session (JSON)
//	m session 0 node           membership (JSON)
//	n device 0 session         the same membership found by device: empty
//	n device 0 alias           the same of one by alias
//	h session                  header of a session (JSON)
//	v server                   server record (JSON)
//	g kind id 0 server         edge (JSON)
//	p kind id                  when an address was last connected: varint Unix milliseconds
//	k name                     revocation (JSON)
//	b service 0 token          token of a push service (JSON)
//	l kind id 0 service 0 token  the same found by its device and by its user: empty
//	x node 0 kind id           mute (JSON)
//	j task kind id             job of package push (JSON)
//	q due task kind id         the same found by when it is due, eight bytes: empty
//	f task kind id             the same, while it has a dead letter: empty
//	z name                     about the store itself: format, epoch, revoked
//
// seq is eight bytes and segment four, big endian, so that keys sort as numbers
// do. The keys of segment 0, which only a store of an older format has, begin
// with their e.
const (
	rowLog             = 'i'
	rowSegment         = 'a'
	rowEntry           = 'e'
	rowStub            = 'd'
	rowRemnant         = 't'
	rowRevision        = 'u'
	rowCursor          = 'c'
	rowReader          = 'r'
	rowSession         = 's'
	rowMember          = 'm'
	rowMembership      = 'n'
	rowHeader          = 'h'
	rowServer          = 'v'
	rowEdge            = 'g'
	rowSighting        = 'p'
	rowRevocation      = 'k'
	rowToken           = 'b'
	rowTokenOwner      = 'l'
	rowMute            = 'x'
	rowJob             = 'j'
	rowDue             = 'q'
	rowFailed          = 'f'
	rowMeta            = 'z'
	endOfID       byte = 0
)

func appendID[S ~string](key []byte, id S) []byte {
	return append(append(key, id...), endOfID)
}

func appendAddress(key []byte, a envelope.Address) []byte {
	return appendID(append(key, byte(a.Kind)), a.ID)
}

func logPrefix(log envelope.Address) []byte { return appendAddress([]byte{rowLog}, log) }

func appendChapterKey(key []byte, log envelope.Address, first uint64) []byte {
	return binary.BigEndian.AppendUint64(appendAddress(append(key, rowLog), log), first)
}

func appendSegment(key []byte, in segment) []byte {
	if in == 0 {
		return key
	}
	return binary.BigEndian.AppendUint32(append(key, rowSegment), uint32(in))
}

func appendEntryPrefix(key []byte, in segment, log envelope.Address) []byte {
	return appendAddress(append(appendSegment(key, in), rowEntry), log)
}

func appendEntryKey(key []byte, in segment, log envelope.Address, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendEntryPrefix(key, in, log), seq)
}

func appendRemnantKey(key []byte, log envelope.Address, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendAddress(append(key, rowRemnant), log), seq)
}

func appendRevisionKey(key []byte, log envelope.Address, of, seq uint64) []byte {
	key = binary.BigEndian.AppendUint64(appendAddress(append(key, rowRevision), log), of)
	return binary.BigEndian.AppendUint64(key, seq)
}

func appendStubKey(key []byte, log envelope.Address, src envelope.NodeID, id string) []byte {
	return append(appendID(appendAddress(append(key, rowStub), log), src), id...)
}

func cursorPrefix(node envelope.NodeID) []byte { return appendID([]byte{rowCursor}, node) }

func cursorKey(node envelope.NodeID, log envelope.Address) []byte {
	return append(append(cursorPrefix(node), byte(log.Kind)), log.ID...)
}

func readerPrefix(log envelope.Address) []byte { return appendAddress([]byte{rowReader}, log) }

func readerKey(log envelope.Address, node envelope.NodeID) []byte {
	return append(readerPrefix(log), node...)
}

func sessionKey(id envelope.SessionID) []byte { return append([]byte{rowSession}, id...) }

func memberPrefix(id envelope.SessionID) []byte { return appendID([]byte{rowMember}, id) }

func memberKey(id envelope.SessionID, node envelope.NodeID) []byte {
	return append(memberPrefix(id), node...)
}

func membershipPrefix(node envelope.NodeID) []byte { return appendID([]byte{rowMembership}, node) }

// membershipKey ends with the session, or with the alias, which says the
// session as well.
func membershipKey(m session.Member) []byte {
	if m.Node != m.Device {
		return append(membershipPrefix(m.Device), m.Node...)
	}
	return append(membershipPrefix(m.Device), m.Session...)
}

func headerKey(id envelope.SessionID) []byte { return append([]byte{rowHeader}, id...) }

func serverKey(id envelope.ServerID) []byte { return append([]byte{rowServer}, id...) }

func edgePrefix(a envelope.Address) []byte { return appendAddress([]byte{rowEdge}, a) }

func edgeKey(a envelope.Address, id envelope.ServerID) []byte { return append(edgePrefix(a), id...) }

func sightingKey(a envelope.Address) []byte {
	return append([]byte{rowSighting, byte(a.Kind)}, a.ID...)
}

func metaKey(name string) []byte { return append([]byte{rowMeta}, name...) }

// seqOf returns the number at the end of the key of an entry, chapter, remnant or
// revision: in the range of a log no key of these is shorter.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// cutAddress takes an address off the front of a key.
func cutAddress(key []byte) (a envelope.Address, ok bool) {
	if len(key) == 0 {
		return a, false
	}
	id, _, ok := bytes.Cut(key[1:], []byte{endOfID})
	return envelope.Address{Kind: envelope.Kind(key[0]), ID: string(id)}, ok
}

// after returns the first key behind all that start with prefix, whose last
// byte is never the highest.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}
