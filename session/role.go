package session

import "github.com/allsparkrt/allspark/envelope"

// Role is what a member may do.
type Role uint8

// The roles. A device's row never says Owner: [Session.Owner] does, so that
// there is one owner at every moment.
const (
	Ordinary  Role = iota // reads and writes
	Reader                // reads
	Moderator             // and decides who is in, but for moderators and the owner
	Owner                 // and decides everything else
	Outcast               // is out and may not come back
)

// String returns the role's name on the wire.
func (r Role) String() string {
	switch r {
	case Ordinary:
		return "member"
	case Reader:
		return "reader"
	case Moderator:
		return "moderator"
	case Owner:
		return "owner"
	}
	return ""
}

// ParseRole reads the name of a role that one can be given; "" is a member's.
// The error has [envelope.BadRequest].
func ParseRole(name string) (Role, error) {
	switch name {
	case "", "member":
		return Ordinary, nil
	case "reader":
		return Reader, nil
	case "moderator":
		return Moderator, nil
	}
	return 0, envelope.Errorf(envelope.BadRequest, "role is moderator, member or reader")
}

// String returns the state's name on the wire, where a change on its way has
// happened already.
func (s State) String() string {
	switch s {
	case Joining, Joined, Changing, Revealing:
		return "joined"
	case Leaving, Left:
		return "left"
	case Invited:
		return "invited"
	case Declined:
		return "declined"
	case Banned:
		return "banned"
	}
	return "none"
}

// in reports whether the device is in the session.
func (m *Member) in() bool { return m.State == Joined || m.State == Changing || m.State == Revealing }

// seated reports whether the device counts as a member, or may be about to.
func (m *Member) seated() bool { return m.State == Joining || m.State == Leaving || m.in() }

// atRest reports whether no change is on its way.
func (m *Member) atRest() bool {
	return m.State != Joining && m.State != Leaving && m.State != Changing && m.State != Revealing
}

// RoleOf returns the role that a device has in the session.
func (s *Session) RoleOf(m Member) Role {
	if s.Owner == m.Node {
		return Owner
	}
	return m.Role
}

// mayWrite reports whether the device may send to the session. A member that
// is about to become a reader is one: the log may say so already.
func (m *Member) mayWrite() bool {
	return m.in() && m.Role != Reader && (m.State != Changing || m.Next != Reader)
}
