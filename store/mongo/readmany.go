package mongo

import (
	"context"
	"errors"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
)

// ReadMany implements [inbox.Store]. It is one query: a range of the index
// (log, seq) for each log.
func (s *Store) ReadMany(ctx context.Context, after map[envelope.Address]uint64, limit, maxBytes int) (pages map[envelope.Address][]envelope.Envelope, err error) {
	if len(after) == 0 || limit < 1 {
		return nil, nil
	}
	ranges := make(bson.A, 0, len(after))
	logs := make(map[string]envelope.Address, len(after))
	for log, seq := range after {
		first := min(seq, math.MaxInt64-uint64(limit))
		logs[log.String()] = log
		ranges = append(ranges, bson.D{equals("l", log.String()), {Key: "s", Value: bson.D{
			{Key: "$gt", Value: int64(first)}, {Key: "$lte", Value: int64(first) + int64(limit)},
		}}})
	}
	err = s.query(ctx, func(ctx context.Context, _ bool) (err error) {
		pages, err = s.messages.ranges(ctx, ranges, logs, after, maxBytes)
		return err
	})
	return pages, err
}

// ranges returns of each range the entries from its beginning up to the first
// that is missing.
func (m messages) ranges(ctx context.Context, ranges bson.A, logs map[string]envelope.Address, after map[envelope.Address]uint64, maxBytes int) (_ map[envelope.Address][]envelope.Envelope, err error) {
	cursor, err := m.Find(ctx, bson.D{{Key: "$or", Value: ranges}},
		options.Find().SetSort(bson.D{{Key: "l", Value: 1}, {Key: "s", Value: 1}}).SetProjection(only("l", "s", "e", "x")))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cursor.Close(ctx)) }()
	pages := make(map[envelope.Address][]envelope.Envelope, len(logs))
	size := 0
	for cursor.Next(ctx) {
		var r messageRow
		if err := cursor.Decode(&r); err != nil {
			return nil, err
		}
		log := logs[r.Log]
		if r.Stub || uint64(r.Seq) != after[log]+uint64(len(pages[log]))+1 {
			continue // trimmed, or behind something that was
		}
		e, _, err := envelope.ParseBinary(r.Envelope)
		if err != nil {
			return nil, err
		}
		if size += len(e.Body); size > maxBytes && len(pages) > 0 {
			break
		}
		e.Seq = uint64(r.Seq)
		pages[log] = append(pages[log], e)
	}
	return pages, cursor.Err()
}
