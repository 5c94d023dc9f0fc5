package embedded

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// appendEntry appends the value of an entry's row. total is what the entries
// of its log count for up to this one, whether or not they are still there:
// the difference of two of them is what lies between.
func appendEntry(dst []byte, total int64, env *envelope.Envelope) []byte {
	return env.AppendBinary(binary.AppendUvarint(dst, uint64(total)))
}

// cutTotal takes the total off an entry's value. What is left aliases value.
func cutTotal(value []byte) (total int64, rest []byte, err error) {
	n, length := binary.Uvarint(value)
	if length <= 0 {
		return 0, nil, errDamaged
	}
	return int64(n), value[length:], nil
}

// parseEntry reads the value of the entry with that seq. The envelope's body
// aliases value.
func parseEntry(value []byte, seq uint64) (total int64, env envelope.Envelope, err error) {
	total, value, err = cutTotal(value)
	if err != nil {
		return 0, env, err
	}
	env, rest, err := envelope.ParseBinary(value)
	if err != nil || len(rest) > 0 || env.Seq != seq {
		return 0, env, errDamaged
	}
	return total, env, nil
}

// stub is where a message with an id went, and what tells a repetition of it
// from another message. It stays when the entry is trimmed:
//
//	uvarint seq
//	bytes   digest
//	uvarint timestamp
type stub struct {
	seq       uint64
	digest    [16]byte
	timestamp int64
}

func (s stub) append(dst []byte) []byte {
	dst = envelope.AppendString(binary.AppendUvarint(dst, s.seq), s.digest[:])
	return binary.AppendUvarint(dst, uint64(s.timestamp))
}

// readStub returns a zero stub when there is none.
func readStub(from pebble.Reader, key []byte) (s stub, err error) {
	_, err = get(from, key, func(value []byte) error {
		r := envelope.NewReader(value)
		s.seq = r.Uvarint()
		if copy(s.digest[:], r.Bytes()) != len(s.digest) || s.seq == 0 {
			return errDamaged
		}
		s.timestamp = int64(r.Uvarint())
		return r.Err()
	})
	return s, err
}

// remnant is a trimmed entry. It leads to the stub, so that stubs can be
// forgotten in the order of the log:
//
//	uvarint timestamp
//	string  source, id
type remnant struct {
	timestamp int64
	src       envelope.NodeID
	id        string
}

func (r remnant) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.timestamp))
	return envelope.AppendString(envelope.AppendString(dst, string(r.src)), r.id)
}

func parseRemnant(value []byte) (remnant, error) {
	in := envelope.NewReader(value)
	r := remnant{int64(in.Uvarint()), envelope.NodeID(in.String()), in.String()}
	return r, in.Err()
}

// trimmed is how far a log has been trimmed:
//
//	uvarint floor, bytes, kept
type trimmed struct {
	floor uint64 // the first entry that is there
	bytes int64  // what the entries below counted for
	kept  uint64 // nothing is left of entries below, not even a stub
}

// untrimmed is where every log begins. It has no row.
func untrimmed() trimmed { return trimmed{floor: 1, kept: 1} }

func (t trimmed) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.floor)
	dst = binary.AppendUvarint(dst, uint64(t.bytes))
	return binary.AppendUvarint(dst, t.kept)
}

func parseTrimmed(value []byte) (trimmed, error) {
	r := envelope.NewReader(value)
	t := trimmed{r.Uvarint(), int64(r.Uvarint()), r.Uvarint()}
	if t.kept == 0 || t.floor < t.kept {
		return t, errDamaged
	}
	return t, r.Err()
}

func readTrimmed(from pebble.Reader, log envelope.Address) (trimmed, error) {
	t := untrimmed()
	_, err := get(from, logPrefix(log), func(value []byte) (err error) {
		t, err = parseTrimmed(value)
		return err
	})
	return t, err
}
