package mongo

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/allsparkrt/allspark/envelope"
)

// Read implements [inbox.Store].
func (s *Store) Read(ctx context.Context, log envelope.Address, after uint64, limit, maxBytes int) (page []envelope.Envelope, err error) {
	if after >= math.MaxInt64 || limit < 1 {
		return nil, nil
	}
	name := log.String()
	err = s.query(ctx, func(ctx context.Context, _ bool) (err error) {
		page, err = s.messages.page(ctx, name, after, limit, maxBytes)
		return err
	})
	return page, err
}

// page returns the entries that follow after, or if those have been trimmed,
// the ones from the floor on.
func (m messages) page(ctx context.Context, log string, after uint64, limit, maxBytes int) ([]envelope.Envelope, error) {
	for {
		page, trimmed, err := m.run(ctx, log, after, limit, maxBytes)
		if err != nil || !trimmed {
			return page, err
		}
		floor, err := m.floor(ctx, log)
		if err != nil {
			return nil, err
		}
		after = max(after, uint64(floor.Seq)-1)
	}
}

// run returns the entries behind after up to the first that is missing. It
// reports whether the first one has been trimmed.
//
// Trim works from the lower end, so what is missing in the middle was taken
// away while the run was read, and the next one begins behind it. A run that
// begins beyond after+1 follows entries of which not even a stub is left: of
// what was never trimmed a majority has everything below what it has.
func (m messages) run(ctx context.Context, log string, after uint64, limit, maxBytes int) (run []envelope.Envelope, trimmed bool, err error) {
	cursor, err := m.Find(ctx,
		bson.D{equals("l", log), {Key: "s", Value: bson.D{{Key: "$gt", Value: int64(after)}}}},
		options.Find().
			SetSort(bson.D{{Key: "s", Value: 1}}).
			SetLimit(int64(limit)).
			SetBatchSize(int32(min(limit, 1000))).
			SetProjection(only("s", "e", "x")))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, cursor.Close(ctx)) }()
	size := 0
	for cursor.Next(ctx) {
		var r messageRow
		if err := cursor.Decode(&r); err != nil {
			return nil, false, err
		}
		if n := len(run); r.Stub || n > 0 && uint64(r.Seq) != run[n-1].Seq+1 {
			return run, n == 0, nil
		}
		e, _, err := envelope.ParseBinary(r.Envelope)
		if err != nil {
			return nil, false, err
		}
		if size += len(e.Body); size > maxBytes && len(run) > 0 {
			return run, false, nil
		}
		e.Seq = uint64(r.Seq)
		run = append(run, e)
	}
	return run, false, cursor.Err()
}

// tails returns the highest seq of each log that has one at or beyond the seq
// given. Logs are few enough for one query; it is not complete when more than
// limit rows would have answered it.
func (m messages) tails(ctx context.Context, from map[string]uint64, limit int) (heads map[string]uint64, complete bool, err error) {
	beyond := make(bson.A, 0, len(from))
	for log, least := range from {
		beyond = append(beyond, bson.D{{Key: "l", Value: log}, {Key: "s", Value: bson.D{{Key: "$gte", Value: int64(least)}}}})
	}
	rows, err := all[messageRow](ctx, m.Collection, bson.D{{Key: "$or", Value: beyond}},
		options.Find().SetProjection(only("l", "s")).SetLimit(int64(limit)))
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
		err := s.query(ctx, func(ctx context.Context, _ bool) (err error) {
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
			return s.query(ctx, func(ctx context.Context, _ bool) error {
				last, err := s.messages.tip(ctx, log)
				if err == nil && last.seq >= least {
					mu.Lock()
					heads[log] = last.seq
					mu.Unlock()
				}
				return err
			})
		})
	}
	return heads, readers.Wait()
}
