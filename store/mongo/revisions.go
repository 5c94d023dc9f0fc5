package mongo

import (
	"context"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// Revisions implements [inbox.Store]. It is one query: ranges of the index of
// revisions, which is small. A revision is a row like any other,
// so there is no moment at which it is stored and not found.
func (s *Store) Revisions(ctx context.Context, of map[envelope.Address][]inbox.Range) (map[envelope.Address][]inbox.Revision, error) {
	ranges := make(bson.A, 0, len(of))
	logs := make(map[string]envelope.Address, len(of))
	for log, list := range of {
		logs[log.String()] = log
		for _, r := range list {
			first, last := min(max(r.First, 1), math.MaxInt64), min(r.Last, math.MaxInt64)
			ranges = append(ranges, bson.D{equals("l", log.String()), {Key: "r", Value: bson.D{
				{Key: "$gte", Value: int64(first)}, {Key: "$lte", Value: int64(last)},
			}}})
		}
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	found := make(map[envelope.Address][]inbox.Revision)
	err := s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[messageRow](ctx, s.messages.Collection, bson.D{{Key: "$or", Value: ranges}},
			options.Find().SetSort(bson.D{{Key: "l", Value: 1}, {Key: "r", Value: 1}, {Key: "s", Value: 1}}).
				SetProjection(only("l", "r", "s", "w")))
		if err != nil {
			return err
		}
		clear(found)
		for _, r := range rows {
			log := logs[r.Log]
			found[log] = append(found[log], inbox.Revision{Of: uint64(r.Revises), Seq: uint64(r.Seq), Deletes: r.Deletes})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
