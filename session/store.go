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

	Master     envelope.NodeID // of a game: the member that gets what the others send; "" while there is none
	MasterTerm uint64          // rises by one with each change of master; 0 until the first is a member

	Version uint64 // rises by one with each change of what follows or is above
	// Op and Next are a change of settings that is being noted in the log, and
	// By who asked for it; Op is "" when there is none.
	Op   string
	By   envelope.NodeID
	Next Settings
	// NextMaster is what Op leads to when it is a change of master, and MasterOp
	// why; 0 when it is none.
	MasterOp   Handover
	NextMaster envelope.NodeID
	// Admitted is the membership that was let in last, while there is a limit:
	// the device and the version that its row is to have.
	Admitted        envelope.NodeID
	AdmittedVersion uint64
	// No more than MostSeats seats are taken, that of Admitted included, as long
	// as Settings stay what they are; 0: not known.
	MostSeats int

	Paid int64 // see [allowance]
}

// Settings are what the owner of a session decides.
type Settings struct {
	AnyoneCanJoin bool
	MemberLimit   int  // at most so many members; 0 means any number
	MembersHidden bool // only moderators and the owner may see the member list

	Kind       Kind       // does not change
	NamesOnly  bool       // nobody comes anonymously
	Successors Successors // of a game: who becomes master when the master is gone
	NotifyLast int        // who has joined and left is told to so many who joined last; 0: to all
	FromHeader bool       // who joins sees what has followed the header, not only what follows its joining

	// Of a topic: how much of it is kept for who comes back, 0 and 0: nothing.
	KeepCount   int
	KeepSeconds int
	OwnerOnly   bool // of a topic: only the owner and the app send to it, not all who follow it
}

// Kind is what a session is for.
type Kind uint8

// The kinds.
const (
	Group Kind = iota // everybody hears what everybody says
	Game              // the members speak to the master, and it to them
	Topic             // see [envelope.SessionID.IsTopic]; members are the connections that follow it
)

// Successors says who may become the master of a game without being asked.
type Successors uint8

// The successors.
const (
	AnyMember      Successors = iota // who may write, moderators first
	ModeratorsOnly                   // the owner and moderators
	Nobody
)

// State is where a membership stands.
type State uint8

// The states of a membership. Joining, Leaving and Changing are intents:
// written before the log entry, so that whoever finds one can complete it with
// the same Op; so is Revealing.
const (
	Joining State = iota + 1
	Joined
	Leaving
	Left
	Invited
	Declined
	Banned
	Changing // a member whose role changes
	Revealing
)

// Member is one membership of a session. A device may have two, which have
// nothing to do with each other for anybody else: one by its name, and one by
// an alias. It is in by one of them at a time.
type Member struct {
	Session envelope.SessionID
	Kind    Kind              // the session's
	Node    envelope.NodeID   // the name it has in the session: the device's id, or an alias
	Device  envelope.NodeID   // whose membership it is; of an anonymous one nobody else's to know
	Client  envelope.ClientID // the device's user; likewise
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

	// Alias is, of a membership by name, the device's other one, if it ever had
	// any: it is made once and stays the device's.
	Alias    envelope.NodeID
	Revealed bool // of one by alias: everybody may know whose it is
	Given    bool // of one by alias: by the app, which so knows whose it is
}

// Span is one stay in a session: a member sees the entries from the one that
// let it in to the one that let it out, both included, and with Since also
// those before it from there on.
type Span struct {
	From  uint64 // seq of the joining entry
	Until uint64 // seq of the leaving entry; 0 while it is in
	Since uint64 `json:",omitempty"` // where what it sees begins, if that is before From; else 0
	// Header is the seq of the session's header as it was when the stay had
	// begun: no header entry below From is newer. 0: there was none.
	Header uint64 `json:",omitempty"`

	ByAlias bool `json:"-"` // in a membership that stands for two, see [Sessions.Of]; stored with none
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

	// List returns sessions, topics with rules among them, whose ids are behind
	// after in bytewise order, in that order, at most limit.
	List(ctx context.Context, after envelope.SessionID, limit int) ([]Session, error)

	// UpdateSession replaces the session with Version − 1, else ErrChanged.
	UpdateSession(ctx context.Context, s Session) error

	// PutMember writes the membership of that Session and Node. Version 1
	// creates it; a higher one replaces the row with Version − 1, which is of
	// the same Device. Else ErrChanged.
	PutMember(ctx context.Context, m Member) error
	// Member returns the membership of that Node, in whatever state, else ErrNotFound.
	Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error)
	// Members returns all memberships of a session, in whatever state.
	Members(ctx context.Context, id envelope.SessionID) ([]Member, error)
	// Memberships returns all memberships of a Device, by name and by alias, in
	// whatever state.
	Memberships(ctx context.Context, device envelope.NodeID) ([]Member, error)

	// PutHeader writes the header of a session, which need not exist. Version 1
	// creates it; a higher one replaces that of Version − 1. Else ErrChanged.
	PutHeader(ctx context.Context, h Header) error
	// Headers returns the headers of those of the sessions that have one, in any
	// order.
	Headers(ctx context.Context, ids []envelope.SessionID) ([]Header, error)
}
