package gateway

import "github.com/allsparkrt/allspark/envelope"

// What the app's own backend asks for; to everybody else these commands are
// [envelope.Forbidden].
type (
	// SendMany sends one message to many destinations, each on its own: to a
	// session also without being a member. A destination that is none is refused
	// as one that does not exist is, and the others go on. The reply is [SentMany].
	SendMany struct {
		Envelope envelope.Envelope // without a destination, and no revision
		To       []Destination
		// In whose name; "" the caller's. Whether that device is in a session is
		// neither asked nor said: it may be there by an alias.
		Src       envelope.NodeID
		SrcClient envelope.ClientID // "": named like Src
	}
	// Destination is where a message goes, as in an [envelope.Envelope].
	Destination struct {
		Node    envelope.NodeID
		Client  envelope.ClientID
		Session envelope.SessionID
	}

	// Disconnect ends the connection of a device, or those of a user, on all
	// servers, with a code and a reason of at most [MaxReason] bytes. GoingAway,
	// which "" means, lets it come back at once, Unauthorized with a new
	// validation token, and Forbidden tells it to stay away; none of them keeps it
	// away as [Revoke] does. The reply is [Disconnected].
	Disconnect struct {
		Node   envelope.NodeID
		Client envelope.ClientID
		Code   envelope.Code
		Reason string
	}

	// ListSessions asks which sessions there are, those with ids behind After in
	// the order of their ids, without their members. Topics with rules are among
	// them. The reply is [Sessions].
	ListSessions struct {
		After envelope.SessionID
		Limit int // at most; 0: as many as a page has
	}
	// GetEdges asks where an address can be reached. The reply is [Edges].
	GetEdges struct{ Of envelope.Address }
	// GetCursors asks how far a device has got in its logs, those behind After;
	// everybody may ask about its own. Of another device the logs of sessions are
	// absent where it is by an alias, or not any more. The reply is [Cursors].
	GetCursors struct {
		Node  envelope.NodeID // "": the caller's
		After envelope.Address
		Limit int // at most; 0: as many as a page has
	}
)

// MaxReason bounds the reason of [Disconnect], in bytes.
const MaxReason = 100

func (SendMany) command()     {}
func (Disconnect) command()   {}
func (GetEdges) command()     {}
func (ListSessions) command() {}
func (GetCursors) command()   {}

type (
	// SentMany answers [SendMany], in the order of its destinations.
	SentMany struct{ Of []Sent }
	// Sent is what has become of a message for one destination.
	Sent struct {
		Ack Ack
		Err *envelope.Error // not nil: it was refused
	}
	// Disconnected names the servers where there was somebody to be disconnected.
	Disconnected struct{ Servers []envelope.ServerID }

	// Sessions answers [ListSessions].
	Sessions struct {
		Of   []SessionInfo
		Next envelope.SessionID // After of the next page
		More bool
	}
	// Edges answers [GetEdges].
	Edges struct {
		Of       []Edge
		LastSeen int64 // Unix milliseconds, as far as noted; 0: never, or not to be told
	}
	// Edge says that an address can be reached at a server.
	Edge struct {
		Server envelope.ServerID
		Boot   string
		Alive  bool // else its server has gone, and it does not count
	}
	// Cursors answers [GetCursors], in the order of the logs' names.
	Cursors struct {
		Of   []Cursor
		Next envelope.Address // After of the next page
		More bool
	}
	// Cursor is how far a device has got in a log.
	Cursor struct {
		Log             envelope.Address
		Delivered, Read uint64
	}
)

func (SentMany) event()     {}
func (Disconnected) event() {}
func (Edges) event()        {}
func (Sessions) event()     {}
func (Cursors) event()      {}
