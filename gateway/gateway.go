// Package gateway is the contract between a node and the wire protocols that
// clients speak. A gateway authenticates, turns bytes into [Command]s, hands
// them to the [Core], and turns [Event]s back into bytes. Everything that
// decides anything is behind Core.
package gateway

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// MaxCallBody is the largest body of an HTTP call that is not a message, in bytes.
const MaxCallBody = 64 << 10

// Command is something a client asks for; one of the types below.
type Command interface{ command() }

type (
	// Send carries one message. The reply is [Ack] or an error; there is none
	// for a message without an ID that was taken. The envelope belongs to the
	// Core from then on.
	Send struct{ Envelope *envelope.Envelope }

	// Hello opens a connection that acknowledges for itself.
	Hello struct {
		Cursors map[envelope.Address]uint64 // nil: the stored ones
		Epoch   string                      // of the store the cursors are from; "" unknown
		FromNow bool                        // start at the heads, without replay
		Topics  []envelope.SessionID        // as by [Subscribe], with the same Cursors
	}

	// Subscribe makes the connection follow topics until it ends, without
	// anything being stored about that: each from behind the cursor given for its
	// log, else from behind its head. Ids are topics' (see
	// [envelope.SessionID.IsTopic]), at most [envelope.MaxTopics] on one
	// connection. The reply is [Subscribed]; messages of the topics come after it.
	Subscribe struct {
		ID      string // given back; "" none
		Topics  []envelope.SessionID
		Cursors map[envelope.Address]uint64
		Epoch   string // of the store the cursors are from; "" unknown
	}
	// Unsubscribe takes back [Subscribe]. The reply is [Unsubscribed]; no
	// message of the topics comes after it.
	Unsubscribe struct {
		ID     string
		Topics []envelope.SessionID
	}

	// Acknowledge moves the device's own cursors forward. It has no reply on a
	// connection, and [Done] elsewhere.
	Acknowledge struct{ Cursors []envelope.Position }
	// MarkRead says how far the user has read, on this device. It has no reply
	// on a connection, and [Done] elsewhere.
	MarkRead struct{ Cursors []envelope.Position }
	// GetPresence asks for the presence of users, or of a session's members as
	// they are now, to one of them: at most 1,000 users, of a larger session
	// those of the members whose device ids come first. Subscribe, on a
	// connection: true follows them, false stops that, without any users for
	// all. The reply is [Presence], which is empty when following has stopped.
	GetPresence struct {
		Clients   []envelope.ClientID
		Session   envelope.SessionID
		Subscribe *bool
	}
	// History asks for entries of a log that the caller may see, each as its
	// last revision has left it: after a seq and not before a time, or with
	// Back, and then without the revisions themselves, before a seq and not
	// after a time. The reply is [Page].
	History struct {
		Log    envelope.Address
		Limit  int // at most; 0: [inbox.PageEntries]
		After  uint64
		Since  int64 // Unix milliseconds; 0: from any time
		Back   bool
		Before uint64 // 0: the newest
		Until  int64  // Unix milliseconds; 0: to any time
	}
	// FetchPending is a legacy client's request for what is pending for its
	// device, in all its logs. The reply is [Pending].
	FetchPending struct {
		FromSeq, ToSeq   uint64 // page marks, both included; 0: open
		FromTime, ToTime int64  // Unix milliseconds, both included; 0: open
		ID               string // given back
		Clock            int64  // the client's, Unix milliseconds, to be compared; 0: not
		ClockOnly        bool   // asks for that and for no messages
		PushToken        string // of FCM, to be noted as by [PutPushToken]; "" none
		By               Credential
	}
	// Trace asks what has become of a message. The reply is [Traced].
	Trace struct {
		ID      string
		Dest    envelope.Address
		Session envelope.SessionID // that Dest is, or where it was a private message; "" none
		Src     envelope.NodeID    // "" is the caller, by whatever name; another is for the app only
	}

	// CreateSession makes a session of which the caller is owner and first
	// member. ID "" picks a random one, or with Key one that is the same when the
	// caller repeats it and that nobody guesses either. The reply is [SessionInfo].
	CreateSession struct {
		ID       envelope.SessionID
		Key      string
		Settings envelope.Settings
		Empty    bool            // the caller is no member; for the app
		Master   envelope.NodeID // of a game: who is it from its joining on; "": the caller
		As       Alias
	}
	// UpdateSession changes settings of a session. The reply is [SessionInfo]
	// without members.
	UpdateSession struct {
		ID     envelope.SessionID
		Change envelope.Settings
	}
	// ChangeMember acts on the membership of a device. The reply is [MemberInfo].
	ChangeMember struct {
		ID     envelope.SessionID
		Action MemberAction
		Node   envelope.NodeID   // of Decline: the caller's own
		Client envelope.ClientID // of Add: whose device it is
		Role   string            // of Invite, SetRole and Add
		As     Alias             // of Add
	}
	// Alias says whether somebody joins anonymously.
	Alias struct {
		Anonymous bool
		Name      string // of the alias; "": the one it has there, or else a random one
	}
	// JoinSession makes the caller a member. The reply is [Membership].
	JoinSession struct {
		ID envelope.SessionID
		As Alias
	}
	// RevealAnonymity tells a session whose the caller's alias is. The reply is
	// [MemberInfo].
	RevealAnonymity struct{ ID envelope.SessionID }
	// SetHeader gives a session another header: a JSON document of at most
	// 64 KiB that is kept and told to who joins. The reply is [Header].
	SetHeader struct {
		ID       envelope.SessionID
		Document []byte
	}
	// GetHeader asks for a session's header. The reply is [Header].
	GetHeader struct{ ID envelope.SessionID }
	// LeaveSession ends the caller's membership. The reply is [Membership].
	LeaveSession struct{ ID envelope.SessionID }
	// GetSession asks for a session, its members as far as the caller may see
	// them, and the caller's own membership: of the members those whose names are
	// behind After, in the order of their names. The reply is [SessionInfo].
	GetSession struct {
		ID    envelope.SessionID
		After envelope.NodeID
		Limit int  // members at most; 0: as many as a page has
		All   bool // of the members, for who cannot ask for the next page
	}

	// Locate asks for servers to connect to, best first. The reply is [Servers].
	Locate struct {
		NeedProxy bool               // prefer servers with a proxy URL
		Session   envelope.SessionID // prefer a server with members of it; "" none
		Max       int                // how many at most
	}

	// Revoke makes credentials worth nothing: the auth key of a name, or all of
	// a user, of a device or, with none of them, of everybody, that were issued
	// before a time. For the app. The reply is [Revocations] with that one.
	Revoke struct {
		JTI     string
		Client  envelope.ClientID
		Node    envelope.NodeID
		Before  int64 // Unix milliseconds; 0: now
		Expires int64 // when none of the keys can be valid any more; in the reply
	}
	// GetRevocations asks what is revoked, in the order of what it is about, behind
	// After, which is Next of the page before; for the app. The reply is [Revocations].
	GetRevocations struct {
		After string
		Limit int // at most; 0: as many as a page has
	}
)

func (Send) command()            {}
func (Subscribe) command()       {}
func (Unsubscribe) command()     {}
func (Hello) command()           {}
func (Acknowledge) command()     {}
func (MarkRead) command()        {}
func (GetPresence) command()     {}
func (History) command()         {}
func (FetchPending) command()    {}
func (Trace) command()           {}
func (CreateSession) command()   {}
func (RevealAnonymity) command() {}
func (SetHeader) command()       {}
func (GetHeader) command()       {}
func (JoinSession) command()     {}
func (UpdateSession) command()   {}
func (ChangeMember) command()    {}
func (LeaveSession) command()    {}
func (GetSession) command()      {}
func (Locate) command()          {}
func (Revoke) command()          {}
func (GetRevocations) command()  {}

// MemberAction is what [ChangeMember] does.
type MemberAction uint8

// The actions.
const (
	Invite   MemberAction = iota + 1 // offers to join in a role
	Decline                          // refuses an invitation
	Kick                             // ends a membership or takes an invitation back
	Ban                              // the same, for good
	Unban                            // ends that
	SetRole                          // gives a member another role
	Transfer                         // makes a member the owner
	Appoint                          // makes a member the master of a game
	Add                              // makes a device a member without asking; for the app
)

// Event is something a client is told; one of the types below.
type Event interface{ event() }

type (
	// Message is a message for the client. It is read-only and shared.
	Message struct{ Envelope *envelope.Envelope }

	// Ack says that a message was taken. Seq is 0 and Log zero when it was
	// not to be stored; Offline then says that nobody was there for it, to a
	// sender who asked with Receipt.
	Ack struct {
		ID      string
		Seq     uint64
		Log     envelope.Address
		Offline bool
	}
	// Done says that a command without another reply was carried out.
	Done struct{}
	// ReadMark says how far the user has read on another device.
	ReadMark struct{ Cursors map[envelope.Address]uint64 }
	// Receipt says that a message that asked for it was delivered to a device,
	// or read there, and with it all that the sender has sent before it to
	// that log.
	Receipt struct {
		ID     string
		Log    envelope.Address
		Seq    uint64
		Read   bool // else delivered
		Node   envelope.NodeID
		Client envelope.ClientID
	}
	// Presence says which users are connected.
	Presence struct{ Of []envelope.Presence }
	// Page answers [History].
	Page struct {
		Entries []envelope.Envelope // in rising order
		Floor   uint64              // entries below it are gone
		Head    uint64
		Back    bool   // as asked
		Next    uint64 // After, or with Back Before, of the next page
		More    bool   // there is one
	}
	// Pending answers [FetchPending].
	Pending struct {
		Node           envelope.NodeID // who asked
		ID             string
		Entries        []envelope.Envelope
		FromSeq, ToSeq uint64
		More           bool
		ClockOnly      bool  // as asked
		ClockAdd       int64 // the server's clock less the client's, milliseconds; 0 when not asked
	}
	// Traced answers [Trace].
	Traced struct {
		ID       string
		Log      envelope.Address
		Seq      uint64
		Accepted time.Time
		Trimmed  bool                // the entry is gone, only its number is left
		Readers  []TracedReader      // devices with a position in the log
		Servers  []envelope.ServerID // where readers are connected now; for the app only
	}
	// TracedReader is how far a device has got with a message.
	TracedReader struct {
		Node      envelope.NodeID
		Delivered bool
		Read      bool
		Server    envelope.ServerID // where it is connected now; for the app only
		Written   bool              // to its socket there; for the app only
	}
	// Refusal says that a command was refused. ID names the message refused,
	// if it was one with an ID.
	Refusal struct {
		ID  string
		Err *envelope.Error
	}
	// Welcome answers [Hello].
	Welcome struct {
		Server envelope.ServerID
		Epoch  string
		Heads  map[envelope.Address]uint64
		Window int           // messages kept in memory for the connection
		Ping   time.Duration // how often the server pings
	}
	// CaughtUp says that everything up to Heads has been sent.
	CaughtUp struct{ Heads map[envelope.Address]uint64 }
	// Gap says that the client's position in a log means nothing here; what
	// follows starts at Floor.
	Gap struct {
		Log   envelope.Address
		Floor uint64
	}
	// Subscribed answers [Subscribe]: the entries behind Cursors follow, up to
	// Heads at first; or a [Gap] says which do not.
	Subscribed struct {
		ID             string
		Topics         []envelope.SessionID
		Cursors, Heads map[envelope.Address]uint64
	}
	// Unsubscribed answers [Unsubscribe].
	Unsubscribed struct {
		ID     string
		Topics []envelope.SessionID
	}
	// Header is the header of a session: on a connection, before what follows
	// in the log for a client that has seen nothing there, or only what was
	// before a gap. It stands for the entries up to Seq.
	Header struct {
		Log      envelope.Address
		Seq      uint64          // of its entry
		By       envelope.NodeID // who has set it, by the name it has there
		Document []byte          // JSON
	}
	// Reconnect asks the client to come back elsewhere.
	Reconnect struct {
		After time.Duration
		URLs  []string
	}

	// SessionInfo describes a session.
	SessionInfo struct {
		ID       envelope.SessionID
		Owner    envelope.NodeID // the name it has in the session
		Master   envelope.NodeID // of a game, likewise
		Settings envelope.Settings
		Created  time.Time
		Members  []MemberInfo
		Own      MemberInfo // the caller's; zero when it has none

		// Of a [GetSession].
		Next envelope.NodeID // After of the next page of members
		More bool
	}
	// MemberInfo is one device's membership of a session.
	MemberInfo struct {
		Node   envelope.NodeID   // the name it has there: its id, or an alias
		Client envelope.ClientID // "" of who is anonymous
		Device envelope.NodeID   // whose alias it is, when that is to be known
		State  string            // "joined", "left", "invited", "declined", "banned" or "none"
		Role   string            // "owner", "moderator", "member" or "reader"
		Since  uint64            // seq of the entry that let it in; 0 if it is not
		Until  uint64            // seq of the entry that let it out; 0 if it is not out
	}
	// Membership answers [JoinSession] and [LeaveSession].
	Membership struct {
		ID   envelope.SessionID
		Node envelope.NodeID // the name that the caller has there
		Seq  uint64          // of the entry in the session's log
	}
	// Servers answers [Locate].
	Servers struct{ Servers []Server }
	// Server is a server that a client may connect to.
	Server struct {
		ID       envelope.ServerID
		Boot     string
		Addr     string // host:port
		URL      string
		ProxyURL string
		Load     int
	}

	// Revocations answers [Revoke] and [GetRevocations].
	Revocations struct {
		Of   []Revoke
		Next string // After of the next page
		More bool
	}
)

func (Message) event()   {}
func (Ack) event()       {}
func (Done) event()      {}
func (ReadMark) event()  {}
func (Receipt) event()   {}
func (Presence) event()  {}
func (Page) event()      {}
func (Pending) event()   {}
func (Traced) event()    {}
func (Refusal) event()   {}
func (Welcome) event()   {}
func (CaughtUp) event()  {}
func (Gap) event()       {}
func (Header) event()    {}
func (Reconnect) event() {}

func (Subscribed) event()   {}
func (Unsubscribed) event() {}
func (SessionInfo) event()  {}
func (MemberInfo) event()   {}
func (Membership) event()   {}
func (Servers) event()      {}
func (Revocations) event()  {}

// Codec turns frames into commands and events into frames. It is pure: no
// I/O, no goroutine, no lock. One Codec serves one connection; Decode is
// called by one goroutine at a time, Append by another.
type Codec interface {
	// Decode reads one frame, which it must not keep. The error is an
	// [*envelope.Error]; the returned id names the message refused, or is "".
	Decode(frame []byte) (cmd Command, id string, err error)
	// Append appends the frame for an event to dst. It returns dst unchanged
	// when the protocol has no words for the event.
	Append(dst []byte, ev Event) []byte
	// AppendAck is Append for an Ack, of which there are as many as messages: it
	// takes no memory for an Event.
	AppendAck(dst []byte, ack Ack) []byte
	// Shared names a form of frames: connections with equal names get equal
	// bytes for equal events, so that the node encodes once for all of them.
	Shared() string
}

// Transport is one open connection of a client.
type Transport interface {
	// Read returns the next frame; it is valid until the next call. One
	// goroutine at a time. The error tells how the connection ended.
	Read() ([]byte, error)
	// Write writes one frame. One goroutine at a time.
	Write(frame []byte) error
	// Ping returns when the client has answered a ping, which shows that it
	// has received every frame written before.
	Ping(ctx context.Context) error
	// Close says goodbye with a code and ends the connection; pending calls
	// return. It may be called more than once and from any goroutine.
	Close(code envelope.Code, reason string)
	// Abort ends the connection without a word.
	Abort()
}

// ErrNothing is what a [Waiter] reads when it is not to wait.
var ErrNothing = errors.New("gateway: no frame is there")

// Waiter is a [Transport] that needs no goroutine while no frame is there, nor
// to write. Somebody owns its input at any time, at first the caller of Serve.
// Its Read says [ErrNothing] when the owner is to give the input back; a frame is
// valid until the next call, and until Keep.
type Waiter interface {
	Transport
	// Watch names who is called when there are frames. It is called once, before
	// Await. Called inline, ready does not wait for anything: it reads until
	// ErrNothing and returns false, or calls Keep, leaves the input to a goroutine
	// and returns true. Called not inline, it is that goroutine.
	Watch(ready func(inline bool) (kept bool))
	// Keep makes the input that of a goroutine.
	Keep()
	// Await gives the input of a goroutine back. It reports false when there are
	// frames by now, and the caller has to go on.
	Await() bool

	// Probe sends a ping without waiting, and returns what was heard before. It
	// reports false when it did not, because a frame is being written at the moment or
	// nothing may follow any more. Who has sent a ping calls Heard some time later: the
	// answer may be kept until then.
	Probe() (heard uint32, sent bool)
	// Heard returns something else than before when anything has come from the client,
	// be it a pong, and may do so when the server ends the connection.
	Heard() uint32

	// Queue takes a frame to be written by Flush. It does not wait.
	Queue(frame []byte) error
	// Flush writes what was queued as far as that needs no waiting, and returns
	// how many bytes are left. Those are on their way, too; see Drain.
	Flush() (left int, err error)
	// Drain waits until some of the bytes left are written, and returns how many
	// there still are.
	Drain() (left int, err error)
}

// Options say how a connection behaves.
type Options struct {
	// Hello is true when the protocol lets the client open with [Hello] and
	// acknowledge for itself. Without a Hello the node acknowledges what an
	// answered ping shows to have arrived.
	Hello bool
	// Answers is true when a sender is told by messages what became of its own:
	// by [envelope.TypeOffline] or [envelope.TypeUnknown] that the destination of
	// a stored one is connected nowhere, by [envelope.TypeNotMember] that one was
	// refused for want of a membership.
	Answers bool
	// Address is the client's; the zero one when it is not known.
	Address netip.Addr
	// Expires is when the credential does; zero means never.
	Expires time.Time
	// JTI and Issued are the credential's name and beginning, by which it may be
	// revoked; "" and zero when it does not say.
	JTI    string
	Issued time.Time
	// Verify checks the auth keys that the client gives for [Refresh]; nil: the
	// client knows no such thing, and the connection ends with its credential.
	Verify Verify
}

// Core is what a node offers to gateways. All methods are safe for concurrent use.
type Core interface {
	// Do carries out one command for a caller without a connection and waits
	// for its reply. Errors are [*envelope.Error].
	Do(ctx context.Context, who envelope.Principal, cmd Command) (Event, error)
	// Serve runs a connection and returns when it is over and its goroutines
	// have ended; one with a [Waiter] goes on without its caller. It goes on
	// until ctx ends, at the latest.
	Serve(ctx context.Context, who envelope.Principal, t Transport, c Codec, o Options)
	// Self names this server and its boot, to which validation tokens are bound.
	Self() (id envelope.ServerID, boot string)
	// Refused counts a refusal that a gateway has given without the Core.
	Refused(code envelope.Code)
	// Admit reports whether a new connection may be opened, before the cost of
	// opening it: GoingAway while draining, Busy when full.
	Admit() error
}
