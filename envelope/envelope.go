package envelope

import (
	"crypto/sha256"
	"time"
)

// Limits of what a client may send.
const (
	// DefaultMaxFrame is the largest frame in bytes unless configured otherwise.
	DefaultMaxFrame = 1 << 20
	// MaxDepth is the deepest nesting of a frame, the envelope itself included.
	MaxDepth = 32
	// MaxTTL is the longest time to live, in seconds (ten years).
	MaxTTL = 10 * 365 * 24 * 3600
)

// Class is how much is promised of the delivery of a message.
type Class uint8

// The delivery classes. Their values are stored and sent between servers.
const (
	// Durable messages are stored before the sender is acknowledged and wait
	// for readers that are away.
	Durable Class = iota
	// Volatile messages are never stored; without a connected reader they are dropped.
	Volatile
	// Latest messages are never stored; for a slow reader a newer one replaces
	// an older one of the same sender and key.
	Latest
)

// String returns the class's name on the wire.
func (c Class) String() string {
	switch c {
	case Durable:
		return "durable"
	case Volatile:
		return "volatile"
	case Latest:
		return "latest"
	}
	return "invalid"
}

// System message types, sent by the server only.
const (
	TypeConfig         = -101 // a legacy client's request; the only one a client may send
	TypeConfigReply    = -102
	TypeUnknown        = -3 // destination never registered
	TypeOffline        = -4 // destination offline; stored
	TypeNotMember      = -5
	TypeJoined         = 100
	TypeLeft           = 103
	TypeAnonymityEnded = 104
	TypeInvited        = 105 // in the log of a device: it may join dest_session_id
	TypeRole           = 106 // a member of a session has another role
	TypeSettings       = 107 // a session has other settings
	TypeMaster         = 108 // a game has another master
	TypeHeader         = 109 // a session has another header
)

// SystemType reports whether t is a type that only the server may send.
// [TypeConfig] is not one of them.
func SystemType(t int64) bool {
	switch t {
	case TypeConfigReply, TypeUnknown, TypeOffline, TypeNotMember, TypeJoined, TypeLeft, TypeAnonymityEnded,
		TypeInvited, TypeRole, TypeSettings, TypeMaster, TypeHeader:
		return true
	}
	return false
}

// Envelope is one message. The server reads its routing fields and never its
// Body.
type Envelope struct {
	ID string // chosen by the sender; "" means no ack and no dedupe

	// Exactly one destination, or DestNode with DestSession: a private
	// message to a member.
	DestNode    NodeID
	DestClient  ClientID
	DestSession SessionID

	// Set by the server. What an anonymous member sends has its alias as SrcNode
	// and no SrcClient, from the moment on that the server has taken it: who it
	// is stands in no message, stored or not.
	SrcNode   NodeID
	SrcClient ClientID
	Timestamp int64  // Unix milliseconds
	Seq       uint64 // position in the log; 0 for a message that is not stored
	ForMaster bool   // a game's, from another than its master: for the master only
	ShownFrom uint64 // of who joins or leaves: as it happens, for members only that have joined at that seq or later

	Type    int64
	HasType bool // a type was given
	Class   Class
	Key     string // of Latest
	TTL     int64  // seconds; 0 means no limit
	Receipt bool

	// The seq of an earlier entry of the same log that this one revises; at
	// most one of the two is not 0.
	Edits   uint64 // that entry has this one's Body from now on
	Deletes uint64 // that entry has no Body any more

	// Body holds the members the server does not read ("payload", "payload1"
	// and so on) as the sender wrote them: `"payload":"hi","x":1`.
	Body []byte
}

// Dest returns the address whose log numbers the message: the device when one
// is named, else the user, else the session. It is zero without a destination.
func (e *Envelope) Dest() Address {
	switch {
	case e.DestNode != "":
		return e.DestNode.Address()
	case e.DestClient != "":
		return e.DestClient.Address()
	case e.DestSession != "":
		return e.DestSession.Address()
	}
	return Address{}
}

// Revises returns the seq of the entry that e edits or deletes; 0 when e is a
// message of its own.
func (e *Envelope) Revises() uint64 { return max(e.Edits, e.Deletes) }

// Expires returns when the message need no longer be delivered, and false when
// it always must be.
func (e *Envelope) Expires() (time.Time, bool) {
	if e.TTL == 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(e.Timestamp).Add(time.Duration(e.TTL) * time.Second), true
}

// Expired reports whether the message need not be delivered any more at now.
func (e *Envelope) Expired(now time.Time) bool {
	t, ok := e.Expires()
	return ok && !now.Before(t)
}

// Digest identifies what the sender said: everything but the fields that the
// server sets. Two sends with one id are the same send exactly when their
// digests are equal.
func (e *Envelope) Digest() [16]byte {
	said := *e
	said.SrcNode, said.SrcClient, said.Timestamp, said.Seq, said.ForMaster, said.ShownFrom = "", "", 0, 0, false, 0
	sum := sha256.Sum256(said.AppendBinary(make([]byte, 0, 256)))
	return [16]byte(sum[:16])
}
