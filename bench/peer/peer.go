// Package peer is what the bench drives: servers of any kind that carry
// messages between connections. A driver starts one kind of server, or takes
// the address of one that runs, and opens connections that cost as little as
// they can, so that the load does not hide what the server costs.
//
// A driver does not measure and does not judge: bodies go in at one connection
// and come out at others, and the scenarios do the rest.
package peer

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// Target is one kind of server in one arrangement. Its methods but Start and
// Stop are safe for concurrent use between Start and Stop.
type Target interface {
	// About says what it is, also before it is started but for the version.
	About() About
	// Start starts the servers, with their data in env.Dir, or takes those that
	// run at env.Address. It returns when they take connections. After an error
	// nothing runs.
	Start(ctx context.Context, env Env) error
	// Stop ends what Start has started.
	Stop() error
	// PIDs are the processes whose CPU time and memory count: the servers, and
	// a database if they need one. None: unknown.
	PIDs() []int

	// Connect opens a connection for a user and returns when the user can be
	// written to. For a user who connects again, the handler first gets what
	// was kept, if the user is durable.
	Connect(ctx context.Context, u User, h Handler) (Client, error)
	// Group makes a group whose members get, by their user name, what is
	// published to it while they are connected, and later what they have missed.
	// It returns [ErrCannot] if the target has no such thing.
	Group(ctx context.Context, group string, members []string) error
}

// Shared is a target to which other processes can open connections, too.
type Shared interface {
	Target
	// Reach returns the address and the secret with which another target of the
	// same kind takes the servers that this one has started.
	Reach() Env
	// Another returns a target of the same kind that is not started.
	Another() Target
}

// ErrCannot means that a target is not made for what it was asked to do.
var ErrCannot = errors.New("peer: the target cannot do this")

// About describes a target.
type About struct {
	Name     string `json:"name"`     // as on the command line
	Title    string `json:"title"`    // for people, short
	Version  string `json:"version"`  // of the server that was started
	Settings string `json:"settings"` // what was set, for people: one line
	Can      Can    `json:"can"`
	Floor    bool   `json:"floor,omitempty"` // not a server but a bound: it keeps no promise
}

// Can says what a target can do. Scenarios that need more leave it out.
type Can struct {
	Volatile bool `json:"volatile"` // messages from user to user, not stored
	Durable  bool `json:"durable"`  // acknowledged when they are on disk
	Topics   bool `json:"topics"`   // volatile messages to all who follow a topic
	Offline  bool `json:"offline"`  // durable messages wait for a user who is away
	Groups   bool `json:"groups"`   // durable messages to members, of whom some are away
	Presence bool `json:"presence"` // connections may ask whether users are online
	Receipts bool `json:"receipts"` // senders may ask whether a message has been read
	// Servers is how many servers users are spread over; at least 1.
	Servers int `json:"servers"`
	// Processes is how many processes these servers are; 0: one.
	Processes int `json:"processes,omitempty"`
	// Islands are servers that know nothing of one another: users reach only
	// those of their own server, which is that of the same Index modulo Servers.
	Islands bool `json:"islands,omitempty"`
	// Connections is how many it takes at most; 0: as many as the machine.
	Connections int `json:"connections,omitempty"`
}

// Env is what a target is started in.
type Env struct {
	Dir     string     // an empty directory of its own, on the disk that is measured
	Address string     // HOST:PORT or URL of a server that runs; empty: start one
	PIDs    []int      // of the servers at Address
	Secret  string     // that the servers at Address want to be shown; empty: none
	Loop    *wire.Loop // reads all connections
}

// User is whose connection is opened.
type User struct {
	Name  string // letters, digits and hyphens, at most 32; unique in a run
	Index int    // counts from 0: users of several servers take turns
	// Topics are followed from the start. Names are like users' names.
	Topics []string
	// Durable users get what is sent to them durably, also what came while they
	// were away. Drivers acknowledge what the handler has taken, as the
	// protocol recommends.
	Durable bool
	// Presence users say that they are online, where a protocol has them say it.
	Presence bool
}

// Handler is told what happens on one connection, by one goroutine at a time.
// It must return soon and may call methods of any [Client]. Nil members are not
// called.
type Handler struct {
	// Message is called with each body that arrives. It is valid until Message
	// returns.
	Message func(body []byte)
	// Accepted is called when the server says that it has a durable message.
	Accepted func(tag uint64)
	// Refused is called when it says that it has not. With an unknown tag, 0.
	Refused func(tag uint64, reason string)
	// Receipt is called when it says that a message that asked for a receipt
	// has been read or delivered, whatever the target tells.
	Receipt func()
	// Closed is called once, as the last one, unless Close was called first.
	Closed func(err error)
}

// Message is what is sent. Bodies are printable ASCII without quotes,
// backslashes, angle brackets and ampersands, so that they stand in JSON and XML as they are.
type Message struct {
	Body    []byte // not kept
	Durable bool
	// Tag, above 0 and unique on the connection, names a durable message in
	// Handler.Accepted. Drivers may use it as the message's id.
	Tag uint64
	// Receipt asks for Handler.Receipt, where the target can.
	Receipt bool
}

// Client is one open connection. Its methods are safe for concurrent use and
// never wait: what the socket does not take is queued.
type Client interface {
	// Send sends to a user.
	Send(to string, m Message) error
	// Publish sends to all who follow a topic (volatile) or are in a group
	// (durable). The sender may get its own message.
	Publish(to string, m Message) error
	// Watch asks whether users are online, now and whenever that changes, where
	// the target can; what it answers is read and dropped.
	Watch(users []string) error
	// Close closes the connection at once, without a farewell.
	Close() error
}
