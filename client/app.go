package client

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/allsparkrt/allspark/envelope"
)

// What follows is for the app's own backend: its auth key says that it is the app.

// Server is a server of the mesh, as it has described itself last.
type Server struct {
	ID       envelope.ServerID   `json:"server"`
	Boot     string              `json:"boot"` // random, new with each start
	URL      string              `json:"url"`
	ProxyURL string              `json:"proxy_url,omitempty"`
	Zone     string              `json:"zone,omitempty"`
	Load     int                 `json:"load"` // connections
	MaxLoad  int                 `json:"max_load"`
	Draining bool                `json:"draining"`         // it takes no more
	Answers  bool                `json:"answers"`          // it is the one that was asked
	Links    []envelope.ServerID `json:"links"`            // the servers that it has a link to
	AgeMS    int64               `json:"age_ms"`           // since the server asked has seen it live
	Health   *Health             `json:"health,omitempty"` // nil: it did not answer that server
}

// Health is what a server says of itself when it is asked.
type Health struct {
	RoundTripUS  int64        `json:"round_trip_us"`  // of the question, microseconds
	ClockAheadMS int64        `json:"clock_ahead_ms"` // of that of the server asked, give or take half of RoundTripUS
	StoreWriteUS int64        `json:"store_write_us"` // what its last renewal of its record has taken, microseconds
	Waiting      int          `json:"waiting"`        // frames that wait to be written to clients
	Longest      int          `json:"longest"`        // of these for one client
	Behind       int          `json:"behind"`         // clients that are sent what they have missed
	Links        []LinkHealth `json:"links"`
}

// LinkHealth is how a link to another server is, seen from one end.
type LinkHealth struct {
	Server        envelope.ServerID `json:"server"`
	RoundTripUS   int64             `json:"round_trip_us"` // microseconds, waiting in queues included; 0: not known yet
	QueuedRecords int               `json:"queued_records"`
	QueuedBytes   int               `json:"queued_bytes"`
}

// Mesh returns the living servers.
func (a *API) Mesh(ctx context.Context) ([]Server, error) {
	var reply struct {
		Servers []Server `json:"servers"`
	}
	err := a.call(ctx, http.MethodGet, "/v1/mesh", nil, &reply, true)
	return reply.Servers, err
}

// Drain has a server leave the mesh in peace, and returns when it has begun, with
// the boot that will end. [API.Mesh] shows how far it is. The same call may be
// repeated.
func (a *API) Drain(ctx context.Context, id envelope.ServerID) (boot string, err error) {
	var reply struct {
		Boot string `json:"boot"`
	}
	err = a.call(ctx, http.MethodPost, "/v1/servers/"+url.PathEscape(string(id))+"/drain", nil, &reply, true)
	return reply.Boot, err
}

// Edges says where an address can be reached.
type Edges struct {
	Address  string `json:"address"`
	Edges    []Edge `json:"edges"`
	LastSeen int64  `json:"last_seen,omitempty"` // Unix milliseconds, as far as noted
}

// Edge is a server where an address can be reached.
type Edge struct {
	Server envelope.ServerID `json:"server"`
	Boot   string            `json:"boot"`
	Alive  bool              `json:"alive"` // else its server has gone, and it does not count
}

// Edges returns where a device, a user or a session can be reached.
func (a *API) Edges(ctx context.Context, of envelope.Address) (Edges, error) {
	var reply Edges
	err := a.call(ctx, http.MethodGet, "/v1/edges?"+url.Values{"address": {of.String()}}.Encode(), nil, &reply, true)
	return reply, err
}

// CursorsQuery asks how far a device has got in its logs.
type CursorsQuery struct {
	Node  envelope.NodeID // "": the caller's, which is not for the app only
	After string          // Next of the page before
	Limit int             // at most; 0: as many as a page has
}

// CursorsPage is some of a device's positions, in the order of the logs' names.
type CursorsPage struct {
	Node    envelope.NodeID `json:"node_id"`
	Cursors []Cursor        `json:"cursors"`
	Next    string          `json:"next,omitempty"`
	More    bool            `json:"more"` // there is another page
}

// Cursor is how far a device has got in a log.
type Cursor struct {
	Log       string `json:"log"`
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}

// Cursors returns a page of a device's positions. Of another device's, those in what
// it reads by an alias are not among them.
func (a *API) Cursors(ctx context.Context, q CursorsQuery) (CursorsPage, error) {
	v := make(url.Values)
	for name, value := range map[string]string{"node_id": string(q.Node), "after": q.After} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var reply CursorsPage
	err := a.call(ctx, http.MethodGet, "/v1/cursors?"+v.Encode(), nil, &reply, true)
	return reply, err
}

// Traced says what has become of a message.
type Traced struct {
	ID        string              `json:"id"`
	Log       string              `json:"log"`
	Seq       uint64              `json:"seq"`
	Accepted  int64               `json:"accepted,omitempty"` // Unix milliseconds
	Trimmed   bool                `json:"trimmed"`            // only its number is left
	Delivered int                 `json:"delivered"`          // how many of the readers have it
	Read      int                 `json:"read"`
	Readers   []TracedReader      `json:"readers"`
	Servers   []envelope.ServerID `json:"servers,omitempty"` // for the app: where readers are connected
}

// TracedReader is how far a device has got with a message.
type TracedReader struct {
	Node      envelope.NodeID   `json:"node_id"`
	Delivered bool              `json:"delivered"`
	Read      bool              `json:"read"`
	Server    envelope.ServerID `json:"server,omitempty"`  // for the app: where it is connected
	Written   bool              `json:"written,omitempty"` // for the app: to its socket there
}

// Trace says what has become of the stored message with e's id and destination.
// e.SrcNode is who sent it, which the app may ask of others; "" is the caller.
func (a *API) Trace(ctx context.Context, e envelope.Envelope) (Traced, error) {
	v := make(url.Values)
	for name, value := range map[string]string{
		"dest_id": string(e.DestNode), "dest_client_id": string(e.DestClient), "dest_session_id": string(e.DestSession), "src_id": string(e.SrcNode),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	var reply Traced
	err := a.call(ctx, http.MethodGet, "/v1/messages/"+url.PathEscape(e.ID)+"/trace?"+v.Encode(), nil, &reply, true)
	return reply, err
}

// Disconnection says whose connections are to end, and what they are told.
type Disconnection struct {
	Node   envelope.NodeID   `json:"node_id,omitempty"` // or Client
	Client envelope.ClientID `json:"client_id,omitempty"`
	Code   envelope.Code     `json:"code,omitempty"` // GoingAway, Unauthorized or Forbidden; "": the first
	Reason string            `json:"reason,omitempty"`
}

// Disconnect ends connections on all servers that can be reached, and returns
// where there were any. To keep somebody away, see [API.Revoke].
func (a *API) Disconnect(ctx context.Context, d Disconnection) ([]envelope.ServerID, error) {
	var reply struct {
		Servers []envelope.ServerID `json:"servers"`
	}
	err := a.post(ctx, "/v1/disconnect", d, &reply, true)
	return reply.Servers, err
}

// Destination is where one of many messages goes, as in an [envelope.Envelope].
type Destination struct {
	Node    envelope.NodeID    `json:"dest_id,omitempty"`
	Client  envelope.ClientID  `json:"dest_client_id,omitempty"`
	Session envelope.SessionID `json:"dest_session_id,omitempty"`
}

// Sent is what has become of a message for one destination: an [Ack], or Err.
type Sent struct {
	Ack
	Err *envelope.Error // nil: it was taken
}

// SendMany sends one message, with an id and without a destination, to up to
// 1,000 destinations, each on its own: to a session also without being a member.
// e.SrcNode and e.SrcClient say in whose name; "" is the app's own. The outcomes
// are in the order of the destinations. The same call may be repeated.
func (a *API) SendMany(ctx context.Context, e envelope.Envelope, to ...Destination) ([]Sent, error) {
	head, err := json.Marshal(struct {
		To     []Destination     `json:"to"`
		Src    envelope.NodeID   `json:"src_id,omitempty"`
		Client envelope.ClientID `json:"src_client_id,omitempty"`
	}{to, e.SrcNode, e.SrcClient})
	if err != nil {
		return nil, err
	}
	body := append(head[:len(head)-1], `,"message":`...)
	body = append(e.AppendRequest(body), '}')
	var reply struct {
		Results []struct {
			ID      string        `json:"id"`
			Seq     uint64        `json:"seq"`
			Log     string        `json:"log"`
			Offline bool          `json:"offline"`
			Code    envelope.Code `json:"code"`
			Detail  string        `json:"detail"`
			RetryMS int64         `json:"retry_ms"`
		} `json:"results"`
	}
	if err := a.call(ctx, http.MethodPost, "/v1/messages:batch", body, &reply, true); err != nil {
		return nil, err
	}
	sent := make([]Sent, len(reply.Results))
	var bad error
	for i, r := range reply.Results {
		sent[i].Ack = Ack{ID: r.ID, Seq: r.Seq, Offline: r.Offline}
		if r.Code != "" {
			sent[i].Err = &envelope.Error{Code: r.Code, Detail: r.Detail, RetryMS: r.RetryMS}
		}
		if r.Log != "" {
			log, err := envelope.ParseAddress(r.Log)
			sent[i].Log, bad = log, cmp.Or(bad, err)
		}
	}
	return sent, bad
}
