package envelope

import "strings"

// Kind tells what an [Address] names.
type Kind uint8

// The kinds of address. Their values are stored and sent between servers.
const (
	KindNode    Kind = 'n'
	KindClient  Kind = 'c'
	KindSession Kind = 's'

	// KindHook is that of the server's own logs of events for the app's backend.
	// No client can name one: [ParseAddress] knows none.
	KindHook Kind = 'h'
)

// String returns the kind's name as used in the text form of an address.
func (k Kind) String() string {
	switch k {
	case KindNode:
		return "node"
	case KindClient:
		return "client"
	case KindSession:
		return "session"
	case KindHook:
		return "hook"
	}
	return "invalid"
}

// Address is something a message can be sent to. Each address has one log of
// the same name. Its text form is "node:ID", "client:ID" or "session:ID".
// The zero Address names nothing. Addresses are comparable.
type Address struct {
	Kind Kind
	ID   string
}

// Address returns the address of the device.
func (id NodeID) Address() Address { return Address{KindNode, string(id)} }

// Address returns the address of the user.
func (id ClientID) Address() Address { return Address{KindClient, string(id)} }

// Address returns the address of the session.
func (id SessionID) Address() Address { return Address{KindSession, string(id)} }

// IsZero reports whether a names nothing.
func (a Address) IsZero() bool { return a == Address{} }

// String returns the text form, which [ParseAddress] reads.
func (a Address) String() string { return a.Kind.String() + ":" + a.ID }

// Clone returns a with memory of its own. Who remembers an address for longer
// than the message that it came with keeps a clone, for else it keeps the message:
// see [Parser.Parse].
func (a Address) Clone() Address { return Address{a.Kind, strings.Clone(a.ID)} }

// Compare orders addresses by their text forms.
func (a Address) Compare(b Address) int {
	if a.Kind != b.Kind {
		return strings.Compare(a.Kind.String(), b.Kind.String())
	}
	return strings.Compare(a.ID, b.ID)
}

// valid reports whether the id has the form that the kind asks for.
func (a Address) valid() bool {
	if a.Kind == KindNode {
		return ValidNode(a.ID)
	}
	return ValidID(a.ID)
}

// ParseAddress reads the text form of an address.
// The error has [BadRequest].
func ParseAddress(s string) (Address, error) {
	kind, id, _ := strings.Cut(s, ":")
	a := Address{ID: id}
	switch kind {
	case "node":
		a.Kind = KindNode
	case "client":
		a.Kind = KindClient
	case "session":
		a.Kind = KindSession
	}
	if a.Kind == 0 || !a.valid() {
		return Address{}, Errorf(BadRequest, "not an address of the form node:ID, client:ID or session:ID")
	}
	return a, nil
}

// ParseStored reads the text form of an address as a store has it: also of the
// kinds that no client can name.
func ParseStored(s string) (Address, error) {
	if id, ok := strings.CutPrefix(s, "hook:"); ok && ValidID(id) {
		return Address{KindHook, id}, nil
	}
	return ParseAddress(s)
}
