package envelope

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the frame for a client to dst: the routing fields, then
// Body as the sender wrote it. Class, ttl and receipt are between the sender
// and the server and are not part of it.
func (e *Envelope) AppendJSON(dst []byte) []byte {
	return e.appendBody(e.appendRouting(dst))
}

// AppendRequest appends the frame with which a client sends e: AppendJSON's
// with class, key, ttl and receipt and without what the server sets.
func (e *Envelope) AppendRequest(dst []byte) []byte {
	said := *e
	said.SrcNode, said.SrcClient, said.Timestamp, said.Seq = "", "", 0, 0
	dst = said.appendRouting(dst)
	if e.Class != Durable {
		dst = appendStringMember(dst, "class", e.Class.String())
	}
	dst = appendStringMember(dst, "key", e.Key)
	if e.TTL != 0 {
		dst = appendIntMember(dst, "ttl", e.TTL)
	}
	if e.Receipt {
		dst = append(dst, `"receipt":true,`...)
	}
	return e.appendBody(dst)
}

func (e *Envelope) appendRouting(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendStringMember(dst, "id", e.ID)
	dst = appendStringMember(dst, "dest_id", string(e.DestNode))
	dst = appendStringMember(dst, "dest_client_id", string(e.DestClient))
	dst = appendStringMember(dst, "dest_session_id", string(e.DestSession))
	dst = appendStringMember(dst, "src_id", string(e.SrcNode))
	dst = appendStringMember(dst, "src_client_id", string(e.SrcClient))
	if e.Timestamp != 0 {
		dst = appendIntMember(dst, "timestamp", e.Timestamp)
	}
	if e.HasType {
		dst = appendIntMember(dst, "type", e.Type)
	}
	if e.Seq != 0 {
		dst = appendIntMember(dst, "seq", int64(e.Seq))
	}
	if e.Edits != 0 {
		dst = appendIntMember(dst, "edits", int64(e.Edits))
	}
	if e.Deletes != 0 {
		dst = appendIntMember(dst, "deletes", int64(e.Deletes))
	}
	return dst
}

// appendBody appends Body and ends the frame.
func (e *Envelope) appendBody(dst []byte) []byte {
	if len(e.Body) == 0 {
		return closeObject(dst)
	}
	return append(append(dst, e.Body...), '}')
}

// closeObject ends an object, and closeArray an array: each takes back the comma
// behind the last member, if there is one.
func closeObject(dst []byte) []byte { return append(bytes.TrimSuffix(dst, []byte{','}), '}') }

func closeArray(dst []byte) []byte { return append(bytes.TrimSuffix(dst, []byte{','}), ']') }

// appendStringMember appends a member whose value needs no escaping, with a
// comma behind it; nothing when the value is empty.
func appendStringMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = appendName(dst, name)
	dst = append(dst, '"')
	dst = append(dst, value...)
	return append(dst, '"', ',')
}

func appendIntMember(dst []byte, name string, n int64) []byte {
	return append(strconv.AppendInt(appendName(dst, name), n, 10), ',')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// SetPayload makes Body the one member "payload" with the JSON string s.
// Bytes of s that are not UTF-8 become U+FFFD.
func (e *Envelope) SetPayload(s string) {
	// AppendQuote reports bad UTF-8 and has replaced it by then.
	e.Body, _ = jsontext.AppendQuote([]byte(`"payload":`), s)
}

// Member returns the JSON value of the named member of Body, and false when
// there is none. The value aliases Body.
func (e *Envelope) Member(name string) (jsontext.Value, bool) {
	s := scanner{text: e.Body, limit: MaxDepth}
	var o object
	for s.next(&o) {
		if value := s.value(); s.err == nil && string(o.name) == name {
			return value, true
		}
	}
	return nil, false
}
