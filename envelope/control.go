package envelope

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The names of the control frames.
const (
	ControlHello     = "hello"
	ControlCaughtUp  = "caught_up"
	ControlAck       = "ack"
	ControlNack      = "nack"
	ControlGap       = "gap"
	ControlHeader    = "header"
	ControlRead      = "read"
	ControlReceipt   = "receipt"
	ControlPresence  = "presence"
	ControlReconnect = "reconnect"
	ControlError     = "error"

	ControlSubscribe    = "subscribe"
	ControlSubscribed   = "subscribed"
	ControlUnsubscribe  = "unsubscribe"
	ControlUnsubscribed = "unsubscribed"

	ControlExpiring  = "expiring"
	ControlRefresh   = "refresh"
	ControlRefreshed = "refreshed"
)

// Control is a control frame: what client and server say to each other about
// messages. Which members a frame has follows from its name:
//
//	hello      client: cursors, epoch, resume, topics
//	                                                first frame; resume false starts at the heads;
//	                                                topics: and subscribe
//	           server: node_id, epoch, heads, window, ping_s
//	caught_up  server: heads                        everything up to the heads has been sent
//	ack        server: id, seq, log                 stored; without seq and log: a volatile message was taken
//	           server: id, offline                  nobody was there for the volatile message, which asked (receipt)
//	           client: cursors                      handled up to there, cumulative
//	nack       server: id, code, retry_ms, detail   not stored
//	gap        server: log, floor                   entries below floor are gone
//	header     server: log, seq, node_id, payload   a session's header, set by node_id with the entry seq,
//	                                                for who has seen nothing there yet or after a gap;
//	                                                it stands for what was before, and the entries behind follow
//	read       client: cursors                      read up to there, by the user
//	           server: cursors                      the same, by the user on another device; after hello: on any
//	receipt    server: id, log, seq, state, node_id, client_id
//	                                                a message that asked for it was "delivered" or "read" there,
//	                                                and with it all that the sender sent before it to that log;
//	                                                a hint that a cursor has moved: it may come twice or get lost
//	presence   client: clients, session_id, subscribe
//	                                                asks for the presence of users, or of a session's members;
//	                                                subscribe true: and from now on, false: no more,
//	                                                without clients and session: of nobody any more
//	           server: presence                     of some users, as asked or when it changes;
//	                                                none: they are followed no more
//	subscribe  client: topics, cursors, epoch, id   follow these as long as the connection lasts, each
//	                                                behind the cursor given for its log, else behind its head
//	subscribed server: topics, cursors, heads, id   what of them follows begins behind these cursors,
//	                                                or where a gap says, and goes up to the heads at present
//	unsubscribe, unsubscribed
//	           client, server: topics, id           no more of these
//	expiring   server: at                           the connection ends then, with its credential
//	refresh    client: auth_key, id                 go on with this one of the same device
//	refreshed  server: expires, id                  the connection ends then, and not before
//	reconnect  server: after_ms, nodes              come back elsewhere
//	error      server: code, detail, retry_ms       the last frame was refused
//
// Logs are named by their address in text form.
type Control struct {
	Control string            `json:"control"`
	ID      string            `json:"id,omitempty"`
	Seq     uint64            `json:"seq,omitzero"`
	Log     string            `json:"log,omitempty"`
	Cursors map[string]uint64 `json:"cursors,omitempty"`
	Heads   map[string]uint64 `json:"heads,omitempty"`
	Epoch   string            `json:"epoch,omitempty"`
	Resume  *bool             `json:"resume,omitempty"`
	NodeID  string            `json:"node_id,omitempty"` // the server's; of a receipt: the reader's; of a header: whose it is
	Client  string            `json:"client_id,omitempty"`
	State   string            `json:"state,omitempty"`  // of a receipt
	Offline bool              `json:"offline,omitzero"` // of an ack
	Window  int               `json:"window,omitzero"`  // messages
	PingS   int               `json:"ping_s,omitzero"`  // seconds
	Code    Code              `json:"code,omitempty"`
	RetryMS int64             `json:"retry_ms,omitzero"`
	Detail  string            `json:"detail,omitempty"`
	Floor   uint64            `json:"floor,omitzero"`
	AfterMS int64             `json:"after_ms,omitzero"`
	Nodes   []string          `json:"nodes,omitempty"` // URLs of servers

	Clients   []ClientID `json:"clients,omitempty"`
	Session   SessionID  `json:"session_id,omitempty"`
	Subscribe *bool      `json:"subscribe,omitempty"`
	Presence  []Presence `json:"presence,omitempty"`

	Topics  []SessionID    `json:"topics,omitempty"`
	Payload jsontext.Value `json:"payload,omitzero"` // of a header

	At      int64  `json:"at,omitzero"`      // Unix milliseconds
	Expires int64  `json:"expires,omitzero"` // Unix milliseconds
	AuthKey string `json:"auth_key,omitempty"`
}

// The states of a receipt.
const (
	StateDelivered = "delivered"
	StateRead      = "read"
)

// Presence says whether a user is connected.
type Presence struct {
	Client   ClientID `json:"client_id"`
	Online   bool     `json:"online"`
	LastSeen int64    `json:"last_seen,omitzero"` // Unix milliseconds, when not online and known
}

// MaxTopics is how many topics one connection may follow.
const MaxTopics = 1000

// maxCursors bounds the logs one control frame may name.
const maxCursors = 10_000

// ParseControl reads a control frame as strictly as [Parser.Parse] reads an
// envelope: unknown and repeated members are refused. The error has [BadRequest].
func ParseControl(frame []byte) (Control, error) {
	var c Control
	if err := UnmarshalStrict(frame, &c); err != nil {
		return Control{}, &Error{Code: BadRequest, Detail: "not a control frame", Cause: err}
	}
	if len(c.Cursors) > maxCursors {
		return Control{}, Errorf(BadRequest, "more than %d cursors", maxCursors)
	}
	return c, CheckTopics(c.Topics)
}

// CheckTopics refuses with [BadRequest] ids that are not topics', and more of
// them than one connection may follow.
func CheckTopics(ids []SessionID) error {
	if len(ids) > MaxTopics {
		return Errorf(BadRequest, "more than %d topics", MaxTopics)
	}
	for _, id := range ids {
		if !id.IsTopic() || !ValidID(string(id)) {
			return Errorf(BadRequest, "the id of a topic has the form of an id and begins with %q", TopicPrefix)
		}
	}
	return nil
}

// CursorMap returns the frame's cursors by address. The error has [BadRequest].
func (c *Control) CursorMap() (map[Address]uint64, error) { return byAddress(c.Cursors) }

// HeadMap returns the frame's heads by address. The error has [BadRequest].
func (c *Control) HeadMap() (map[Address]uint64, error) { return byAddress(c.Heads) }

func byAddress(m map[string]uint64) (map[Address]uint64, error) {
	out := make(map[Address]uint64, len(m))
	for s, n := range m {
		a, err := ParseAddress(s)
		if err != nil {
			return nil, err
		}
		if n > 1<<53 {
			return nil, Errorf(BadRequest, "a cursor is at most 2^53")
		}
		out[a] = n
	}
	return out, nil
}

// ByText returns m with its addresses in text form, for a control frame.
func ByText(m map[Address]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for a, n := range m {
		out[a.String()] = n
	}
	return out
}

// eachMember calls f for the members of the JSON object raw until it fails.
func eachMember(raw []byte, f func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return errors.Join(err, notJSON(nil))
	}
	for dec.PeekKind() != '}' {
		t, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := t.String()
		v, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := f(name, v); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return notJSON(err)
	}
	return nil
}

// UnmarshalStrict reads one JSON value into v as strictly as frames are read:
// valid UTF-8, no repeated, unknown or differently spelled names, and nested no
// deeper than a frame within an object. The library would go on to 10,000, with as
// many calls on the stack.
func UnmarshalStrict(text []byte, v any) error {
	s := scanner{text: text, limit: MaxDepth + 1}
	s.value()
	if s.end(); s.err != nil {
		return s.err
	}
	return json.Unmarshal(text, v, json.RejectUnknownMembers(true))
}

// ParseValue reads text that is to become the payload of a message or frame: one
// JSON value, as strict as a frame. It returns it without white space around it.
// The error has [BadRequest].
func ParseValue(text []byte) ([]byte, error) {
	s := scanner{text: text, depth: 1, limit: MaxDepth}
	v := s.value()
	s.end()
	if s.err != nil {
		return nil, s.err
	}
	return bytes.Clone(v), nil
}
