package client

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/allsparkrt/allspark/envelope"
)

// Header is the retained document of a session. It stands for what has been
// said in the log up to Seq; an entry of type [envelope.TypeHeader] with a
// higher seq replaces it by its payload.
type Header struct {
	Log      envelope.Address
	Seq      uint64          // of its entry in the session's log
	Node     envelope.NodeID // who has set it, by the name it has there
	Document json.RawMessage
}

type headerReply struct {
	ID      envelope.SessionID `json:"session_id"`
	Seq     uint64             `json:"seq"`
	Node    envelope.NodeID    `json:"node_id"`
	Payload json.RawMessage    `json:"payload"`
}

func (r headerReply) header(document json.RawMessage) Header {
	return Header{Log: r.ID.Address(), Seq: r.Seq, Node: r.Node, Document: document}
}

// SetHeader gives a session another header, a JSON document of at most 64 KiB:
// every member learns of it, and who joins later gets it first. The owner,
// moderators, a game's master and the app may. The document that is the header
// already changes nothing.
func (a *API) SetHeader(ctx context.Context, id envelope.SessionID, document json.RawMessage) (Header, error) {
	var r headerReply
	err := a.call(ctx, http.MethodPut, sessionPath(id, "/header"), document, &r, true)
	return r.header(document), err
}

// Header returns the header of a session of which the caller is a member, or of
// a topic. NotFound when it has none.
func (a *API) Header(ctx context.Context, id envelope.SessionID) (Header, error) {
	var r headerReply
	err := a.call(ctx, http.MethodGet, sessionPath(id, "/header"), nil, &r, true)
	return r.header(r.Payload), err
}

func headerOf(f envelope.Control) (Header, error) {
	log, err := envelope.ParseAddress(f.Log)
	return Header{Log: log, Seq: f.Seq, Node: envelope.NodeID(f.NodeID), Document: json.RawMessage(f.Payload)}, err
}

// header queues a session's header unless the user has been told of it.
func (r *received) header(h Header) {
	pos := r.at(h.Log)
	if h.Seq <= pos.header {
		return
	}
	pos.header = h.Seq
	r.bytes += len(h.Document)
	r.notice(item{header: &h})
}
