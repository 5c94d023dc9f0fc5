package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A message on the wire, all integers little-endian:
//
//	length int32, request id int32, response to int32, opcode int32
//	OP_MSG:   flags uint32, then sections: kind 0 and one document (the body, once),
//	          or kind 1, size int32, name\0 and documents (e.g. those to insert)
//	OP_REPLY: flags int32, cursor int64, starting from int32, documents int32, document
//	OP_QUERY: only seen from a client's first hello; passed on unread
const (
	headerSize      = 16
	replyPrefixSize = headerSize + 20
	maxMessageSize  = 48_000_000

	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1 // the sender expects no reply
	flagsRequired  = 1<<16 - 1
)

var (
	errLength    = errors.New("message length out of bounds")
	errMalformed = errors.New("malformed message")
)

// message is one whole message, header included.
type message []byte

func (m message) requestID() int32       { return int32(binary.LittleEndian.Uint32(m[4:])) }
func (m message) opcode() int32          { return int32(binary.LittleEndian.Uint32(m[12:])) }
func (m message) flags() uint32          { return binary.LittleEndian.Uint32(m[headerSize:]) }
func (m message) setFlags(flags uint32)  { binary.LittleEndian.PutUint32(m[headerSize:], flags) }
func (m message) setResponseTo(id int32) { binary.LittleEndian.PutUint32(m[8:], uint32(id)) }

// readMessage reads one message. The end of input before its first byte is io.EOF.
func readMessage(r io.Reader) (message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := int32(binary.LittleEndian.Uint32(header[:]))
	if length < headerSize || length > maxMessageSize {
		return nil, fmt.Errorf("%w: %d", errLength, length)
	}
	m := make(message, length)
	copy(m, header[:])
	if _, err := io.ReadFull(r, m[headerSize:]); err != nil {
		return nil, fmt.Errorf("reading a message of %d bytes: %w", length, err)
	}
	return m, nil
}

// newMessage is an OP_MSG with nothing but a body.
func newMessage(responseTo int32, body bson.Raw) message {
	m := make(message, headerSize, headerSize+5+len(body))
	binary.LittleEndian.PutUint32(m[0:], uint32(cap(m)))
	binary.LittleEndian.PutUint32(m[12:], opMsg)
	m.setResponseTo(responseTo)
	m = append(m, 0, 0, 0, 0) // flags
	m = append(m, 0)          // kind
	return append(m, body...)
}

// body finds the body of an OP_MSG. It checks that the sections fill the message, and
// steps over the documents of the other sections without looking at them.
func (m message) body() (bson.Raw, error) {
	if len(m) < headerSize+4 {
		return nil, fmt.Errorf("%w: no flags", errMalformed)
	}
	if unknown := m.flags() & flagsRequired &^ flagMoreToCome; unknown != 0 {
		return nil, fmt.Errorf("%w: unsupported flags %#x", errMalformed, unknown)
	}
	var body bson.Raw
	for rest := m[headerSize+4:]; len(rest) > 0; {
		kind := rest[0]
		section, err := sized(rest[1:])
		if err != nil {
			return nil, err
		}
		switch {
		case kind == 0 && body == nil:
			body = bson.Raw(section)
		case kind == 1 && bytes.IndexByte(section[4:], 0) >= 0:
		default:
			return nil, fmt.Errorf("%w: unexpected section of kind %d", errMalformed, kind)
		}
		rest = rest[1+len(section):]
	}
	if body == nil {
		return nil, fmt.Errorf("%w: no body", errMalformed)
	}
	return body, nil
}

// sized cuts from b what begins with its own length.
func sized(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: truncated", errMalformed)
	}
	size := int32(binary.LittleEndian.Uint32(b))
	if size < 5 || int64(size) > int64(len(b)) {
		return nil, fmt.Errorf("%w: a section of %d bytes in %d", errMalformed, size, len(b))
	}
	return b[:size], nil
}

// section returns the documents of the section so named, end to end. The message must
// have passed body.
func (m message) section(name string) []byte {
	for rest := m[headerSize+4:]; len(rest) > 0; {
		section, err := sized(rest[1:])
		if err != nil {
			return nil
		}
		found, documents, _ := bytes.Cut(section[4:], []byte{0})
		if rest[0] == 1 && string(found) == name {
			return documents
		}
		rest = rest[1+len(section):]
	}
	return nil
}

// amend rewrites the one document of a message that is an OP_MSG or an OP_REPLY.
// For any other section it has no room.
func (m message) amend(change func(bson.D) bson.D) (message, error) {
	var document bson.D
	if err := m.decode(&document); err != nil {
		return nil, err
	}
	changed, err := bson.Marshal(change(document))
	if err != nil {
		return nil, err
	}
	prefix := m.prefix()
	amended := append(m[:prefix:prefix], changed...)
	binary.LittleEndian.PutUint32(amended, uint32(len(amended)))
	return amended, nil
}

// decode decodes the one document of such a message.
func (m message) decode(into any) error {
	if len(m) < m.prefix() {
		return fmt.Errorf("%w: too short", errMalformed)
	}
	document := m[m.prefix():]
	if size, err := sized(document); err != nil || len(size) != len(document) {
		return fmt.Errorf("%w: not one document", errMalformed)
	}
	if err := bson.Unmarshal(document, into); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

// prefix is the size of what comes before the document.
func (m message) prefix() int {
	if m.opcode() == opReply {
		return replyPrefixSize
	}
	return headerSize + 5
}
