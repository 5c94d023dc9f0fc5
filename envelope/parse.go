package envelope

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"
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
// frames from clients.
//
// It is strict, because two readers that disagree about one frame are a hole
// in every check between them: one JSON object of valid UTF-8 (RFC 8259, RFC
// 7493), no member name twice, no lone surrogates, nesting up to [MaxDepth],
// reserved names in their exact spelling only, ids of the form of [ValidID],
// one destination.
type Parser struct {
	From Origin
}

// Parse reads one frame. The envelope does not alias it; its strings and Body
// may share memory. Errors are [*Error] with [BadRequest], or [ErrControl]. With
// an error the envelope holds at most the id, for the refusal to name it.
func (p *Parser) Parse(frame []byte) (Envelope, error) {
	kept := keeper{size: len(frame)}
	var e Envelope
	if err := p.parse(frame, &e, &kept); err != nil {
		return Envelope{ID: e.ID}, err
	}
	return e, nil
}

// ParseNew is [Parser.Parse] into an envelope of its own, which for a short frame
// takes one allocation in all.
func (p *Parser) ParseNew(frame []byte) (*Envelope, error) {
	e, kept := newParcel(len(frame))
	err := p.parse(frame, e, &kept)
	if err != nil {
		*e = Envelope{ID: e.ID}
	}
	return e, err
}

func (p *Parser) parse(frame []byte, e *Envelope, kept *keeper) error {
	if err := p.members(frame, e, kept); err != nil {
		return err
	}
	return p.check(e)
}

func (p *Parser) members(frame []byte, e *Envelope, kept *keeper) error {
	s := scanner{text: frame, limit: MaxDepth}
	if s.peek() != '{' {
		return notJSON(nil)
	}
	s.enter()
	var classGiven bool
	var o object
	for s.next(&o) {
		f := fieldOf(o.name)
		if f == fieldRevised && p.From == FromServer {
			f = fieldOpaque
		} else if f == fieldOpaque {
			if err := notReserved(o.name); err != nil {
				return err
			}
		}
		value := s.value()
		if s.err != nil {
			return s.err
		}
		if f == fieldOpaque {
			kept.member(o.raw, value)
			continue
		}
		if f == fieldClass {
			classGiven = true
		}
		if err := p.set(e, kept, f, value); err != nil {
			return err
		}
	}
	s.end()
	if s.err != nil {
		return s.err
	}
	e.Body = slices.Clip(kept.body) // behind it are the ids
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

func fieldOf[S string | []byte](name S) field {
	switch string(name) {
	case "control":
		return fieldControl
	case "id":
		return fieldID
	case "dest_id":
		return fieldDestNode
	case "dest_client_id":
		return fieldDestClient
	case "dest_session_id":
		return fieldDestSession
	case "src_id":
		return fieldSrcNode
	case "src_client_id":
		return fieldSrcClient
	case "timestamp":
		return fieldTimestamp
	case "type":
		return fieldType
	case "class":
		return fieldClass
	case "key":
		return fieldKey
	case "ttl":
		return fieldTTL
	case "receipt":
		return fieldReceipt
	case "seq":
		return fieldSeq
	case "edits":
		return fieldEdits
	case "deletes":
		return fieldDeletes
	case "edited", "deleted":
		return fieldRevised
	case "anonymize_src_id":
		return fieldIgnored
	}
	return fieldOpaque
}

// notReserved refuses names that a reader with case-insensitive matching would
// take for a reserved one, such as "SRC_ID" or "ſrc_id" (U+017F).
func notReserved(name []byte) error {
	var folded [len("anonymize_src_id")]byte // no reserved name is longer
	n, same := 0, true
	for i := 0; i < len(name); n++ {
		if n == len(folded) {
			return nil
		}
		c, size := name[i], 1
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c < utf8.RuneSelf:
		case bytes.HasPrefix(name[i:], []byte("ſ")):
			c, size = 's', len("ſ")
		case bytes.HasPrefix(name[i:], []byte("\u212a")): // the sign of the kelvin
			c, size = 'k', len("\u212a")
		}
		same = same && c == name[i]
		folded[n] = c
		i += size
	}
	if same || fieldOf(folded[:n]) == fieldOpaque {
		return nil
	}
	return Errorf(BadRequest, "%q must be spelled exactly so", string(folded[:n]))
}

func (p *Parser) set(e *Envelope, kept *keeper, f field, v []byte) (err error) {
	trusted := p.From == FromServer
	switch f {
	case fieldControl:
		return ErrControl
	case fieldID:
		e.ID, err = kept.id("id", v)
	case fieldDestNode:
		var s string
		s, err = kept.node("dest_id", v)
		e.DestNode = NodeID(s)
	case fieldDestClient:
		var s string
		s, err = kept.id("dest_client_id", v)
		e.DestClient = ClientID(s)
	case fieldDestSession:
		var s string
		s, err = kept.id("dest_session_id", v)
		e.DestSession = SessionID(s)
	case fieldSrcNode:
		if trusted {
			var s string
			s, err = kept.node("src_id", v)
			e.SrcNode = NodeID(s)
		}
	case fieldSrcClient:
		if trusted {
			var s string
			s, err = kept.id("src_client_id", v)
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
		e.Key, err = kept.id("key", v)
	case fieldTTL:
		e.TTL, err = intValue("ttl", v, 1, MaxTTL)
	case fieldReceipt:
		switch v[0] {
		case 't', 'f':
			e.Receipt = v[0] == 't'
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

func intValue(name string, v []byte, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(view(v), 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, Errorf(BadRequest, "%q must be a whole number from %d to %d", name, lo, hi)
	}
	return n, nil
}

func seqValue(name string, v []byte, least int64) (uint64, error) {
	n, err := intValue(name, v, least, 1<<53)
	return uint64(n), err
}

func classValue(v []byte) (Class, error) {
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

func notJSON(cause error) *Error {
	e := Errorf(BadRequest, "not one JSON object in valid UTF-8 without duplicate names")
	e.Cause = cause
	return e
}
