package envelope

import (
	"bytes"
	"strconv"
)

// ParseCursors reads the control frames that there are most of, ack and read, in
// the form in which clients write them: {"control":"ack","cursors":{"node:a":1}}.
// What is in another form, or another frame, or refused, is not ok: it is for
// [Parser.Parse] and [ParseControl], which say so of these frames too.
func ParseCursors(frame []byte) (control string, cursors []Position, ok bool) {
	if !bytes.HasPrefix(frame, []byte(`{"control":"`)) { // most frames are messages
		return "", nil, false
	}
	s := scanner{text: frame, limit: MaxDepth}
	var o object
	s.enter()
	s.next(&o)
	switch string(s.value()) {
	case `"ack"`:
		control = ControlAck
	case `"read"`:
		control = ControlRead
	default:
		return "", nil, false
	}
	if !s.next(&o) || string(o.raw) != `"cursors"` || s.peek() != '{' {
		return "", nil, false
	}
	cursors = s.cursors()
	if s.next(&o) || cursors == nil {
		return "", nil, false
	}
	s.end()
	return control, cursors, s.err == nil
}

// cursors reads an object of cursors; nil if there is anything unusual about it.
func (s *scanner) cursors() []Position {
	var few [8]Position // so that most lists are allocated once, in their size
	cursors := few[:0]
	var o object
	s.enter()
	for s.next(&o) {
		log, err := ParseAddress(string(o.name))
		if err != nil {
			return nil
		}
		n, err := strconv.ParseUint(view(s.value()), 10, 64)
		if err != nil || n > 1<<53 || len(cursors) == maxCursors {
			return nil
		}
		cursors = append(cursors, Position{log, n})
	}
	s.depth--
	return append(make([]Position, 0, len(cursors)), cursors...)
}
