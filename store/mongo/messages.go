package mongo

import (
	"context"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// messageRow is a document of the collection messages. Once trimmed it is a
// stub: it keeps what recognises a repetition, and has no envelope.
type messageRow struct {
	ID       string `bson:"_id"`
	Log      string `bson:"l"`
	Seq      int64  `bson:"s"`
	Time     int64  `bson:"t"`           // the envelope's Timestamp
	Size     int64  `bson:"z"`           // see inbox.Size
	Total    int64  `bson:"b"`           // sizes of all entries that the log ever had, up to this one
	Digest   []byte `bson:"d,omitempty"` // none without an id
	Envelope []byte `bson:"e,omitempty"`
	Revises  int64  `bson:"r,omitempty"` // the seq that it edits or deletes
	Deletes  bool   `bson:"w,omitempty"`
	Stub     bool   `bson:"x,omitempty"`
}

// The names of the indexes on messages.
const (
	logSeqIndex = "log_seq" // unique
	stubIndex   = "stubs"   // of stubs only, by log and seq
	revIndex    = "revises" // of what revises an entry only, by log and that entry's seq
)

// messages is the collection of that name; every command on it asks for a
// majority, and for the journal when it writes.
type messages struct{ *mongo.Collection }

func messageID(log, key string) string { return log + "|" + key }

// insert implements table.
func (m messages) insert(ctx context.Context, log string, last tip, entries []*entry) (int, clash, error) {
	rows := make([]any, len(entries))
	for i, e := range entries {
		last = last.next(e)
		rows[i] = &messageRow{
			ID: messageID(log, e.key), Log: log, Seq: int64(last.seq),
			Time: e.time, Size: e.weight, Total: last.total,
			Digest: e.digest, Envelope: e.binary, Revises: e.revises, Deletes: e.deletes,
		}
	}
	_, err := m.InsertMany(ctx, rows, options.InsertMany().SetOrdered(true))
	if err == nil {
		return len(entries), noClash, nil
	}
	if stored, why, ok := clashIn(err); ok && stored < len(entries) {
		return stored, why, nil
	}
	return 0, noClash, err
}

// clashIn returns how many documents an ordered insert has stored before it
// met a duplicate key, and of which kind that is. It is not ok for any other
// failure, nor when what was stored before is not certain to be committed.
func clashIn(err error) (stored int, why clash, ok bool) {
	e, is := errors.AsType[mongo.BulkWriteException](err)
	if !is || e.WriteConcernError != nil || len(e.WriteErrors) != 1 || !mongo.IsDuplicateKeyError(e.WriteErrors[0]) {
		return 0, noClash, false
	}
	first := e.WriteErrors[0]
	return first.Index, clashOn(first.WriteError), true
}

// clashOn tells which unique index a duplicate is of. MongoDB from 4.2 on says
// so in keyPattern, and in words in the message; others may say nothing.
func clashOn(e mongo.WriteError) clash {
	if pattern, ok := e.Raw.Lookup("keyPattern").DocumentOK(); ok {
		if _, err := pattern.LookupErr("s"); err == nil {
			return seqClash
		}
		return keyClash
	}
	// The index stands before the values, which a client may have chosen.
	before, _, _ := strings.Cut(e.Message, " dup key:")
	if strings.HasSuffix(before, "index: "+logSeqIndex) {
		return seqClash
	}
	return keyClash
}

// find implements table.
func (m messages) find(ctx context.Context, log string, keys []string) (map[string]row, error) {
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = messageID(log, key)
	}
	// The log is named as well because a sharded collection is cut by it.
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}, {Key: "l", Value: log}}
	found, err := all[messageRow](ctx, m.Collection, filter, options.Find().SetProjection(only("_id", "s", "b", "d")))
	if err != nil {
		return nil, err
	}
	rows := make(map[string]row, len(found))
	for _, f := range found {
		rows[strings.TrimPrefix(f.ID, log+"|")] = row{f.tip(), f.Digest}
	}
	return rows, nil
}

// tip implements table. It is one step in the index (log, seq).
func (m messages) tip(ctx context.Context, log string) (tip, error) {
	last, err := m.outermost(ctx, bson.D{equals("l", log)}, -1, "s", "b")
	return last.tip(), err
}

// outermost returns some fields of the row with the lowest seq, or with order
// −1 the highest, of those that filter selects; the zero row if it selects none.
func (m messages) outermost(ctx context.Context, filter bson.D, order int, fields ...string) (found messageRow, err error) {
	err = m.FindOne(ctx, filter, options.FindOne().
		SetSort(bson.D{{Key: "s", Value: order}}).
		SetProjection(only(fields...))).Decode(&found)
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil
	}
	return found, err
}

func (r messageRow) tip() tip { return tip{uint64(r.Seq), r.Total} }

// Append implements [inbox.Store].
func (s *Store) Append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	s.appender.append(log, newEntry(env, done))
}

// Stats returns what has gone other than smoothly so far.
func (s *Store) Stats() Stats {
	stats := s.appender.stats.read()
	for _, b := range []*breaker{s.reads, s.writes} {
		stats.Outages += b.outages.Load()
		stats.Refused += b.refused.Load()
	}
	return stats
}

// Find implements [inbox.Store].
func (s *Store) Find(ctx context.Context, log envelope.Address, src envelope.NodeID, id string) (found inbox.Found, err error) {
	name := log.String()
	filter := byID(messageID(name, messageKey(src, id)), equals("l", name))
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		row, err := s.messages.outermost(ctx, filter, 1, "s", "t")
		found = inbox.Found{Seq: uint64(row.Seq), Timestamp: row.Time}
		return err
	})
	return found, err
}
