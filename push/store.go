package push

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
)

// ErrChanged means that somebody else changed a [Job] first.
var ErrChanged = errors.New("push: changed meanwhile")

// Task says what a [Job] is about.
type Task uint8

// The tasks. Their values are stored.
const (
	// Look is to look at the log of an address: who has not got what is there.
	Look Task = iota + 1
	// Tell is to look at what a device has not got, and to tell it.
	Tell
)

// JobKey names a [Job]; there is one for each.
type JobKey struct {
	Task Task
	Addr envelope.Address // a log, or of Tell a device
}

// Job is something to be done at a time by one server of the mesh. A server
// claims it and puts it off until its work must be over; it is due again then if
// that server has died.
type Job struct {
	JobKey
	Due     int64  // Unix milliseconds; 0: nothing is to be done
	Claim   string // random, of who works at it; "": nobody
	Version uint64 // rises with each change, by one with [Store.PutJob]

	// Of Tell, what is known of the device:
	Opens    int64                       // nothing is shown before that, Unix milliseconds
	Attempts int                         // in vain, since a notification was shown
	Told     map[envelope.Address]uint64 // up to where it has been told of logs, while that is not read
	Failed   *DeadLetter                 // the last that was given up; nil: none
}

// DeadLetter is a notification that was given up. There is one for a device,
// the last.
type DeadLetter struct {
	At       int64 // Unix milliseconds
	Log      envelope.Address
	Seq      uint64
	Service  Service
	Reason   string // the service's word
	Attempts int
}

// Mute keeps a session, or a user's or device's log, from causing notifications on a device.
type Mute struct {
	Node  envelope.NodeID
	Log   envelope.Address
	Until int64 // Unix milliseconds; 0: for good
}

// Store keeps tokens, mutes and jobs. Package storetest holds its promises as
// tests. All methods are safe for concurrent use.
type Store interface {
	// PutToken writes the token of that Service and Value, unless the one that is
	// there was Registered later: it moves to the device that registered it last.
	PutToken(ctx context.Context, t Token) error
	// DropToken removes the token of that Service and Value if it is t.Node's and
	// was not Registered after upto (Unix milliseconds).
	DropToken(ctx context.Context, t Token, upto int64) error
	// DropTokens removes the tokens with that JTI, or for "" those that were Issued
	// before a time (Unix milliseconds).
	DropTokens(ctx context.Context, jti string, before int64) error
	// TokensOf returns the tokens of devices, in any order.
	TokensOf(ctx context.Context, nodes []envelope.NodeID) ([]Token, error)
	// TokensOfClient returns the tokens of a user's devices, in any order.
	TokensOfClient(ctx context.Context, client envelope.ClientID) ([]Token, error)

	// PutMute writes the mute of that Node and Log, DropMute removes it.
	PutMute(ctx context.Context, m Mute) error
	DropMute(ctx context.Context, node envelope.NodeID, log envelope.Address) error
	// Mutes returns the mutes of a device, also those that are over.
	Mutes(ctx context.Context, node envelope.NodeID) ([]Mute, error)

	// Touch makes jobs due at a time, or leaves them due before it. Of one that is
	// claimed only the Version changes, so that who works at it finds out. What is put into an inbox.Store of the same database after Touch
	// has returned is not durable without it.
	Touch(ctx context.Context, keys []JobKey, due int64) error
	// PutJob replaces the job with Version − 1, or makes it with Version 1; else
	// ErrChanged.
	PutJob(ctx context.Context, j Job) error
	// DropJob removes the job if it has that Version, else ErrChanged.
	DropJob(ctx context.Context, j Job) error
	// Jobs returns those of the jobs that there are, in any order.
	Jobs(ctx context.Context, keys []JobKey) ([]Job, error)
	// DueJobs returns jobs that are due at now, those due first first, at most limit.
	DueJobs(ctx context.Context, now int64, limit int) ([]Job, error)
	// FailedJobs returns jobs with a dead letter, which are such of [Tell], of
	// devices behind after in the order of their ids, at most limit.
	FailedJobs(ctx context.Context, after envelope.NodeID, limit int) ([]Job, error)
}
