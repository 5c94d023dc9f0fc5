package mongo

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/allsparkrt/allspark/envelope"
)

// messageRow is a document of the collection messages.
type messageRow struct {
	ID       string `bson:"_id"`
	Log      string `bson:"l"`
	Seq      int64  `bson:"s"`
	Digest   []byte `bson:"d,omitempty"`
	Envelope []byte `bson:"e,omitempty"`
}

// logSeqIndex is the name of the unique index on log and seq.
const logSeqIndex = "log_seq"

// messages is the collection of that name; every command on it asks for a
// majority, and for the journal when it writes.
type messages struct{ *mongo.Collection }

func messageID(log, key string) string { return log + "|" + key }

// insert implements table.
func (m messages) insert(ctx context.Context, log string, head uint64, entries []*entry) (int, clash, error) {
	rows := make([]any, len(entries))
	for i, e := range entries {
		rows[i] = &messageRow{
			ID: messageID(log, e.key), Log: log, Seq: int64(head) + int64(i) + 1,
			Digest: e.digest, Envelope: e.binary,
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
	projection := bson.D{{Key: "s", Value: 1}, {Key: "d", Value: 1}}
	found, err := all[messageRow](ctx, m.Collection, filter, options.Find().SetProjection(projection))
	if err != nil {
		return nil, err
	}
	rows := make(map[string]row, len(found))
	for _, f := range found {
		rows[strings.TrimPrefix(f.ID, log+"|")] = row{uint64(f.Seq), f.Digest}
	}
	return rows, nil
}

// head implements table. It is one step in the index (log, seq).
func (m messages) head(ctx context.Context, log string) (uint64, error) {
	var last messageRow
	err := m.FindOne(ctx, bson.D{{Key: "l", Value: log}}, options.FindOne().
		SetSort(bson.D{{Key: "s", Value: -1}}).
		SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: "s", Value: 1}})).Decode(&last)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, nil
	}
	return uint64(last.Seq), err
}

// page returns the entries that follow after without a hole.
func (m messages) page(ctx context.Context, log string, after uint64, limit, maxBytes int) (_ []envelope.Envelope, err error) {
	cursor, err := m.Find(ctx,
		bson.D{{Key: "l", Value: log}, {Key: "s", Value: bson.D{{Key: "$gt", Value: int64(after)}}}},
		options.Find().
			SetSort(bson.D{{Key: "s", Value: 1}}).
			SetLimit(int64(limit)).
			SetBatchSize(int32(min(limit, 1000))).
			SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: "s", Value: 1}, {Key: "e", Value: 1}}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cursor.Close(ctx)) }()
	var page []envelope.Envelope
	size := 0
	for cursor.Next(ctx) {
		var r messageRow
		if err := cursor.Decode(&r); err != nil {
			return nil, err
		}
		if uint64(r.Seq) != after+uint64(len(page))+1 {
			if len(page) == 0 {
				return nil, errHole
			}
			return page, nil
		}
		e, _, err := envelope.ParseBinary(r.Envelope)
		if err != nil {
			return nil, err
		}
		if size += len(e.Body); size > maxBytes && len(page) > 0 {
			return page, nil
		}
		e.Seq = uint64(r.Seq)
		page = append(page, e)
	}
	return page, cursor.Err()
}

// Append implements [inbox.Store].
func (s *Store) Append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	s.appender.append(log, newEntry(env, done))
}

// Stats returns what has gone other than smoothly so far.
func (s *Store) Stats() Stats { return s.appender.stats.read() }

// Read implements [inbox.Store].
func (s *Store) Read(ctx context.Context, log envelope.Address, after uint64, limit, maxBytes int) (page []envelope.Envelope, err error) {
	if after >= math.MaxInt64 || limit < 1 {
		return nil, nil
	}
	name := log.String()
	err = s.try(ctx, func(ctx context.Context, _ bool) (err error) {
		page, err = s.messages.page(ctx, name, after, limit, maxBytes)
		return err
	})
	if errors.Is(err, errHole) {
		s.logger.ErrorContext(ctx, "a log has a hole", slog.String("log", name), slog.Uint64("after", after))
	}
	return page, err
}

// errHole is for a log that lacks the entry asked for and has later ones. An
// empty page would say that there is nothing more.
var errHole = envelope.Errorf(envelope.Internal, "the log has a hole")

// tails returns the highest seq of each log that has one at or beyond the seq
// given. Logs are few enough for one query; it is not complete when more than
// limit rows would have answered it.
func (m messages) tails(ctx context.Context, from map[string]uint64, limit int) (heads map[string]uint64, complete bool, err error) {
	beyond := make(bson.A, 0, len(from))
	for log, least := range from {
		beyond = append(beyond, bson.D{{Key: "l", Value: log}, {Key: "s", Value: bson.D{{Key: "$gte", Value: int64(least)}}}})
	}
	projection := bson.D{{Key: "_id", Value: 0}, {Key: "l", Value: 1}, {Key: "s", Value: 1}}
	rows, err := all[messageRow](ctx, m.Collection, bson.D{{Key: "$or", Value: beyond}},
		options.Find().SetProjection(projection).SetLimit(int64(limit)))
	if err != nil {
		return nil, false, err
	}
	heads = make(map[string]uint64)
	for _, r := range rows {
		heads[r.Log] = max(heads[r.Log], uint64(r.Seq))
	}
	return heads, len(rows) < limit, nil
}

// Heads asks for the tails of so many logs in one query, and takes so many rows
// for an answer. A reader that is nearly up to date has short tails.
const (
	tailLogs = 200
	tailRows = 2000
)

// Heads implements [inbox.Store].
func (s *Store) Heads(ctx context.Context, from map[envelope.Address]uint64) (map[envelope.Address]uint64, error) {
	heads := make(map[envelope.Address]uint64)
	for logs := range slices.Chunk(slices.Collect(maps.Keys(from)), tailLogs) {
		names := make(map[string]uint64, len(logs))
		for _, log := range logs {
			names[log.String()] = min(max(from[log], 1), math.MaxInt64)
		}
		var tails map[string]uint64
		var complete bool
		err := s.try(ctx, func(ctx context.Context, _ bool) (err error) {
			tails, complete, err = s.messages.tails(ctx, names, tailRows)
			return err
		})
		if err == nil && !complete {
			tails, err = s.eachHead(ctx, names)
		}
		if err != nil {
			return nil, err
		}
		for _, log := range logs {
			if head := tails[log.String()]; head > 0 {
				heads[log] = head
			}
		}
	}
	return heads, nil
}

// headsAtOnce is how many heads are read at a time for one call.
const headsAtOnce = 16

// eachHead is tails, log by log, for readers that are far behind.
func (s *Store) eachHead(ctx context.Context, from map[string]uint64) (map[string]uint64, error) {
	var mu sync.Mutex
	heads := make(map[string]uint64)
	var readers errgroup.Group
	readers.SetLimit(headsAtOnce)
	for log, least := range from {
		readers.Go(func() error {
			return s.try(ctx, func(ctx context.Context, _ bool) error {
				head, err := s.messages.head(ctx, log)
				if err == nil && head >= least {
					mu.Lock()
					heads[log] = head
					mu.Unlock()
				}
				return err
			})
		})
	}
	return heads, readers.Wait()
}
