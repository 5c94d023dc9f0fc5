package mongo

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// revocationRow is a document of the collection revocations.
type revocationRow struct {
	ID      string            `bson:"_id"`
	JTI     string            `bson:"j,omitempty"`
	Client  envelope.ClientID `bson:"c,omitempty"`
	Node    envelope.NodeID   `bson:"n,omitempty"`
	Before  int64             `bson:"b"`
	Expires int64             `bson:"e"`
}

// revoked is the document of meta that counts the changes to revocations.
const revoked = "revoked"

// PutRevocation implements [auth.RevocationStore]. The count comes after the
// row: who sees it sees the row.
func (s *Store) PutRevocation(ctx context.Context, r auth.Revocation) error {
	update := bson.D{{Key: "$max", Value: bson.D{equals("b", r.Before), equals("e", r.Expires)}}}
	about := bson.D{}
	switch {
	case r.JTI != "":
		about = bson.D{equals("j", r.JTI)}
	case r.Client != "":
		about = bson.D{equals("c", r.Client)}
	case r.Node != "":
		about = bson.D{equals("n", r.Node)}
	}
	if len(about) > 0 {
		update = append(update, bson.E{Key: "$setOnInsert", Value: about})
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		upsert := options.UpdateOne().SetUpsert(true)
		if _, err := s.revocations.UpdateOne(ctx, byID(r.Name()), update, upsert); err != nil {
			return err
		}
		_, err := s.meta.UpdateOne(ctx, byID(revoked), bson.D{{Key: "$inc", Value: bson.D{equals("v", int64(1))}}}, upsert)
		return err
	})
}

// Revocations implements [auth.RevocationStore].
func (s *Store) Revocations(ctx context.Context, known uint64) (revocations []auth.Revocation, version uint64, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		var count struct {
			Version int64 `bson:"v"`
		}
		err := s.meta.FindOne(ctx, byID(revoked)).Decode(&count)
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			return err
		}
		revocations, version = nil, uint64(count.Version)+1 // 0 is what nobody knows
		if version == known {
			return nil
		}
		rows, err := all[revocationRow](ctx, s.revocations, bson.D{})
		for _, r := range rows {
			revocations = append(revocations, auth.Revocation{JTI: r.JTI, Client: r.Client, Node: r.Node, Before: r.Before, Expires: r.Expires})
		}
		return err
	})
	return revocations, version, err
}

// DropRevocations implements [auth.RevocationStore].
func (s *Store) DropRevocations(ctx context.Context, before int64) error {
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.revocations.DeleteMany(ctx, bson.D{{Key: "e", Value: bson.D{{Key: "$lt", Value: before}}}})
		return err
	})
}
