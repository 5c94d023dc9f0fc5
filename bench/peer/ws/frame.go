package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxMessage is the largest message that is read.
const MaxMessage = 16 << 20

var errProtocol = errors.New("ws: the server does not keep to RFC 6455")

// CloseError is the server's closing frame.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("ws: closed with %d %q", e.Code, e.Reason) }

// appendFrame appends a client's frame whose payload build appends.
func appendFrame(out []byte, op byte, key [4]byte, build func(b []byte) []byte) []byte {
	// A payload of 126 bytes to 64 KB has a header of eight bytes; others move.
	const usual = 8
	start := len(out)
	out = build(append(out, make([]byte, usual)...))
	size := len(out) - start - usual
	mask(out[start+usual:], key)
	var room [14]byte
	header := appendHeader(room[:0], op, size, key)
	if more := len(header) - usual; more != 0 {
		out = append(out, make([]byte, max(more, 0))...)
		copy(out[start+len(header):], out[start+usual:start+usual+size])
		out = out[:start+len(header)+size]
	}
	copy(out[start:], header)
	return out
}

// appendHeader appends the header of a client's frame (section 5.2).
func appendHeader(b []byte, op byte, size int, key [4]byte) []byte {
	b = append(b, final|op)
	const masked = 0x80
	switch {
	case size < 126:
		b = append(b, masked|byte(size))
	case size <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(size))
	}
	return append(b, key[:]...)
}

// mask masks a payload in place (section 5.3).
func mask(b []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
	}
	for i := range b {
		b[i] ^= key[i%4]
	}
}

// frame is one frame of a server.
type frame struct {
	final   bool
	op      byte
	payload []byte
}

// parseFrame reads the frame at the beginning of in, and returns its size; 0:
// it is not all there.
func parseFrame(in []byte) (f frame, size int, err error) {
	if len(in) < 2 {
		return f, 0, nil
	}
	const reserved, masked = 0x70, 0x80
	if in[0]&reserved != 0 || in[1]&masked != 0 {
		return f, 0, errProtocol
	}
	header, length := 2, uint64(in[1])
	switch length {
	case 126:
		if header = 4; len(in) < header {
			return f, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(in[2:]))
	case 127:
		if header = 10; len(in) < header {
			return f, 0, nil
		}
		length = binary.BigEndian.Uint64(in[2:])
	}
	if length > MaxMessage {
		return f, 0, fmt.Errorf("%w: a frame of %d bytes", errProtocol, length)
	}
	size = header + int(length)
	if len(in) < size {
		return f, 0, nil
	}
	return frame{final: in[0]&final != 0, op: in[0] & 0xF, payload: in[header:size]}, size, nil
}

// reader is Conn as a wire.Reader.
type reader Conn

// Read handles all whole frames.
func (r *reader) Read(in []byte) (used int, err error) {
	for {
		f, size, err := parseFrame(in[used:])
		if err != nil || size == 0 {
			return used, err
		}
		used += size
		if err := (*Conn)(r).handle(f); err != nil {
			return used, err
		}
	}
}

// Closed tells the user.
func (r *reader) Closed(err error) {
	if r.closed != nil {
		r.closed(err)
	}
}

func (c *Conn) handle(f frame) error {
	switch {
	case f.op >= opClose && !f.final:
		return errProtocol
	case f.op == opPing:
		return c.Write(opPong, func(b []byte) []byte { return append(b, f.payload...) })
	case f.op == opPong:
		return nil
	case f.op == opClose:
		e := &CloseError{Code: 1005} // no code given (section 7.1.5)
		if len(f.payload) >= 2 {
			e.Code, e.Reason = int(binary.BigEndian.Uint16(f.payload)), string(f.payload[2:])
		}
		return e
	case f.op == opContinue:
		if c.op == 0 || len(c.partial)+len(f.payload) > MaxMessage {
			return errProtocol
		}
		c.partial = append(c.partial, f.payload...)
		if !f.final {
			return nil
		}
		op, whole := c.op, c.partial
		c.op, c.partial = 0, nil
		return c.message(c, op, whole)
	case c.op != 0 || f.op > Binary:
		return errProtocol
	case !f.final:
		c.op, c.partial = f.op, append([]byte(nil), f.payload...)
		return nil
	}
	return c.message(c, f.op, f.payload)
}
