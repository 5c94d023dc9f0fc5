package remote

import (
	"encoding/binary"
	"errors"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// What the bench tells a worker about a connection.
const (
	open    = 'O' // JSON of a peer.User
	send    = 'S' // a message
	publish = 'P' // a message
	watch   = 'W' // JSON of users
	shut    = 'X'
)

// What a worker tells the bench.
const (
	opened   = 'o' // why not; empty: it is open
	body     = 'm'
	accepted = 'a' // tag
	refused  = 'r' // tag and reason
	receipt  = 't'
	ended    = 'x' // why
)

// frame is one thing said: the size of the rest (4 bytes), the kind (1), the
// number of the connection (4), and what there is to say.
type frame struct {
	kind byte
	conn uint32
	rest []byte // points into what was read
}

const (
	sizeBytes   = 4
	headerBytes = 1 + 4
	maxFrame    = 1 << 24
)

var errFrame = errors.New("remote: not a frame")

// say writes a frame.
func say(w *wire.Conn, kind byte, conn uint32, add func([]byte) []byte) error {
	return w.Write(func(b []byte) []byte {
		start := len(b)
		b = append(b, 0, 0, 0, 0, kind)
		b = binary.BigEndian.AppendUint32(b, conn)
		if add != nil {
			b = add(b)
		}
		binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-sizeBytes))
		return b
	})
}

// text has bytes said.
func text[T string | []byte](s T) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, s...) }
}

// frames is a [wire.Reader] that hands whole frames on.
type frames struct {
	each   func(frame) error
	closed func(error)
}

// Read implements [wire.Reader].
func (f frames) Read(in []byte) (used int, err error) {
	for {
		rest := in[used:]
		if len(rest) < sizeBytes {
			return used, nil
		}
		size := int(binary.BigEndian.Uint32(rest))
		if size < headerBytes || size > maxFrame {
			return used, errFrame
		}
		if len(rest) < sizeBytes+size {
			return used, nil
		}
		whole := rest[sizeBytes : sizeBytes+size]
		if err := f.each(frame{whole[0], binary.BigEndian.Uint32(whole[1:]), whole[headerBytes:]}); err != nil {
			return used, err
		}
		used += sizeBytes + size
	}
}

// Closed implements [wire.Reader].
func (f frames) Closed(err error) { f.closed(err) }

// Flags of a message.
const (
	isDurable = 1 << iota
	wantsReceipt
)

// appendMessage appends flags, tag, the addressee with its length, and the body.
func appendMessage(b []byte, to string, m peer.Message) []byte {
	var flags byte
	if m.Durable {
		flags |= isDurable
	}
	if m.Receipt {
		flags |= wantsReceipt
	}
	b = binary.AppendUvarint(append(b, flags), m.Tag)
	b = append(append(b, byte(len(to))), to...) // names have 32 characters at most
	return append(b, m.Body...)
}

func readMessage(in []byte) (to string, m peer.Message, err error) {
	if len(in) < 1 {
		return "", m, errFrame
	}
	m.Durable, m.Receipt = in[0]&isDurable != 0, in[0]&wantsReceipt != 0
	tag, n := binary.Uvarint(in[1:])
	if n <= 0 {
		return "", m, errFrame
	}
	in = in[1+n:]
	if len(in) < 1 || len(in) < 1+int(in[0]) {
		return "", m, errFrame
	}
	m.Tag, to, m.Body = tag, string(in[1:1+int(in[0])]), in[1+int(in[0]):]
	return to, m, nil
}

// appendTag appends a tag and what is said of it.
func appendTag(b []byte, tag uint64, reason string) []byte {
	return append(binary.BigEndian.AppendUint64(b, tag), reason...)
}

func readTag(in []byte) (tag uint64, reason []byte, err error) {
	const size = 8
	if len(in) < size {
		return 0, nil, errFrame
	}
	return binary.BigEndian.Uint64(in), in[size:], nil
}
