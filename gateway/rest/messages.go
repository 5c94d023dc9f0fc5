package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type ackReply struct {
	ID      string `json:"id,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
	Log     string `json:"log,omitempty"`
	Offline bool   `json:"offline,omitempty"` // nobody was there for a volatile message that asked (receipt)
}

func (h *Handler) send(r *http.Request, who auth.Verified) (any, error) {
	frame, err := readBody(r, h.MaxFrame)
	if err != nil {
		return nil, err
	}
	var p envelope.Parser
	env, err := p.Parse(frame)
	if errors.Is(err, envelope.ErrControl) {
		err = envelope.Errorf(envelope.BadRequest, "control frames belong to connections")
	}
	if err != nil {
		return nil, err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return nil, err
	}
	env.ID = cmp.Or(env.ID, key)
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.Send{Envelope: &env})
	if err != nil {
		return nil, err
	}
	return ackOf(ev.(gateway.Ack)), nil
}

// verbatim is an answer that is JSON already.
type verbatim []byte

// history answers GET /v1/messages?log=&limit= with a page of a log: behind
// &after=, from &since= on; or backwards, before &before=, up to &until=.
func (h *Handler) history(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "log", "after", "since", "before", "until", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.History{
		Limit: int(q.number("limit")), After: q.number("after"), Since: int64(q.number("since")),
		Back: q.Has("before") || q.Has("until"), Before: q.number("before"), Until: int64(q.number("until")),
	}
	if cmd.Back && (q.Has("after") || q.Has("since")) {
		return nil, envelope.Errorf(envelope.BadRequest, "after and since lead forwards, before and until backwards")
	}
	if q.err != nil {
		return nil, q.err
	}
	if cmd.Log, err = envelope.ParseAddress(q.Get("log")); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	page := ev.(gateway.Page)
	reply := []byte(`{"messages":[`)
	for i := range page.Entries {
		if i > 0 {
			reply = append(reply, ',')
		}
		reply = page.Entries[i].AppendJSON(reply)
	}
	end := pageReply{Floor: page.Floor, Head: page.Head, More: page.More}
	if page.Back {
		end.Prev = &page.Next
	} else {
		end.Next = &page.Next
	}
	rest, err := json.Marshal(end)
	if err != nil {
		return nil, err
	}
	return verbatim(append(append(reply, "],"...), rest[len("{"):]...)), nil
}

// pageReply is what follows the messages of a page.
type pageReply struct {
	Floor uint64  `json:"floor"` // entries below it are gone
	Head  uint64  `json:"head"`
	Next  *uint64 `json:"next,omitempty"` // after= of the next page
	Prev  *uint64 `json:"prev,omitempty"` // before= of the next page, backwards
	More  bool    `json:"more"`
}

type traceReply struct {
	ID        string              `json:"id"`
	Log       string              `json:"log"`
	Seq       uint64              `json:"seq"`
	Accepted  int64               `json:"accepted,omitempty"` // Unix milliseconds
	Trimmed   bool                `json:"trimmed"`            // only the number is left
	Delivered int                 `json:"delivered"`          // how many of the readers have it
	Read      int                 `json:"read"`
	Readers   []readerReply       `json:"readers"`
	Servers   []envelope.ServerID `json:"servers,omitempty"` // for the app: where readers are connected
}

type readerReply struct {
	NodeID    envelope.NodeID   `json:"node_id"`
	Delivered bool              `json:"delivered"`
	Read      bool              `json:"read"`
	Server    envelope.ServerID `json:"server,omitempty"`  // for the app: where the device is connected
	Written   bool              `json:"written,omitempty"` // for the app: to its socket there
}

// trace answers GET /v1/messages/{id}/trace with what has become of a message.
func (h *Handler) trace(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "dest_id", "dest_client_id", "dest_session_id", "src_id")
	if err != nil {
		return nil, err
	}
	dest := envelope.Envelope{
		DestNode:    q.node("dest_id"),
		DestClient:  envelope.ClientID(q.id("dest_client_id")),
		DestSession: envelope.SessionID(q.id("dest_session_id")),
	}
	src, id := q.node("src_id"), r.PathValue("id")
	if !envelope.ValidID(id) {
		q.err = envelope.Errorf(envelope.BadRequest, "not a message's id")
	}
	if err := errors.Join(q.err, dest.CheckDest()); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.Trace{ID: id, Dest: dest.Dest(), Session: dest.DestSession, Src: src})
	if err != nil {
		return nil, err
	}
	traced := ev.(gateway.Traced)
	reply := traceReply{
		ID: traced.ID, Log: traced.Log.String(), Seq: traced.Seq, Trimmed: traced.Trimmed, Servers: traced.Servers,
		Readers: make([]readerReply, len(traced.Readers)),
	}
	if !traced.Accepted.IsZero() {
		reply.Accepted = traced.Accepted.UnixMilli()
	}
	for i, t := range traced.Readers {
		reply.Readers[i] = readerReply{t.Node, t.Delivered, t.Read, t.Server, t.Written}
		if t.Delivered {
			reply.Delivered++
		}
		if t.Read {
			reply.Read++
		}
	}
	return reply, nil
}

// values are the parameters of a query.
type values struct {
	url.Values
	err error // the first that was not well-formed
}

// query reads a query that may have the parameters named, each once, and no others.
func query(r *http.Request, names ...string) (*values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &envelope.Error{Code: envelope.BadRequest, Detail: "the query is malformed", Cause: err}
	}
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	for name, of := range q {
		if !known[name] || len(of) != 1 {
			return nil, envelope.Errorf(envelope.BadRequest, "the query may have each of %q once", names)
		}
	}
	return &values{Values: q}, nil
}

// number returns a whole number; 0 when it is not given.
func (q *values) number(name string) uint64 {
	text := q.Get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil && q.err == nil {
		q.err = envelope.Errorf(envelope.BadRequest, "%s is a whole number from 0 to 2^53", name)
	}
	return n
}

// id returns an id; "" when it is not given.
func (q *values) id(name string) string {
	text := q.Get(name)
	if text != "" && !envelope.ValidID(text) && q.err == nil {
		q.err = envelope.Errorf(envelope.BadRequest, "%s has not the form of an id", name)
	}
	return text
}

// node is id for a device, or an alias.
func (q *values) node(name string) envelope.NodeID {
	text := q.Get(name)
	if text != "" && !envelope.ValidNode(text) && q.err == nil {
		q.err = envelope.Errorf(envelope.BadRequest, "%s has not the form of an id", name)
	}
	return envelope.NodeID(text)
}
