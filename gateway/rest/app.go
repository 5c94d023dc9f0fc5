package rest

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// maxDestinations bounds what the destinations of one message take, in bytes.
const maxDestinations = 512 << 10

type batchRequest struct {
	Message     jsontext.Value       `json:"message"` // without a destination
	To          []destinationRequest `json:"to"`
	SrcID       envelope.NodeID      `json:"src_id"`        // in whose name; default the app's own
	SrcClientID envelope.ClientID    `json:"src_client_id"` // default the src_id
}

type destinationRequest struct {
	DestID        envelope.NodeID    `json:"dest_id"`
	DestClientID  envelope.ClientID  `json:"dest_client_id"`
	DestSessionID envelope.SessionID `json:"dest_session_id"`
}

type batchReply struct {
	Results []resultReply `json:"results"` // in the order of the destinations
}

// resultReply is an ackReply, or why there is none.
type resultReply struct {
	ackReply
	Code    envelope.Code `json:"code,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	RetryMS int64         `json:"retry_ms,omitempty"`
}

// sendMany answers POST /v1/messages:batch. The message has an id, by which a
// repetition of the call is recognised at each destination.
func (h *Handler) sendMany(r *http.Request, who auth.Verified) (any, error) {
	body, err := readBody(r, h.MaxFrame+maxDestinations)
	if err != nil {
		return nil, err
	}
	var req batchRequest
	if err := envelope.UnmarshalStrict(body, &req); err != nil {
		return nil, &envelope.Error{Code: envelope.BadRequest, Detail: "the body is not the JSON object this call takes", Cause: err}
	}
	cmd := gateway.SendMany{Src: req.SrcID, SrcClient: req.SrcClientID}
	if cmd.Envelope, err = undirected(req.Message, h.MaxFrame); err != nil {
		return nil, err
	}
	for _, to := range req.To {
		cmd.To = append(cmd.To, gateway.Destination{Node: to.DestID, Client: to.DestClientID, Session: to.DestSessionID})
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	reply := batchReply{Results: []resultReply{}}
	for _, sent := range ev.(gateway.SentMany).Of {
		result := resultReply{ackReply: ackOf(sent.Ack)}
		if e := sent.Err; e != nil {
			result = resultReply{Code: e.Code, Detail: e.Detail, RetryMS: e.RetryMS}
			h.Core.Refused(e.Code)
		}
		reply.Results = append(reply.Results, result)
	}
	return reply, nil
}

// undirected reads a message that has no destination of its own.
func undirected(message []byte, maxFrame int) (envelope.Envelope, error) {
	if len(message) > maxFrame {
		return envelope.Envelope{}, envelope.Errorf(envelope.TooLarge, "a message has at most %d bytes", maxFrame)
	}
	if len(message) == 0 || message[0] != '{' {
		return envelope.Envelope{}, envelope.Errorf(envelope.BadRequest, "message is an object")
	}
	// A message is read with a destination, which is taken away again. One of its
	// own would be a second one.
	var p envelope.Parser
	env, err := p.Parse(append([]byte(`{"dest_id":"nobody",`), message[1:]...))
	switch {
	case err != nil:
		return envelope.Envelope{}, &envelope.Error{
			Code: envelope.CodeOf(envelope.AsError(err)), Cause: err,
			Detail: "message is one as it is sent, but without a destination: " + envelope.AsError(err).Detail,
		}
	case env.DestClient != "" || env.DestSession != "":
		return envelope.Envelope{}, envelope.Errorf(envelope.BadRequest, "the destinations are those of to")
	case env.ID == "":
		return envelope.Envelope{}, envelope.Errorf(envelope.BadRequest, "message has an id, by which a repetition is recognised")
	}
	env.DestNode = ""
	return env, nil
}

func ackOf(ack gateway.Ack) ackReply {
	reply := ackReply{ID: ack.ID, Seq: ack.Seq, Offline: ack.Offline}
	if ack.Seq != 0 {
		reply.Log = ack.Log.String()
	}
	return reply
}

type disconnectRequest struct {
	NodeID   envelope.NodeID   `json:"node_id"`
	ClientID envelope.ClientID `json:"client_id"`
	Code     envelope.Code     `json:"code"`
	Reason   string            `json:"reason"`
}

type disconnectReply struct {
	Servers []envelope.ServerID `json:"servers"` // where it was connected
}

// disconnect answers POST /v1/disconnect.
func (h *Handler) disconnect(r *http.Request, who auth.Verified) (any, error) {
	var req disconnectRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.Disconnect{
		Node: req.NodeID, Client: req.ClientID, Code: req.Code, Reason: req.Reason,
	})
	if err != nil {
		return nil, err
	}
	return disconnectReply{orEmpty(ev.(gateway.Disconnected).Servers)}, nil
}

type edgesReply struct {
	Address  string      `json:"address"`
	Edges    []edgeReply `json:"edges"`
	LastSeen int64       `json:"last_seen,omitempty"` // Unix milliseconds
}

type edgeReply struct {
	Server envelope.ServerID `json:"server"`
	Boot   string            `json:"boot"`
	Alive  bool              `json:"alive"` // else its server has gone, and it does not count
}

// edges answers GET /v1/edges?address=.
func (h *Handler) edges(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "address")
	if err != nil {
		return nil, err
	}
	of, err := envelope.ParseAddress(q.Get("address"))
	if err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.GetEdges{Of: of})
	if err != nil {
		return nil, err
	}
	edges := ev.(gateway.Edges)
	reply := edgesReply{Address: of.String(), Edges: []edgeReply{}, LastSeen: edges.LastSeen}
	for _, e := range edges.Of {
		reply.Edges = append(reply.Edges, edgeReply{e.Server, e.Boot, e.Alive})
	}
	return reply, nil
}

type cursorsReply struct {
	NodeID  envelope.NodeID `json:"node_id"`
	Cursors []cursorReply   `json:"cursors"`
	Next    string          `json:"next,omitempty"` // after= of the next page
	More    bool            `json:"more"`
}

type cursorReply struct {
	Log       string `json:"log"`
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}

// getCursors answers GET /v1/cursors?node_id=&after=&limit=.
func (h *Handler) getCursors(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "node_id", "after", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.GetCursors{Node: envelope.NodeID(q.id("node_id")), Limit: int(q.number("limit"))}
	if q.err != nil {
		return nil, q.err
	}
	if after := q.Get("after"); after != "" {
		if cmd.After, err = envelope.ParseAddress(after); err != nil {
			return nil, err
		}
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	if cmd.Node == "" {
		cmd.Node = who.Node
	}
	page := ev.(gateway.Cursors)
	reply := cursorsReply{NodeID: cmd.Node, Cursors: []cursorReply{}, More: page.More}
	for _, c := range page.Of {
		reply.Cursors = append(reply.Cursors, cursorReply{c.Log.String(), c.Delivered, c.Read})
	}
	if page.More {
		reply.Next = page.Next.String()
	}
	return reply, nil
}

// orEmpty has a list without anything written as one.
func orEmpty[T any](of []T) []T {
	if of == nil {
		return []T{}
	}
	return of
}
