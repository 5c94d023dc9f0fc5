package session

import (
	"encoding/json"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// note is the payload of the entries that say what has changed in a session.
// Those of joining and leaving have one only when somebody else has done it.
//
//	type                     src_id            payload
//	[envelope.TypeJoined]    who is in         {by, reason: "added"}
//	[envelope.TypeLeft]      who is out        {by, reason: "kicked" or "banned"}
//	[envelope.TypeAnonymityEnded]
//	                         the alias         {node_id, client_id}
//	[envelope.TypeRole]      who changed it    {node_id, role}
//	[envelope.TypeSettings]  who changed them  [envelope.Settings]
//	[envelope.TypeMaster]    who asked for it  {node_id, reason: "transferred", "left" or "lost", by}
type note struct {
	By     envelope.NodeID `json:"by,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Node   envelope.NodeID `json:"node_id,omitempty"`
	Role   string          `json:"role,omitempty"`

	Client envelope.ClientID `json:"client_id,omitempty"`
}

// payload returns what a note is in the body of an envelope.
func payload(note any) []byte {
	text, err := json.Marshal(note)
	if err != nil {
		panic(err) // strings, a number and a bool
	}
	return append([]byte(`"payload":`), text...)
}

// entryOf returns the entry that an intent stands for: the same one whoever
// completes it.
func entryOf(m Member) envelope.Envelope {
	entry := envelope.Envelope{
		ID: m.Op, DestSession: m.Session, SrcNode: m.Node, SrcClient: m.Client,
		Timestamp: time.Now().UnixMilli(), HasType: true,
	}
	if m.Hidden() && m.State != Revealing {
		entry.SrcClient = ""
	}
	by := note{By: m.By}
	switch m.State {
	case Revealing:
		entry.Type, entry.Body = envelope.TypeAnonymityEnded, payload(note{Node: m.Device, Client: m.Client})
		return entry
	case Joining:
		entry.Type, by.Reason = envelope.TypeJoined, "added"
	case Leaving:
		entry.Type, by.Reason = envelope.TypeLeft, "kicked"
		if m.Next == Outcast {
			by.Reason = "banned"
		}
	case Changing:
		entry.Type, entry.SrcNode, entry.SrcClient = envelope.TypeRole, m.By, ""
		entry.Body = payload(note{Node: m.Node, Role: m.Next.String()})
		return entry
	}
	if m.By != "" {
		entry.Body = payload(by)
	}
	return entry
}

// settingsEntry returns the entry of a session's change of settings.
func settingsEntry(ses Session) envelope.Envelope {
	return envelope.Envelope{
		ID: ses.Op, DestSession: ses.ID, SrcNode: ses.By,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: envelope.TypeSettings,
		Body: payload(ses.Next.Wire()),
	}
}

// invitation returns the message that tells a device that it is invited; a
// repetition has the same id and contents.
func invitation(m Member) envelope.Envelope { return toDevice(m, envelope.TypeInvited) }

// addition returns the message that tells a device that it has been made a
// member: it need not have heard of the session before.
func addition(m Member) envelope.Envelope {
	told := toDevice(m, envelope.TypeJoined)
	told.SrcNode = m.Node // who has come, as in the session's log
	told.Body = payload(note{By: m.By, Reason: "added"})
	return told
}

func toDevice(m Member, what int64) envelope.Envelope {
	return envelope.Envelope{
		ID: m.Op, DestNode: m.Node, DestSession: m.Session, SrcNode: m.By,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: what,
	}
}

// concerns returns the device whose rights an entry of a session's log changes.
func concerns(env *envelope.Envelope) envelope.NodeID {
	if !env.HasType || env.DestSession == "" {
		return ""
	}
	switch env.Type {
	case envelope.TypeJoined, envelope.TypeLeft, envelope.TypeAnonymityEnded:
		return env.SrcNode
	case envelope.TypeRole:
		said, _ := noteIn(env)
		return said.Node
	}
	return ""
}

// noteIn reads the payload of an entry.
func noteIn(env *envelope.Envelope) (note, bool) {
	var said struct {
		Payload note `json:"payload"`
	}
	err := json.Unmarshal(append(append([]byte("{"), env.Body...), '}'), &said)
	return said.Payload, err == nil
}
