package envelope

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// oracle reads frames token by token with a JSON library and says what [Parser],
// which has a scanner of its own, must say of each.
type oracle struct {
	From Origin

	dec  jsontext.Decoder
	buf  bytes.Buffer
	name []byte
}

func (p *oracle) Parse(frame []byte) (Envelope, error) {
	p.buf = *bytes.NewBuffer(frame)
	p.dec.Reset(&p.buf)
	var e Envelope
	if err := p.members(frame, &e); err != nil {
		return Envelope{ID: e.ID}, err
	}
	if err := (&Parser{From: p.From}).check(&e); err != nil {
		return Envelope{ID: e.ID}, err
	}
	return e, nil
}

func (p *oracle) members(frame []byte, e *Envelope) error {
	if t, err := p.dec.ReadToken(); err != nil || t.Kind() != '{' {
		return oracleNotJSON(err)
	}
	var classGiven bool
	for p.dec.PeekKind() != '}' {
		raw, err := p.dec.ReadValue()
		if err != nil {
			return oracleNotJSON(err)
		}
		if raw.Kind() != '"' {
			return oracleNotJSON(nil)
		}
		p.name, err = jsontext.AppendUnquote(p.name[:0], raw)
		if err != nil {
			return oracleNotJSON(err)
		}
		start := len(e.Body)
		field, reserved := oracleFields[string(p.name)]
		if field == fieldRevised && p.From == FromServer {
			field = fieldOpaque
		}
		if field == fieldOpaque {
			if err := oracleNotReserved(p.name); err != nil && !reserved {
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
			return oracleNotJSON(err)
		}
		if tooDeep(value) {
			return Errorf(BadRequest, "nested deeper than %d", MaxDepth)
		}
		if field == fieldOpaque {
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
		return oracleNotJSON(err)
	}
	if _, err := p.dec.ReadToken(); err != io.EOF {
		return oracleNotJSON(err)
	}
	if p.From == FromLegacyClient && !classGiven && e.HasType && e.Type <= 0 {
		e.Class = Volatile
	}
	return nil
}

var oracleFields = map[string]field{
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

// oracleNotReserved refuses names that a reader with case-insensitive matching would
// take for a reserved one, such as "SRC_ID" or "ſrc_id" (U+017F).
func oracleNotReserved(name []byte) error {
	if len(name) > 2*len("anonymize_src_id") {
		return nil
	}
	for reserved := range oracleFields {
		if strings.EqualFold(string(name), reserved) {
			return Errorf(BadRequest, "%q must be spelled exactly so", reserved)
		}
	}
	return nil
}

func (p *oracle) set(e *Envelope, f field, v jsontext.Value) (err error) {
	trusted := p.From == FromServer
	switch f {
	case fieldControl:
		return ErrControl
	case fieldID:
		e.ID, err = oracleID("id", v)
	case fieldDestNode:
		var s string
		s, err = oracleNode("dest_id", v)
		e.DestNode = NodeID(s)
	case fieldDestClient:
		var s string
		s, err = oracleID("dest_client_id", v)
		e.DestClient = ClientID(s)
	case fieldDestSession:
		var s string
		s, err = oracleID("dest_session_id", v)
		e.DestSession = SessionID(s)
	case fieldSrcNode:
		if trusted {
			var s string
			s, err = oracleNode("src_id", v)
			e.SrcNode = NodeID(s)
		}
	case fieldSrcClient:
		if trusted {
			var s string
			s, err = oracleID("src_client_id", v)
			e.SrcClient = ClientID(s)
		}
	case fieldTimestamp:
		if trusted {
			e.Timestamp, err = oracleInt("timestamp", v, 0, 1<<53)
		}
	case fieldType:
		e.Type, err = oracleInt("type", v, -1<<31, 1<<31-1)
		e.HasType = true
	case fieldClass:
		e.Class, err = oracleClass(v)
	case fieldKey:
		e.Key, err = oracleID("key", v)
	case fieldTTL:
		e.TTL, err = oracleInt("ttl", v, 1, MaxTTL)
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
		e.Seq, err = oracleSeq("seq", v, 0)
	case fieldEdits:
		e.Edits, err = oracleSeq("edits", v, 1)
	case fieldDeletes:
		e.Deletes, err = oracleSeq("deletes", v, 1)
	case fieldRevised:
		return Errorf(BadRequest, `"edited" and "deleted" are said by the server`)
	}
	return err
}

func oracleID(name string, v jsontext.Value) (string, error) {
	// An id never needs escaping, so the raw bytes between the quotes are it.
	if len(v) > 2 && v[0] == '"' {
		if s := v[1 : len(v)-1]; len(s) <= MaxIDLen && ValidID(string(s)) {
			return string(s), nil
		}
	}
	return "", Errorf(BadRequest, "%q must be a string of 1 to %d characters of A-Z a-z 0-9 _ . : @ -", name, MaxIDLen)
}

// oracleNode reads the id of a device, or an alias.
func oracleNode(name string, v jsontext.Value) (string, error) {
	if len(v) > 2 && v[0] == '"' {
		if _, _, alias := NodeID(v[1 : len(v)-1]).Alias(); alias {
			return string(v[1 : len(v)-1]), nil
		}
	}
	return oracleID(name, v)
}

func oracleInt(name string, v jsontext.Value, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, Errorf(BadRequest, "%q must be a whole number from %d to %d", name, lo, hi)
	}
	return n, nil
}

func oracleSeq(name string, v jsontext.Value, least int64) (uint64, error) {
	n, err := oracleInt(name, v, least, 1<<53)
	return uint64(n), err
}

func oracleClass(v jsontext.Value) (Class, error) {
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

func oracleNotJSON(cause error) *Error {
	e := Errorf(BadRequest, "not one JSON object in valid UTF-8 without duplicate names")
	e.Cause = cause
	return e
}

func oracleValue(text []byte) ([]byte, error) {
	var v jsontext.Value
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, oracleNotJSON(err)
	}
	if tooDeep(v) {
		return nil, Errorf(BadRequest, "nested deeper than %d", MaxDepth)
	}
	return v, nil
}

func oracleControl(dst []byte, c *Control) []byte {
	buf := bytes.NewBuffer(dst)
	// Nothing in a Control can fail to marshal: its strings are ids, codes and
	// text of ours; text with bad UTF-8 in it is mended, not refused.
	_ = json.MarshalWrite(buf, c, jsontext.AllowInvalidUTF8(true), json.Deterministic(true))
	return buf.Bytes()
}
