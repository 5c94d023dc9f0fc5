//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// framing is how messages stand in the stream of bytes.
type framing interface {
	// open handles the beginning of a connection. It returns what to answer and
	// how many bytes that is about; 0: it is not all there.
	open(in []byte) (answer []byte, used int, err error)
	// next returns the first message and its size; 0: it is not all there. It
	// may change in.
	next(in []byte) (message []byte, size int, err error)
	// append appends a message for the client.
	append(out []byte, kind byte, body []byte) []byte
}

// maxMessage is the longest message that is taken.
const maxMessage = 1 << 20

var errFraming = errors.New("relay: not a message")

// tcp: four bytes of length, and the message.
type tcp struct{}

func (tcp) open([]byte) ([]byte, int, error) { return nil, 0, nil }

func (tcp) next(in []byte) ([]byte, int, error) {
	const header = 4
	if len(in) < header {
		return nil, 0, nil
	}
	n := binary.BigEndian.Uint32(in)
	if n > maxMessage {
		return nil, 0, errFraming
	}
	size := header + int(n)
	if len(in) < size {
		return nil, 0, nil
	}
	return in[header:size], size, nil
}

func (tcp) append(out []byte, kind byte, body []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)+1))
	return append(append(out, kind), body...)
}

// webSocket: RFC 6455, whole binary messages only.
type webSocket struct{}

var (
	requestEnd = []byte("\r\n\r\n")
	keyHeader  = []byte("\r\nSec-WebSocket-Key: ")
)

func (webSocket) open(in []byte) (answer []byte, used int, err error) {
	end := bytes.Index(in, requestEnd)
	if end < 0 {
		return nil, 0, nil
	}
	_, key, ok := bytes.Cut(in[:end], keyHeader)
	if !ok {
		return nil, 0, errFraming
	}
	key, _, _ = bytes.Cut(key, []byte("\r\n"))
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...)) // section 1.3
	answer = []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	answer = base64.StdEncoding.AppendEncode(answer, sum[:])
	return append(answer, requestEnd...), end + len(requestEnd), nil
}

func (webSocket) next(in []byte) ([]byte, int, error) {
	const finalBinary, masked = 0x82, 0x80
	if len(in) < 2 {
		return nil, 0, nil
	}
	if in[0] != finalBinary || in[1]&masked == 0 {
		return nil, 0, errFraming
	}
	header, length := 2, uint64(in[1]&^masked)
	switch {
	case length == 126 && len(in) >= 4:
		header, length = 4, uint64(binary.BigEndian.Uint16(in[2:]))
	case length == 127 && len(in) >= 10:
		header, length = 10, binary.BigEndian.Uint64(in[2:])
	case length >= 126:
		return nil, 0, nil
	}
	if length > maxMessage {
		return nil, 0, errFraming
	}
	const keySize = 4
	size := header + keySize + int(length)
	if len(in) < size {
		return nil, 0, nil
	}
	key, payload := in[header:header+keySize], in[header+keySize:size]
	unmask(payload, binary.LittleEndian.Uint32(key))
	return payload, size, nil
}

// unmask takes the mask off (section 5.3).
func unmask(b []byte, key uint32) {
	k := uint64(key)<<32 | uint64(key)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i % 4)))
	}
}

func (webSocket) append(out []byte, kind byte, body []byte) []byte {
	const finalBinary = 0x82
	switch n := len(body) + 1; {
	case n < 126:
		out = append(out, finalBinary, byte(n))
	case n <= 0xFFFF:
		out = binary.BigEndian.AppendUint16(append(out, finalBinary, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, finalBinary, 127), uint64(n))
	}
	return append(append(out, kind), body...)
}
