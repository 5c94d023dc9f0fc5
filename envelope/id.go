package envelope

import "strings"

// Ids are strings of one form (see [ValidID]) but of different types, so that
// a user cannot be passed where a device is meant.
type (
	// NodeID names one device: the unit that connects, has cursors and owns a log.
	NodeID string
	// ClientID names one user, who may have several devices.
	ClientID string
	// SessionID names one group.
	SessionID string
	// ServerID names one server process of the mesh; it is stable over restarts.
	ServerID string
)

// MaxIDLen is the longest id in bytes.
const MaxIDLen = 128

// ValidID reports whether s has the form of an id:
// one to [MaxIDLen] characters of A–Z, a–z, 0–9 and "_.:@-".
// No character of an id ever needs escaping in JSON.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > MaxIDLen {
		return false
	}
	for i := range len(s) {
		if !idByte[s[i]] {
			return false
		}
	}
	return true
}

var idByte = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@-") {
		t[c] = true
	}
	return t
}()

// An alias is the id by which an anonymous member of a session is known there:
// the session's id, '~' and a name, which has the form of an id and at most
// [MaxAliasName] characters. No device id has a '~', so an alias is nobody's
// device id, and which session it belongs to can be read off it. It has an
// address and a log of its own like a device, for private messages.

// MaxAliasName is the longest name of an alias in bytes.
const MaxAliasName = 64

// AliasOf returns the alias with that name in a session.
func AliasOf(session SessionID, name string) NodeID {
	return NodeID(string(session) + "~" + name)
}

// Alias returns the session and the name if id is an alias.
func (id NodeID) Alias() (session SessionID, name string, ok bool) {
	s, name, ok := strings.Cut(string(id), "~")
	if !ok || !ValidID(s) || !ValidID(name) || len(name) > MaxAliasName {
		return "", "", false
	}
	return SessionID(s), name, true
}

// ValidNode reports whether s has the form of a device's id or of an alias.
func ValidNode(s string) bool {
	if ValidID(s) {
		return true
	}
	_, _, ok := NodeID(s).Alias()
	return ok
}

// TopicPrefix begins the id of every session that is a topic, and of no other:
// so what a topic may do without ever having been created says nothing about
// which sessions there are.
const TopicPrefix = "topic:"

// IsTopic reports whether the session is a topic.
func (id SessionID) IsTopic() bool { return strings.HasPrefix(string(id), TopicPrefix) }

// Principal is who a credential speaks for. Package auth makes them; every
// message and every call carries one.
type Principal struct {
	Node   NodeID
	Client ClientID
	App    bool      // may use the server API on behalf of others
	Guest  bool      // has no account: may join sessions and speak there, and nothing else
	Only   SessionID // of a guest: the one session that it may join; "" any
	Rights *Rights   // what the credential is bound by; nil: by nothing. The app is not
}

// Same reports whether both are the same device of the same user, of the same
// kind. What they have a right to may differ.
func (p Principal) Same(other Principal) bool {
	p.Rights, other.Rights = nil, nil
	return p == other
}
