package loop

import (
	"encoding/binary"
	"math"
)

// frames finds where messages end in what comes in (RFC 6455, section 5.2). It
// judges nothing: what is wrong with a frame the library finds out.
type frames struct {
	// within is true between the first and the last frame of a message.
	within bool
}

// Opcodes. Those below opControl are of data frames.
const (
	opText    = 1
	opControl = 8
	opClose   = 8
	opPing    = 9
	opPong    = 10
)

// whole returns how many bytes of input are frames that have come whole, and
// whether what follows them cannot be waited for: because it is too large.
func (f *frames) whole(in []byte) (n int, large bool) {
	for {
		size, fin, op, ok := header(in[n:])
		if !ok {
			return n, false
		}
		if size > maxWhole {
			return n, true
		}
		if int(size) > len(in)-n {
			return n, false
		}
		n += int(size)
		if op < opControl {
			f.within = !fin
		}
	}
}

// header reads what a frame says of itself: its size with its header. It
// reports false when the header is not there as a whole.
func header(in []byte) (size uint64, fin bool, op byte, ok bool) {
	if len(in) < 2 {
		return 0, false, 0, false
	}
	fin, op = in[0]&0x80 != 0, in[0]&0x0f
	head := uint64(2)
	if in[1]&0x80 != 0 {
		head += 4 // the masking key
	}
	switch n := in[1] & 0x7f; n {
	case 126:
		if len(in) < 4 {
			return 0, false, 0, false
		}
		size, head = uint64(binary.BigEndian.Uint16(in[2:])), head+2
	case 127:
		if len(in) < 10 {
			return 0, false, 0, false
		}
		size, head = binary.BigEndian.Uint64(in[2:])&(1<<63-1), head+8
	default:
		size = uint64(n)
	}
	return size + head, fin, op, true
}

// pongSize is the size of the answer to a ping without data, in bytes: a masked header.
const pongSize = 2 + 4

// skipPongs returns what comes behind the answers to [Conn.Ping] with which the
// input begins: pongs without data, which nobody waits for. That something came
// in has been counted. To the library, whose own pings have data, such a pong
// means nothing (RFC 6455, section 5.5.3), and costs more than all else about a ping.
func skipPongs(in []byte) []byte {
	const masked = 0x80
	for len(in) >= pongSize && in[0] == 0x80|opPong && in[1] == masked {
		in = in[pongSize:]
	}
	return in
}

// begin notes that the frame at the beginning of input is read as it comes, and
// returns its size.
func (f *frames) begin(in []byte) uint64 {
	size, fin, op, _ := header(in)
	if op < opControl {
		f.within = !fin
	}
	return size
}

// appendHeader appends the header of an unmasked frame that is a message or a
// control frame as a whole.
func appendHeader(dst []byte, op byte, size int) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case size < 126:
		return append(dst, byte(size))
	case size <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
}
