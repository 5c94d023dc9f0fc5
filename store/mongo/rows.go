package mongo

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// all returns every document that filter selects.
func all[T any](ctx context.Context, c *mongo.Collection, filter any, opts ...options.Lister[options.FindOptions]) ([]T, error) {
	cursor, err := c.Find(ctx, filter, opts...)
	if err != nil {
		return nil, err
	}
	var rows []T
	if err := cursor.All(ctx, &rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// byID selects one document, which must also have the fields given.
func byID(id any, fields ...bson.E) bson.D {
	return append(bson.D{{Key: "_id", Value: id}}, fields...)
}

// only projects on some fields.
func only(fields ...string) bson.D {
	projection := bson.D{}
	id := 0
	for _, field := range fields {
		if field == "_id" {
			id = 1
			continue
		}
		projection = append(projection, bson.E{Key: field, Value: 1})
	}
	return append(projection, bson.E{Key: "_id", Value: id})
}

func equals(field string, value any) bson.E { return bson.E{Key: field, Value: value} }

// bulk carries out writes in any order. Done again, it changes nothing.
func bulk(ctx context.Context, c *mongo.Collection, writes []mongo.WriteModel) error {
	if len(writes) == 0 {
		return nil
	}
	_, err := c.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false))
	return err
}
