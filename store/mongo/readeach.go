package mongo

import (
	"context"
	"errors"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
)

// ReadEach implements [inbox.Store]. It is one query: points of the index
// (log, seq).
func (s *Store) ReadEach(ctx context.Context, log envelope.Address, seqs []uint64, maxBytes int) (entries []envelope.Envelope, err error) {
	points := make(bson.A, 0, len(seqs))
	for _, seq := range seqs {
		if seq <= math.MaxInt64 {
			points = append(points, int64(seq))
		}
	}
	if len(points) == 0 {
		return nil, nil
	}
	err = s.query(ctx, func(ctx context.Context, _ bool) (err error) {
		entries, err = s.messages.each(ctx, log.String(), points, maxBytes)
		return err
	})
	return entries, err
}

func (m messages) each(ctx context.Context, log string, seqs bson.A, maxBytes int) (entries []envelope.Envelope, err error) {
	cursor, err := m.Find(ctx, bson.D{equals("l", log), {Key: "s", Value: bson.D{{Key: "$in", Value: seqs}}}},
		options.Find().SetSort(bson.D{{Key: "s", Value: 1}}).SetProjection(only("s", "e", "x")))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cursor.Close(ctx)) }()
	size := 0
	for cursor.Next(ctx) {
		var r messageRow
		if err := cursor.Decode(&r); err != nil {
			return nil, err
		}
		if r.Stub {
			continue
		}
		e, _, err := envelope.ParseBinary(r.Envelope)
		if err != nil {
			return nil, err
		}
		if size += len(e.Body); size > maxBytes && len(entries) > 0 {
			break
		}
		e.Seq = uint64(r.Seq)
		entries = append(entries, e)
	}
	return entries, cursor.Err()
}
