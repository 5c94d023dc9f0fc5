// Package hook tells the backend of an app what happens in the mesh: signed
// HTTP requests with events to one receiver or several, from an outbox that
// survives the servers.
//
// Events stand in partitions, chosen by what they are about (see [Partition]).
// Each partition is a log: its events are numbered from 1 and delivered in that
// order, at least once. One that comes again has the id and the seq that it had,
// so a receiver drops what has a seq not above the last it has handled of that
// partition. Between partitions there is no order, and a receiver that is slow
// with one is no slower with the others; nor are other receivers.
package hook

import (
	"encoding/json"
	"hash/fnv"

	"github.com/allsparkrt/allspark/envelope"
)

// Type is what has happened.
type Type string

// The types, and which fields their events have beside id, seq, at and subject.
const (
	// Connected: node_id, client_id, connection, server. With reason "kept" it may
	// have been told as lost, and is not: its server was cut off from the store.
	Connected Type = "connected"
	// Disconnected: as Connected, and a reason: a code, "closed", or "lost" with
	// the server, and then without client_id.
	Disconnected Type = "disconnected"
	// Offline: a durable message waits for a device or user with no connection:
	// log, message_seq, message_id, src_id, src_client_id. With reason
	// "disconnected", what waits for a device whose connection ended: log, message_seq.
	Offline Type = "message.offline"
	// Delivered and MessageRead: of a message that asked for receipts: log,
	// message_seq, message_id, src_id, and node_id and client_id of the reader,
	// as the sender is told of it.
	Delivered   Type = "message.delivered"
	MessageRead Type = "message.read"
	// SessionCreated, SessionJoined and SessionLeft: session_id, node_id and, when
	// it is not hidden, client_id; log and message_seq of the entry; by and reason
	// when somebody else has done it.
	SessionCreated Type = "session.created"
	SessionJoined  Type = "session.joined"
	SessionLeft    Type = "session.left"
	// PushFailed: a notification was given up: node_id, service, reason.
	PushFailed Type = "push.failed"

	// replay stands in an outbox and is not delivered: what is between After and
	// it is delivered again, in its place.
	replay Type = "replay"
)

// Types returns all of them.
func Types() []Type {
	return []Type{
		Connected, Disconnected, Offline, Delivered, MessageRead, SessionCreated, SessionJoined, SessionLeft, PushFailed,
	}
}

// Event is one thing that has happened. An anonymous member of a session is
// named as it is there, and nowhere as who it is.
type Event struct {
	ID      string `json:"id"`
	Seq     uint64 `json:"seq"` // in its partition
	At      int64  `json:"at"`  // Unix milliseconds
	Type    Type   `json:"type"`
	Subject string `json:"subject"`          // the address that it is about, as text
	Again   bool   `json:"replay,omitempty"` // it was asked for again

	Node       envelope.NodeID    `json:"node_id,omitempty"`
	Client     envelope.ClientID  `json:"client_id,omitempty"`
	Session    envelope.SessionID `json:"session_id,omitempty"`
	Connection string             `json:"connection,omitempty"`
	Server     envelope.ServerID  `json:"server,omitempty"`
	Log        string             `json:"log,omitempty"`
	MessageSeq uint64             `json:"message_seq,omitempty"`
	MessageID  string             `json:"message_id,omitempty"`
	Src        envelope.NodeID    `json:"src_id,omitempty"`
	SrcClient  envelope.ClientID  `json:"src_client_id,omitempty"`
	By         envelope.NodeID    `json:"by,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Service    string             `json:"service,omitempty"`

	// Of a replay, which nobody is told of.
	Receiver string `json:"receiver,omitempty"`
	After    uint64 `json:"after,omitempty"`
}

// Replay returns the entry of an outbox that has the events behind after, up to
// itself, delivered again to a receiver.
func Replay(id, receiver string, after uint64) Event {
	return Event{ID: id, Type: replay, Receiver: receiver, After: after}
}

// Partitions is how many there are.
const Partitions = 16

// Partition returns in which partition the events about a subject stand.
func Partition(subject string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(subject))
	return int(h.Sum32() % Partitions)
}

// Said returns what an event says beside its id, its seq and its time: the same
// bytes for the same event, whoever records it.
func (e Event) Said() []byte {
	e.ID, e.Seq, e.At, e.Again = "", 0, 0, false
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and a bool
	}
	return text
}

// Parse reads what [Event.Said] returned.
func Parse(said []byte) (Event, error) {
	var e Event
	err := json.Unmarshal(said, &e)
	return e, err
}
