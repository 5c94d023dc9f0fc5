// Package inbox keeps logs and cursors: the durable, numbered messages of each
// address, and how far each device has got in each log.
//
// A device's pending messages, a user's inbox and a group's history are all
// logs. The log is the truth of the system: a message is acknowledged only
// after [Store].Append has put it there, and everything that happens later
// (routing, live delivery) is a hint that a reader can repair by reading.
package inbox

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Cursor is how far one device has got in one log. Both positions only move
// forward.
type Cursor struct {
	Node      envelope.NodeID
	Log       envelope.Address
	Delivered uint64 // handled by the device up to and including this seq
	Read      uint64 // read by its user up to and including this seq
}

// Extent is what there is of a log. Entries below Floor have been trimmed.
type Extent struct {
	Floor uint64 // the first entry that can be read; 1 when nothing was trimmed
	Head  uint64 // 0: empty
	Bytes int64  // of the entries from Floor to Head: the sum of their [Size]s
}

// Size is what an entry counts for in quotas and retention, in bytes.
func Size(env *envelope.Envelope) int64 { return int64(len(env.Body)) + sizeOverhead }

// sizeOverhead is about what an entry takes besides its body.
const sizeOverhead = 200

// Quota bounds what may stand in one log. Zero fields mean no bound.
type Quota struct {
	Entries uint64
	Bytes   int64
}

// Exceeded reports whether a log of that extent has no room for another entry
// of that size.
func (q Quota) Exceeded(x Extent, size int64) bool {
	return q.Entries > 0 && x.Head+1 >= x.Floor+q.Entries || q.Bytes > 0 && x.Bytes > 0 && x.Bytes+size > q.Bytes
}

// Quotas are the quotas of each kind of log. A kind that is absent has none.
type Quotas map[envelope.Kind]Quota

// Exempt reports whether an entry is taken without asking for room: the
// server's own notes of who has joined and left and the like, which package
// session bounds. A session that its members have filled must not keep them in
// it. An invitation is somebody else's message in a device's log, and is not. A
// deletion is exempt too, or nothing could be taken out of a full log; there is
// one for each entry, and it has no body.
func Exempt(env *envelope.Envelope) bool {
	if env.Deletes != 0 && len(env.Body) == 0 {
		return true
	}
	return env.HasType && envelope.SystemType(env.Type) && env.Type != envelope.TypeInvited
}

// Found is what is known of a stored message.
type Found struct {
	Seq       uint64
	Timestamp int64 // when it was accepted, Unix milliseconds; 0 when that is not known any more
}

// Range is the entries of a log from First to Last, both included.
type Range struct{ First, Last uint64 }

// Revision is an entry that edits or deletes an earlier one of its log, see
// [envelope.Envelope.Revises].
type Revision struct {
	Of      uint64 // the seq of the earlier one
	Seq     uint64
	Deletes bool // else it edits
}

// Store keeps logs and cursors. Package storetest holds its promises as tests.
// All methods are safe for concurrent use. Errors are [*envelope.Error];
// Busy means that the outcome is unknown or that nothing happened, and that
// the same call may be repeated.
type Store interface {
	// Append numbers the envelope with the next seq of the log, stores it
	// durably (fsync, or majority and journal) and then calls done with that
	// seq, once, from a goroutine of the store; done must not block. It
	// returns at once and keeps neither more nor less than a bounded queue:
	// what does not fit is refused through done with Busy, which may happen
	// before Append returns.
	//
	// Envelopes handed to Append one after the other are numbered in that
	// order within a log, and done is called in that order. When one of them
	// fails because the store does, so do all that were waiting behind it in
	// the same log, and all that come until the last of those dones has been
	// called: a sender that stops at the first refusal is never overtaken by
	// itself.
	//
	// In one log seqs rise by one from 1 without holes; once n can be read,
	// nothing below n appears later, and (log, seq) never means two messages.
	// The envelope's Seq field is ignored and not changed.
	//
	// An envelope with an ID whose (log, SrcNode, ID) is stored already is not
	// stored again: done gets the first seq when the digests are equal, and
	// Conflict when they are not. That holds after it has been trimmed, too,
	// until Trim was told to forget it.
	//
	// A log that exceeds its quota refuses further entries with Quota, but
	// those that are [Exempt]. A repetition of what is stored is no further
	// entry.
	Append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error))

	// Read returns the entries of a log with seq > after in rising order,
	// without holes, at most limit of them and at most about maxBytes of
	// bodies (at least one entry if there is any). Only what is durable can be
	// read. An empty page means that after is the head or beyond. A page that
	// begins beyond after+1 says that what is between has been trimmed.
	Read(ctx context.Context, log envelope.Address, after uint64, limit, maxBytes int) ([]envelope.Envelope, error)

	// ReadMany is Read for several logs in few queries, for a reader that is a
	// little behind in many: at most limit entries of each. It may leave out
	// logs that Read would tell more of: those that were trimmed, those far
	// behind the others in bytes.
	ReadMany(ctx context.Context, after map[envelope.Address]uint64, limit, maxBytes int) (map[envelope.Address][]envelope.Envelope, error)

	// ReadEach returns those of the entries of a log with seqs, each given once,
	// that can be read, in rising order: at most about maxBytes of bodies (at
	// least one entry if there is any). What that leaves out has higher seqs than
	// all that it returns.
	ReadEach(ctx context.Context, log envelope.Address, seqs []uint64, maxBytes int) ([]envelope.Envelope, error)

	// Revisions returns, for ranges of each log that do not overlap, the entries
	// anywhere in that log that revise one of the ranges; those of one entry in
	// rising order. Logs where there are none are absent. A revision is known
	// exactly while it can be read itself.
	Revisions(ctx context.Context, of map[envelope.Address][]Range) (map[envelope.Address][]Revision, error)

	// Heads returns the highest durable seq of each log that has an entry at
	// the seq given with it or beyond; the other logs are absent. 0 means 1.
	// Asking from where a reader stands makes the usual answer, nothing new,
	// cheap for many logs at once.
	Heads(ctx context.Context, from map[envelope.Address]uint64) (map[envelope.Address]uint64, error)

	// Extent returns what there is of a log.
	Extent(ctx context.Context, log envelope.Address) (Extent, error)

	// Trim removes the entries of a log below floor, but never its head. Of
	// what has been removed, now or earlier, it keeps what recognises a
	// repetition, if the entry's Timestamp is not before forget. It may do its
	// work in parts and stop in between; a floor below the log's changes nothing
	// but what is forgotten.
	Trim(ctx context.Context, log envelope.Address, floor uint64, forget time.Time) error

	// Logs returns logs that have entries, in an order of the store's own: at
	// most limit of those behind after; the zero Address is before the first.
	// What comes meanwhile may be left out. It is for work in the background.
	Logs(ctx context.Context, after envelope.Address, limit int) ([]envelope.Address, error)

	// Find looks for the message with an ID that a device has sent to a log.
	// Seq is 0 when there is none.
	Find(ctx context.Context, log envelope.Address, src envelope.NodeID, id string) (Found, error)

	// Readers returns cursors of a log, at most limit, in any order.
	Readers(ctx context.Context, log envelope.Address, limit int) ([]Cursor, error)

	// Cursors returns the cursors of a device, one for each log it has one in.
	Cursors(ctx context.Context, node envelope.NodeID) ([]Cursor, error)

	// Advance moves cursors forward; a position that is not ahead of the
	// stored one changes nothing. It may be lazy about durability: a lost
	// cursor repeats a delivery.
	Advance(ctx context.Context, cursors []Cursor) error

	// Epoch returns a random id made when the store was created. Seqs of
	// different epochs have nothing to do with each other.
	Epoch(ctx context.Context) (string, error)
}
