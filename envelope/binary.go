package envelope

import (
	"encoding/binary"
	"errors"
)

// The binary form, used by stores and peer links (never by clients):
//
//	byte     version (1)
//	byte     flags: 1 has type, 2 receipt, 4 edits, 8 deletes, 16 for the master, 32 shown from
//	byte     class
//	uvarint  seq
//	varint   timestamp, type, ttl
//	uvarint  the seq that it edits or deletes, with one of these flags only
//	uvarint  from which joining on it is shown, with this flag only
//	string   id, dest node, dest client, dest session, src node, src client, key
//	bytes    body
//
// A string and bytes are a uvarint length and that many bytes.
const binaryVersion = 1

const (
	flagHasType = 1 << iota
	flagReceipt
	flagEdits
	flagDeletes
	flagForMaster
	flagShownFrom
)

// ErrBinary is returned for bytes that are not an envelope's binary form.
var ErrBinary = errors.New("envelope: damaged binary form")

// AppendBinary appends the binary form of e to dst.
func (e *Envelope) AppendBinary(dst []byte) []byte {
	var flags byte
	if e.HasType {
		flags |= flagHasType
	}
	if e.Receipt {
		flags |= flagReceipt
	}
	if e.ForMaster {
		flags |= flagForMaster
	}
	if e.ShownFrom != 0 {
		flags |= flagShownFrom
	}
	switch {
	case e.Edits != 0:
		flags |= flagEdits
	case e.Deletes != 0:
		flags |= flagDeletes
	}
	dst = append(dst, binaryVersion, flags, byte(e.Class))
	dst = binary.AppendUvarint(dst, e.Seq)
	dst = binary.AppendVarint(dst, e.Timestamp)
	dst = binary.AppendVarint(dst, e.Type)
	dst = binary.AppendVarint(dst, e.TTL)
	if n := e.Revises(); n != 0 {
		dst = binary.AppendUvarint(dst, n)
	}
	if e.ShownFrom != 0 {
		dst = binary.AppendUvarint(dst, e.ShownFrom)
	}
	for _, s := range [...]string{
		e.ID, string(e.DestNode), string(e.DestClient), string(e.DestSession),
		string(e.SrcNode), string(e.SrcClient), e.Key,
	} {
		dst = AppendString(dst, s)
	}
	return AppendString(dst, e.Body)
}

// ParseBinary reads one envelope from the front of b and returns what follows
// it. Body aliases b. The error is [ErrBinary].
func ParseBinary(b []byte) (e Envelope, rest []byte, err error) {
	if len(b) < 3 || b[0] != binaryVersion || b[2] > byte(Latest) {
		return e, nil, ErrBinary
	}
	e.HasType = b[1]&flagHasType != 0
	e.Receipt = b[1]&flagReceipt != 0
	e.ForMaster = b[1]&flagForMaster != 0
	e.Class = Class(b[2])
	r := Reader{b: b[3:]}
	e.Seq = r.Uvarint()
	e.Timestamp = r.varint()
	e.Type = r.varint()
	e.TTL = r.varint()
	switch b[1] & (flagEdits | flagDeletes) {
	case flagEdits:
		e.Edits = r.Uvarint()
	case flagDeletes:
		e.Deletes = r.Uvarint()
	case flagEdits | flagDeletes:
		return e, nil, ErrBinary
	}
	if b[1]&flagShownFrom != 0 {
		e.ShownFrom = r.Uvarint()
	}
	ids := r.strings()
	e.ID = ids[0]
	e.DestNode = NodeID(ids[1])
	e.DestClient = ClientID(ids[2])
	e.DestSession = SessionID(ids[3])
	e.SrcNode = NodeID(ids[4])
	e.SrcClient = ClientID(ids[5])
	e.Key = ids[6]
	e.Body = r.Bytes()
	if r.bad {
		return Envelope{}, nil, ErrBinary
	}
	return e, r.b, nil
}

// AppendString appends s with its length in front.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendAddress appends an address: its kind, then its id.
func AppendAddress(dst []byte, a Address) []byte {
	return AppendString(append(dst, byte(a.Kind)), a.ID)
}

// Reader takes binary values from the front of a byte slice. After the first
// value that is not there it returns zero values and Err reports it.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a Reader over b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Rest returns what has not been read.
func (r *Reader) Rest() []byte { return r.b }

// Err returns [ErrBinary] when a value was not there.
func (r *Reader) Err() error {
	if r.bad {
		return ErrBinary
	}
	return nil
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Uvarint reads an unsigned varint.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *Reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Bytes reads bytes with their length in front; the result aliases the input.
func (r *Reader) Bytes() []byte {
	n := r.Uvarint()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// String reads a string with its length in front.
func (r *Reader) String() string { return string(r.Bytes()) }

// strings reads the strings of an envelope into one allocation.
func (r *Reader) strings() (out [7]string) {
	ahead := *r
	for range out {
		ahead.Bytes()
	}
	if ahead.bad {
		r.bad = true
		return out
	}
	text := string(r.b[:len(r.b)-len(ahead.b)])
	for i := range out {
		before := len(r.b)
		n := len(r.Bytes())
		skip := before - len(r.b)
		out[i], text = text[skip-n:skip], text[skip:]
	}
	return out
}

// Address reads what [AppendAddress] wrote.
func (r *Reader) Address() Address {
	a := Address{Kind: Kind(r.Byte()), ID: r.String()}
	switch a.Kind {
	case KindNode, KindClient, KindSession, KindHook:
		if a.valid() {
			return a
		}
	}
	r.bad = true
	return Address{}
}

// Envelope reads one envelope; its Body aliases the input.
func (r *Reader) Envelope() Envelope {
	if r.bad {
		return Envelope{}
	}
	e, rest, err := ParseBinary(r.b)
	if err != nil {
		r.bad = true
		return Envelope{}
	}
	r.b = rest
	return e
}
