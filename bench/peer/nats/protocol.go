package nats

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// The client protocol of NATS: lines, and payloads of a length that the line
// before tells (docs.nats.io/reference/reference-protocols/nats-protocol).

// appendPub appends PUB; reply may be empty.
func appendPub(b []byte, subject, reply string, payload []byte) []byte {
	b = append(append(b, "PUB "...), subject...)
	if reply != "" {
		b = append(append(b, ' '), reply...)
	}
	b = strconv.AppendInt(append(b, ' '), int64(len(payload)), 10)
	b = append(append(b, "\r\n"...), payload...)
	return append(b, "\r\n"...)
}

func appendSub(b []byte, subject string, sid int) []byte {
	b = append(append(b, "SUB "...), subject...)
	b = strconv.AppendInt(append(b, ' '), int64(sid), 10)
	return append(b, "\r\n"...)
}

// message is MSG; it points into what was parsed.
type message struct {
	subject, reply []byte
	sid            int
	payload        []byte
}

// events are what a server sends; each is called while the input is parsed.
type events struct {
	message func(message) error
	ping    func()
	pong    func()
}

// ServerError is -ERR.
type ServerError struct{ Text string }

func (e *ServerError) Error() string { return "nats: " + e.Text }

var (
	errProtocol = errors.New("nats: not the protocol of a server")
	crlf        = []byte("\r\n")
	msgPrefix   = []byte("MSG ")
)

// parse handles all whole messages at the beginning of in.
func (e events) parse(in []byte) (used int, err error) {
	for {
		line, rest, ok := bytes.Cut(in[used:], crlf)
		if !ok {
			return used, nil
		}
		size := len(line) + len(crlf)
		switch {
		case bytes.HasPrefix(line, msgPrefix):
			m, length, err := parseMsg(line[len(msgPrefix):])
			if err != nil {
				return used, err
			}
			if len(rest) < length+len(crlf) {
				return used, nil
			}
			m.payload = rest[:length]
			if err := e.message(m); err != nil {
				return used, err
			}
			size += length + len(crlf)
		case string(line) == "PING":
			e.ping()
		case string(line) == "PONG":
			e.pong()
		case bytes.HasPrefix(line, []byte("INFO ")), string(line) == "+OK":
		case bytes.HasPrefix(line, []byte("-ERR ")):
			return used, &ServerError{string(line[len("-ERR "):])}
		default:
			return used, fmt.Errorf("%w: %q", errProtocol, line)
		}
		used += size
	}
}

// parseMsg reads "subject sid [reply] length".
func parseMsg(line []byte) (m message, length int, err error) {
	var ok1, ok2 bool
	var sid []byte
	m.subject, line, ok1 = bytes.Cut(line, space)
	sid, line, ok2 = bytes.Cut(line, space)
	if reply, number, ok := bytes.Cut(line, space); ok {
		m.reply, line = reply, number
	}
	m.sid, err = strconv.Atoi(string(sid))
	if err == nil {
		length, err = strconv.Atoi(string(line))
	}
	if err != nil || !ok1 || !ok2 || length < 0 || length > maxPayload {
		return m, 0, fmt.Errorf("%w: MSG %q", errProtocol, line)
	}
	return m, length, nil
}

// maxPayload is more than the default of the server's max_payload.
const maxPayload = 64 << 20

var space = []byte(" ")
