package mongo

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// cursorRow is a document of the collection cursors.
type cursorRow struct {
	Log       string `bson:"l"`
	Delivered int64  `bson:"d"`
	Read      int64  `bson:"r"`
}

// Advance implements [inbox.Store].
func (s *Store) Advance(ctx context.Context, cursors []inbox.Cursor) error {
	writes := make([]mongo.WriteModel, len(cursors))
	for i, c := range cursors {
		node, log := string(c.Node), c.Log.String()
		writes[i] = mongo.NewUpdateOneModel().
			SetFilter(byID(node+"|"+log, equals("n", node))).
			SetUpdate(bson.D{
				{Key: "$max", Value: bson.D{{Key: "d", Value: int64(c.Delivered)}, {Key: "r", Value: int64(c.Read)}}},
				{Key: "$setOnInsert", Value: bson.D{{Key: "l", Value: log}}},
			}).
			SetUpsert(true)
	}
	return s.try(ctx, func(ctx context.Context, _ bool) error { return bulk(ctx, s.cursors, writes) })
}

// Cursors implements [inbox.Store].
func (s *Store) Cursors(ctx context.Context, node envelope.NodeID) (cursors []inbox.Cursor, err error) {
	err = s.try(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[cursorRow](ctx, s.cursors, bson.D{{Key: "n", Value: string(node)}})
		if err != nil {
			return err
		}
		cursors = make([]inbox.Cursor, len(rows))
		for i, r := range rows {
			log, err := envelope.ParseAddress(r.Log)
			if err != nil {
				return damaged("cursor", err)
			}
			cursors[i] = inbox.Cursor{Node: node, Log: log, Delivered: uint64(r.Delivered), Read: uint64(r.Read)}
		}
		return nil
	})
	return cursors, err
}
