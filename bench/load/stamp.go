package load

// stamp is what a body says of itself, in hexadecimal digits of fixed width:
// the run (8), the sender (8), the number (8), and nanoseconds from the start
// of the run to the moment when it was due (16); then filling.
type stamp struct {
	run  uint32
	from uint32
	n    uint32
	due  int64
}

// stampSize is the least size of a body.
const stampSize = 8 + 8 + 8 + 16

// appendBody appends a body of size bytes, or of stampSize if that is more.
func (s stamp) appendBody(b []byte, size int) []byte {
	b = appendHex(b, uint64(s.run), 8)
	b = appendHex(b, uint64(s.from), 8)
	b = appendHex(b, uint64(s.n), 8)
	b = appendHex(b, uint64(s.due), 16)
	for range size - stampSize {
		b = append(b, 'x')
	}
	return b
}

func appendHex(b []byte, v uint64, width int) []byte {
	for shift := 4 * (width - 1); shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[v>>shift&0xF])
	}
	return b
}

// readStamp reads a body; false: it is not one of ours.
func readStamp(body []byte) (s stamp, ok bool) {
	if len(body) < stampSize {
		return s, false
	}
	run, ok1 := readHex(body[:8])
	from, ok2 := readHex(body[8:16])
	n, ok3 := readHex(body[16:24])
	due, ok4 := readHex(body[24:40])
	return stamp{run: uint32(run), from: uint32(from), n: uint32(n), due: int64(due)}, ok1 && ok2 && ok3 && ok4
}

func readHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
