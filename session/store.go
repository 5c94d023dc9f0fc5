// Package session keeps groups: which sessions there are and who belongs to
// them. Joining and leaving are entries of the session's own log, so that the
// log itself decides who may see which entry.
package session

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
)

// Session is one group.
type Session struct {
	ID      envelope.SessionID
	Owner   envelope.NodeID // there is always one, also while it is not a member
	Former  envelope.NodeID // the owner before; "" when there was none
	Reign   uint64          // rises by one with each change of owner
	Created int64           // Unix milliseconds
	Token   string          // random; tells a repeated create from a second one
	Settings

	Version uint64 // rises by one with each change of what follows or is above
	// Op and Next are a change of settings that is being noted in the log, and
	// By who asked for it; Op is "" when there is none.
	Op   string
	By   envelope.NodeID
	Next Settings
	// Admitted is the membership that was let in last, while there is a limit:
	// the device and the version that its row is to have.
	Admitted        envelope.NodeID
	AdmittedVersion uint64

	Paid int64 // see [allowance]
}

// Settings are what the owner of a session decides.
type Settings struct {
	AnyoneCanJoin bool
	MemberLimit   int  // at most so many members; 0 means any number
	MembersHidden bool // only moderators and the owner may see the member list
}

// State is where a membership stands.
type State uint8

// The states of a membership. Joining, Leaving and Changing are intents:
// written before the log entry, so that whoever finds one can complete it with
// the same Op.
const (
	Joining State = iota + 1
	Joined
	Leaving
	Left
	Invited
	Declined
	Banned
	Changing // a member whose role changes
)

// Member is one device's membership of one session.
type Member struct {
	Session envelope.SessionID
	Node    envelope.NodeID
	Client  envelope.ClientID
	State   State
	Role    Role            // of the owner it is what remains when there is another one
	Op      string          // id of the log entry that the state stands for; of Invited: of the invitation
	By      envelope.NodeID // who else asked for that; "" the device itself
	Spans   []Span          // when it was in, oldest first
	Version uint64          // rises by one with each change

	// Next is what an intent leads to: of Changing the role, of Leaving
	// [Outcast] for one who is banned. Reign is the session's when the role is
	// to be Owner.
	Next  Role
	Reign uint64
	Paid  int64 // see [allowance]
}

// Span is one stay in a session: a member sees the entries from the one that
// let it in to the one that let it out, both included.
type Span struct {
	From  uint64 // seq of the joining entry
	Until uint64 // seq of the leaving entry; 0 while it is in
}

// Errors of [Store].
var (
	// ErrExists means that a session with that id exists.
	ErrExists = errors.New("session: exists")
	// ErrNotFound means that there is no such session or membership.
	ErrNotFound = errors.New("session: not found")
	// ErrChanged means that somebody else changed the session or membership first.
	ErrChanged = errors.New("session: changed meanwhile")
)

// Store keeps sessions and memberships. Package storetest holds its promises
// as tests. All methods are safe for concurrent use; writes are durable.
type Store interface {
	// Create stores a new session, else ErrExists.
	Create(ctx context.Context, s Session) error
	// Session returns a session, else ErrNotFound.
	Session(ctx context.Context, id envelope.SessionID) (Session, error)

	// UpdateSession replaces the session with Version − 1, else ErrChanged.
	UpdateSession(ctx context.Context, s Session) error

	// PutMember writes a membership. Version 1 creates it; a higher one
	// replaces the row with Version − 1. Else ErrChanged.
	PutMember(ctx context.Context, m Member) error
	// Member returns a device's membership, in whatever state, else ErrNotFound.
	Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error)
	// Members returns all memberships of a session, in whatever state.
	Members(ctx context.Context, id envelope.SessionID) ([]Member, error)
	// Memberships returns all memberships of a device, in whatever state.
	Memberships(ctx context.Context, node envelope.NodeID) ([]Member, error)
}
