package envelope

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Origin is the side a frame comes from; it decides which fields are believed.
type Origin uint8

const (
	// FromClient frames may not set what the server sets: the source and the
	// time are ignored, a seq and a system type are refused.
	FromClient Origin = iota
	// FromLegacyClient is FromClient for clients without a subprotocol:
	// negative types are allowed and, like type 0, mean [Volatile].
	FromLegacyClient
	// FromServer frames are believed; the client library reads them.
	FromServer
)

// ErrControl is returned by [Parser.Parse] for a frame that has a "control"
// member: it is for [ParseControl].
var ErrControl = errors.New("envelope: a control frame")

// Parser reads envelopes from JSON frames in one pass. The zero value reads
// frames from clients. A Parser keeps its buffers between calls and is for one
// goroutine at a time.
//
// It is strict, because two readers that disagree about one frame are a hole
// in every check between them: one JSON object of valid UTF-8 (RFC 8259, RFC
// 7493), no member name twice, no lone surrogates, nesting up to [MaxDepth],
// reserved names in their exact spelling only, ids of the form of [ValidID],
// one destination.
type Parser struct {
	From Origin

	dec  jsontext.Decoder
	buf  bytes.Buffer
	name []byte
}

// Parse reads one frame. The envelope does not alias it. Errors are [*Error]
// with [BadRequest], or [ErrControl]. With an error the envelope holds at most
// the id, for the refusal to name it.
func (p *Parser) Parse(frame []byte) (Envelope, error) {
	p.buf = *bytes.NewBuffer(frame)
	p.dec.Reset(&p.buf)
	var e Envelope
	if err := p.members(frame, &e); err != nil {
		return Envelope{ID: e.ID}, err
	}
	if err := p.check(&e); err != nil {
		return Envelope{ID: e.ID}, err
	}
	return e, nil
}

func (p *Parser) members(frame []byte, e *Envelope) error {
	if t, err := p.dec.ReadToken(); err != nil || t.Kind() != '{' {
		return notJSON(err)
	}
	var classGiven bool
	for p.dec.PeekKind() != '}' {
		raw, err := p.dec.ReadValue()
		if err != nil {
			return notJSON(err)
		}
		if raw.Kind() != '"' {
			return notJSON(nil)
		}
		p.name, err = jsontext.AppendUnquote(p.name[:0], raw)
		if err != nil {
			return notJSON(err)
		}
		start := len(e.Body)
		field, reserved := fieldByName[string(p.name)]
		if field == fieldRevised && p.From == FromServer {
			field = fieldOpaque
		}
		if field == fieldOpaque {
			if err := notReserved(p.name); err != nil && !reserved {
				return err
			}
			if e.Body == nil {
				e.Body = make([]byte, 0, len(frame))
			}
			if start > 0 {
				e.Body = append(e.Body, ',')
			}
			e.Body = append(append(e.Body, raw...), ':')
		}
		value, err := p.dec.ReadValue()
		if err != nil {
			return notJSON(err)
		}
		if field == fieldOpaque {
			if tooDeep(value) {
				return Errorf(BadRequest, "nested deeper than %d", MaxDepth)
			}
			e.Body = append(e.Body, value...)
			continue
		}
		if field == fieldClass {
			classGiven = true
		}
		if err := p.set(e, field, value); err != nil {
			return err
		}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return notJSON(err)
	}
	if _, err := p.dec.ReadToken(); err != io.EOF {
		return notJSON(err)
	}
	if p.From == FromLegacyClient && !classGiven && e.HasType && e.Type <= 0 {
		e.Class = Volatile
	}
	return nil
}

type field uint8

const (
	fieldOpaque field = iota
	fieldControl
	fieldID
	fieldDestNode
	fieldDestClient
	fieldDestSession
	fieldSrcNode
	fieldSrcClient
	fieldTimestamp
	fieldType
	fieldClass
	fieldKey
	fieldTTL
	fieldReceipt
	fieldSeq
	fieldEdits
	fieldDeletes
	fieldRevised // said by the server of an entry; opaque to whoever believes it
	fieldIgnored // a switch of the original system that clients may not set
)

var fieldByName = map[string]field{
	"control":          fieldControl,
	"id":               fieldID,
	"dest_id":          fieldDestNode,
	"dest_client_id":   fieldDestClient,
	"dest_session_id":  fieldDestSession,
	"src_id":           fieldSrcNode,
	"src_client_id":    fieldSrcClient,
	"timestamp":        fieldTimestamp,
	"type":             fieldType,
	"class":            fieldClass,
	"key":              fieldKey,
	"ttl":              fieldTTL,
	"receipt":          fieldReceipt,
	"seq":              fieldSeq,
	"edits":            fieldEdits,
	"deletes":          fieldDeletes,
	"edited":           fieldRevised,
	"deleted":          fieldRevised,
	"anonymize_src_id": fieldIgnored,
}

// notReserved refuses names that a reader with case-insensitive matching would
// take for a reserved one, such as "SRC_ID" or "ſrc_id" (U+017F).
func notReserved(name []byte) error {
	if len(name) > 2*len("anonymize_src_id") {
		return nil
	}
	for reserved := range fieldByName {
		if strings.EqualFold(string(name), reserved) {
			return Errorf(BadRequest, "%q must be spelled exactly so", reserved)
		}
	}
	return nil
}

func (p *Parser) set(e *Envelope, f field, v jsontext.Value) (err error) {
	trusted := p.From == FromServer
	switch f {
	case fieldControl:
		return ErrControl
	case fieldID:
		e.ID, err = idValue("id", v)
	case fieldDestNode:
		var s string
		s, err = nodeValue("dest_id", v)
		e.DestNode = NodeID(s)
	case fieldDestClient:
		var s string
		s, err = idValue("dest_client_id", v)
		e.DestClient = ClientID(s)
	case fieldDestSession:
		var s string
		s, err = idValue("dest_session_id", v)
		e.DestSession = SessionID(s)
	case fieldSrcNode:
		if trusted {
			var s string
			s, err = nodeValue("src_id", v)
			e.SrcNode = NodeID(s)
		}
	case fieldSrcClient:
		if trusted {
			var s string
			s, err = idValue("src_client_id", v)
			e.SrcClient = ClientID(s)
		}
	case fieldTimestamp:
		if trusted {
			e.Timestamp, err = intValue("timestamp", v, 0, 1<<53)
		}
	case fieldType:
		e.Type, err = intValue("type", v, -1<<31, 1<<31-1)
		e.HasType = true
	case fieldClass:
		e.Class, err = classValue(v)
	case fieldKey:
		e.Key, err = idValue("key", v)
	case fieldTTL:
		e.TTL, err = intValue("ttl", v, 1, MaxTTL)
	case fieldReceipt:
		switch v.Kind() {
		case 't', 'f':
			e.Receipt = v.Kind() == 't'
		default:
			err = Errorf(BadRequest, `"receipt" must be true or false`)
		}
	case fieldSeq:
		if !trusted {
			return Errorf(BadRequest, `"seq" is set by the server`)
		}
		e.Seq, err = seqValue("seq", v, 0)
	case fieldEdits:
		e.Edits, err = seqValue("edits", v, 1)
	case fieldDeletes:
		e.Deletes, err = seqValue("deletes", v, 1)
	case fieldRevised:
		return Errorf(BadRequest, `"edited" and "deleted" are said by the server`)
	}
	return err
}

// check holds the rules that concern more than one member.
func (p *Parser) check(e *Envelope) error {
	if e.Class == Latest && e.Key == "" || e.Class != Latest && e.Key != "" {
		return Errorf(BadRequest, `class "latest" goes with a "key", and only it does`)
	}
	if e.Edits != 0 && e.Deletes != 0 {
		return Errorf(BadRequest, `either "edits" or "deletes"`)
	}
	if p.From == FromServer {
		return nil
	}
	if e.Revises() != 0 && (e.Class != Durable || e.TTL != 0 || e.ID == "") {
		return Errorf(BadRequest, `"edits" and "deletes" go with an "id", and with no "ttl" and no class but "durable"`)
	}
	if e.Deletes != 0 && len(e.Body) != 0 { // which nobody could delete
		return Errorf(BadRequest, `"deletes" goes with no payload`)
	}
	if e.HasType && (SystemType(e.Type) || e.Type < 0 && p.From != FromLegacyClient) {
		return Errorf(BadRequest, "type %d is the server's", e.Type)
	}
	if p.From == FromLegacyClient && e.Type == TypeConfig {
		return nil // speaks to the server, so it needs no destination
	}
	return e.CheckDest()
}

// CheckDest refuses an envelope without exactly one destination; a device
// together with a session (a private message to a member) counts as one.
func (e *Envelope) CheckDest() error {
	switch {
	case e.DestNode == "" && e.DestClient == "" && e.DestSession == "":
		return Errorf(BadRequest, "no destination: dest_id, dest_client_id or dest_session_id")
	case e.DestClient != "" && (e.DestNode != "" || e.DestSession != ""):
		return Errorf(BadRequest, "more than one destination")
	}
	if in, _, alias := e.DestNode.Alias(); alias && in != e.DestSession {
		return Errorf(BadRequest, "an alias goes with the dest_session_id that it belongs to")
	}
	return nil
}

func idValue(name string, v jsontext.Value) (string, error) {
	// An id never needs escaping, so the raw bytes between the quotes are it.
	if len(v) > 2 && v[0] == '"' {
		if s := v[1 : len(v)-1]; len(s) <= MaxIDLen && ValidID(string(s)) {
			return string(s), nil
		}
	}
	return "", Errorf(BadRequest, "%q must be a string of 1 to %d characters of A-Z a-z 0-9 _ . : @ -", name, MaxIDLen)
}

// nodeValue reads the id of a device, or an alias.
func nodeValue(name string, v jsontext.Value) (string, error) {
	if len(v) > 2 && v[0] == '"' {
		if _, _, alias := NodeID(v[1 : len(v)-1]).Alias(); alias {
			return string(v[1 : len(v)-1]), nil
		}
	}
	return idValue(name, v)
}

func intValue(name string, v jsontext.Value, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, Errorf(BadRequest, "%q must be a whole number from %d to %d", name, lo, hi)
	}
	return n, nil
}

func seqValue(name string, v jsontext.Value, least int64) (uint64, error) {
	n, err := intValue(name, v, least, 1<<53)
	return uint64(n), err
}

func classValue(v jsontext.Value) (Class, error) {
	switch string(v) {
	case `"durable"`:
		return Durable, nil
	case `"volatile"`:
		return Volatile, nil
	case `"latest"`:
		return Latest, nil
	}
	return 0, Errorf(BadRequest, `"class" must be "durable", "volatile" or "latest"`)
}

// tooDeep reports whether v, a valid JSON value that is a member of the
// envelope, takes the nesting over MaxDepth.
func tooDeep(v jsontext.Value) bool {
	depth, inString := 1, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func notJSON(cause error) *Error {
	e := Errorf(BadRequest, "not one JSON object in valid UTF-8 without duplicate names")
	e.Cause = cause
	return e
}
