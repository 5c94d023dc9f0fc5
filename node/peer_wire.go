package node

import (
	"encoding/binary"
	"slices"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// What servers say to each other. A binary WebSocket message holds one or more
// records; a record is a byte for its kind, a uvarint length, and that many
// bytes:
//
//	deliver  address, envelope  a message for the address; seq 0 is not stored
//	miss     address            nobody here for that address: forget the edge
//	edges    address…           this server has new edges for these addresses
//	gone     address…           this server has no edges for these addresses any more
//	head     address, uvarint   the log goes at least so far
//	refresh  string             that device may have joined a session
//	member   string, string     that session's membership of that device has changed
//	notice   address, string, byte, …
//	                            an event for who follows the address (notice.go)
//	connected string, uvarint, (string, uvarint, string)…
//	                            by this process's clock, at that time: devices, since when, connection ids
//	replaced string, string     a newer connection of that device stands than yours of that id
//	roll                        name all your connections
//	reach    uvarint, address, uvarint
//	                            which of your devices has that entry been written to? under that number
//	reached  uvarint, (string, byte)…
//	                            the number's answer: devices, and 1 for each that it was written to
//	beat     string, uvarint, [uvarint, uvarint]
//	                            a sign of life, and what time it is by this process's clock; and the time
//	                            that you have said last, and how long ago that was
//	lossy    [string, uvarint]  records to you were dropped: sweep; if it was because I had taken that boot
//	                            of yours for dead: which, after how many times before
//	append   uvarint, byte, address, envelope
//	                            append it for me under that number; 1: I have heard of all refusals
//	appended uvarint, uvarint, string, uvarint, string
//	                            the number's seq, or the code, retry_ms and detail of its refusal
//	revoked  (string, string, string, uvarint, uvarint)…
//	                            revocations: jti, user or device, before, and until when they count
//	end      string, string, string, string
//	                            device, user, code, reason: its connections are to be closed
//	health   uvarint, uvarint   how are you? under that number, at that time by this process's clock
//	healthy  uvarint, uvarint, uvarint, …
//	                            both again, the answer's wall clock, and how it is (health.go)
//	drain    uvarint, string    if that is still your boot, leave the mesh in peace
//	draining uvarint            it does, to the question of that number
//	hooks    uvarint            what do you do for events? under that number
//	hooked   uvarint, byte…, (byte, string, uvarint, uvarint, string, uvarint)…
//	                            the number's answer: 1 for each partition that it delivers, and its troubles
//	relay    string, string…, record
//	                            for that server, by way of these, the first one being the source
//
// Losing one costs time, never a message. Append and appended are not relayed,
// and are not lost without the link.
const (
	recordDeliver   = 'd'
	recordMiss      = 'm'
	recordEdges     = 'e'
	recordGone      = 'g'
	recordHead      = 'h'
	recordRefresh   = 'r'
	recordMember    = 'M'
	recordNotice    = 'N'
	recordConnected = 'c'
	recordReplaced  = 'p'
	recordRoll      = 'o'
	recordReach     = 'q'
	recordReached   = 'Q'
	recordBeat      = 'b'
	recordLossy     = 'l'
	recordAppend    = 'a'
	recordAppended  = 'A'
	recordRevoked   = 'x'
	recordEnd       = 'k'
	recordHealth    = 'y'
	recordHealthy   = 'Y'
	recordDrain     = 'D'
	recordDraining  = 'I'
	recordHooks     = 'w'
	recordHooked    = 'W'
	recordRelay     = 'R'
)

// maxHops bounds the servers a relayed record passes.
const maxHops = 4

// maxRecordHead is how long a record is at most without its body.
const maxRecordHead = 1 + binary.MaxVarintLen64

func appendRecord(dst []byte, kind byte, body []byte) []byte {
	return envelope.AppendString(append(dst, kind), body)
}

// nextRecord takes a record from the front of b.
func nextRecord(b []byte) (kind byte, body, rest []byte, err error) {
	r := envelope.NewReader(b)
	kind = r.Byte()
	body = r.Bytes()
	return kind, body, r.Rest(), r.Err()
}

func appendDelivery(dst []byte, addr envelope.Address, env *envelope.Envelope) []byte {
	return env.AppendBinary(envelope.AppendAddress(dst, addr))
}

func addressesBody(addrs ...envelope.Address) []byte {
	var body []byte
	for _, a := range addrs {
		body = envelope.AppendAddress(body, a)
	}
	return body
}

func headBody(log envelope.Address, seq uint64) []byte {
	return binary.AppendUvarint(envelope.AppendAddress(nil, log), seq)
}

func appendBody(a *appending, first bool) []byte {
	body := binary.AppendUvarint(make([]byte, 0, len(a.env.Body)+len(a.log.ID)+208), a.number)
	flag := byte(0)
	if first {
		flag = 1
	}
	return a.env.AppendBinary(envelope.AppendAddress(append(body, flag), a.log))
}

func appendedBody(number, seq uint64, err error) []byte {
	body := binary.AppendUvarint(binary.AppendUvarint(nil, number), seq)
	refusal := &envelope.Error{}
	if err != nil {
		refusal = envelope.AsError(err)
	}
	body = envelope.AppendString(body, string(refusal.Code))
	body = binary.AppendUvarint(body, uint64(refusal.RetryMS))
	return envelope.AppendString(body, refusal.Detail)
}

func revokedBody(rows ...auth.Revocation) []byte {
	var body []byte
	for _, r := range rows {
		for _, s := range []string{r.JTI, string(r.Client), string(r.Node)} {
			body = envelope.AppendString(body, s)
		}
		body = binary.AppendUvarint(binary.AppendUvarint(body, uint64(r.Before)), uint64(r.Expires))
	}
	return body
}

// parseRevoked reads what revokedBody wrote.
func parseRevoked(r *envelope.Reader) (rows []auth.Revocation) {
	for len(r.Rest()) > 0 && r.Err() == nil {
		row := auth.Revocation{JTI: r.String(), Client: envelope.ClientID(r.String()), Node: envelope.NodeID(r.String())}
		row.Before, row.Expires = int64(r.Uvarint()), int64(r.Uvarint())
		rows = append(rows, row)
	}
	return rows
}

// parseAppended reads what appendedBody wrote.
func parseAppended(r *envelope.Reader) (number, seq uint64, refusal error) {
	number, seq = r.Uvarint(), r.Uvarint()
	e := &envelope.Error{Code: envelope.Code(r.String()), RetryMS: int64(r.Uvarint()), Detail: r.String()}
	if e.Code != "" {
		refusal = e
	}
	return number, seq, refusal
}

// relay is a record on its way to a server without a direct link.
type relay struct {
	to   envelope.ServerID
	via  []envelope.ServerID // the source first
	kind byte
	body []byte
}

// encode returns the body of a record of kind relay.
func (r *relay) encode() []byte {
	body := envelope.AppendString(make([]byte, 0, len(r.body)+128), string(r.to))
	body = append(body, byte(len(r.via)))
	for _, id := range r.via {
		body = envelope.AppendString(body, string(id))
	}
	return appendRecord(body, r.kind, r.body)
}

func parseRelay(body []byte) (relay, error) {
	rd := envelope.NewReader(body)
	r := relay{to: envelope.ServerID(rd.String())}
	hops := rd.Byte()
	if hops == 0 || hops > maxHops {
		return r, envelope.ErrBinary
	}
	for range hops {
		r.via = append(r.via, envelope.ServerID(rd.String()))
	}
	if rd.Err() != nil {
		return r, rd.Err()
	}
	kind, inner, rest, err := nextRecord(rd.Rest())
	if err == nil && (len(rest) != 0 || kind == recordRelay) {
		err = envelope.ErrBinary
	}
	r.kind, r.body = kind, inner
	return r, err
}

// passed reports whether the record has been at that server before.
func (r *relay) passed(id envelope.ServerID) bool { return slices.Contains(r.via, id) }
