package mongo

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// cursorRow is a document of the collection cursors.
type cursorRow struct {
	Node      envelope.NodeID `bson:"n"`
	Log       string          `bson:"l"`
	Delivered int64           `bson:"d"`
	Read      int64           `bson:"r"`
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
	return s.change(ctx, func(ctx context.Context, _ bool) error { return bulk(ctx, s.cursors, writes) })
}

// Cursors implements [inbox.Store].
func (s *Store) Cursors(ctx context.Context, node envelope.NodeID) (cursors []inbox.Cursor, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[cursorRow](ctx, s.cursors, bson.D{{Key: "n", Value: string(node)}})
		if err != nil {
			return err
		}
		cursors = make([]inbox.Cursor, len(rows))
		for i, r := range rows {
			log, err := envelope.ParseStored(r.Log)
			if err != nil {
				return damaged("cursor", err)
			}
			cursors[i] = inbox.Cursor{Node: node, Log: log, Delivered: uint64(r.Delivered), Read: uint64(r.Read)}
		}
		return nil
	})
	return cursors, err
}

// Readers implements [inbox.Store].
func (s *Store) Readers(ctx context.Context, log envelope.Address, limit int) (cursors []inbox.Cursor, err error) {
	if limit < 1 {
		return nil, nil
	}
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[cursorRow](ctx, s.cursors, bson.D{equals("l", log.String())}, options.Find().SetLimit(int64(limit)))
		cursors = make([]inbox.Cursor, len(rows))
		for i, r := range rows {
			cursors[i] = inbox.Cursor{Node: r.Node, Log: log, Delivered: uint64(r.Delivered), Read: uint64(r.Read)}
		}
		return err
	})
	return cursors, err
}
