package allspark

import (
	"bytes"
	"strconv"

	"github.com/allsparkrt/allspark/bench/peer"
)

// The frames that a load needs are recognised by how the server writes them:
// members in a fixed order, no blanks. A client for users parses.

var (
	controlStart = []byte(`{"control":"`)
	payloadStart = []byte(`"payload":"`)
	sessionName  = []byte(`"dest_session_id":"`)
	seqName      = []byte(`"seq":`)
	idName       = []byte(`"id":"`)
)

// appendMessage appends the frame that sends m. dest is the name of the
// destination's member.
func appendMessage(b []byte, dest, to string, m peer.Message) []byte {
	b = append(b, '{')
	if m.Tag != 0 {
		b = append(strconv.AppendUint(append(b, `"id":"`...), m.Tag, 10), `",`...)
	}
	b = append(append(append(append(append(b, '"'), dest...), `":"`...), to...), `",`...)
	if !m.Durable {
		b = append(b, `"class":"volatile",`...)
	}
	if m.Receipt {
		b = append(b, `"receipt":true,`...)
	}
	return append(append(append(b, `"payload":"`...), m.Body...), `"}`...)
}

// message is what matters of a frame that is no control frame.
type message struct {
	body    []byte
	session []byte // of a session's log; else the device's
	seq     uint64 // 0: not stored
}

// parseMessage returns false when the frame has no payload that is a string.
func parseMessage(frame []byte) (m message, ok bool) {
	i := bytes.Index(frame, payloadStart)
	if i < 0 {
		return m, false
	}
	head, rest := frame[:i], frame[i+len(payloadStart):]
	if m.body, _, ok = bytes.Cut(rest, quote); !ok {
		return m, false
	}
	m.seq = number(head, seqName)
	m.session = word(head, sessionName)
	return m, true
}

var quote = []byte{'"'}

// word returns the string behind a member's name; nil when there is none.
func word(frame, name []byte) []byte {
	i := bytes.Index(frame, name)
	if i < 0 {
		return nil
	}
	value, _, _ := bytes.Cut(frame[i+len(name):], quote)
	return value
}

// number returns the number behind a member's name; 0 when there is none.
func number(frame, name []byte) (n uint64) {
	i := bytes.Index(frame, name)
	if i < 0 {
		return 0
	}
	return digits(frame[i+len(name):])
}

// digits returns the number at the beginning of b.
func digits(b []byte) (n uint64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
