package mongo

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

// sightingRow is a document of the collection sightings.
type sightingRow struct {
	Addr string `bson:"_id"`
	At   int64  `bson:"t"`
}

// PutSightings implements [graph.Store].
func (s *Store) PutSightings(ctx context.Context, sightings []graph.Sighting) error {
	writes := make([]mongo.WriteModel, len(sightings))
	for i, seen := range sightings {
		writes[i] = mongo.NewUpdateOneModel().
			SetFilter(byID(seen.Addr.String())).
			SetUpdate(bson.D{{Key: "$max", Value: bson.D{{Key: "t", Value: seen.At}}}}).
			SetUpsert(true)
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error { return bulk(ctx, s.sightings, writes) })
}

// Sightings implements [graph.Store].
func (s *Store) Sightings(ctx context.Context, addrs ...envelope.Address) (sightings []graph.Sighting, err error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	names, byName := namesOf(addrs)
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[sightingRow](ctx, s.sightings, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: names}}}})
		sightings = make([]graph.Sighting, len(rows))
		for i, r := range rows {
			sightings[i] = graph.Sighting{Addr: byName[r.Addr], At: r.At}
		}
		return err
	})
	return sightings, err
}
