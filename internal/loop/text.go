package loop

import "encoding/binary"

// plainText looks at the frame at the beginning of input, which comes from a
// client. It returns the payload, still masked, with the masking key and the size
// of the frame, when that is a text message as a whole without extensions
// (RFC 6455, section 5.2).
func plainText(in []byte) (payload []byte, key [4]byte, size int, ok bool) {
	all, fin, op, complete := header(in)
	if !complete || all > uint64(len(in)) || !fin || op != opText || in[0]&0x70 != 0 || in[1]&0x80 == 0 {
		return nil, key, 0, false
	}
	head := 6
	switch in[1] & 0x7f {
	case 126:
		head += 2
	case 127:
		head += 8
	}
	return in[head:all], [4]byte(in[head-4 : head]), int(all), true
}

// unmask takes the mask off a payload, in place (RFC 6455, section 5.3).
func unmask(payload []byte, key [4]byte) {
	wide := uint64(binary.LittleEndian.Uint32(key[:])) * 0x1_0000_0001
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^wide)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= key[i&3]
	}
}
