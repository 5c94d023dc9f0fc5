package main

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// relaxIndexes takes from a createIndexes what FerretDB refuses and no client can miss:
// a TTL index may expire late, even never; a partial index that is not unique and a
// hashed one only make queries faster, and FerretDB uses no index for them anyway.
// A partial unique index is left as it is, to be refused.
func relaxIndexes(createIndexes bson.D) bson.D {
	indexes, _ := field(createIndexes, "indexes").(bson.A)
	for i := range indexes {
		index, ok := indexes[i].(bson.D)
		if !ok {
			continue
		}
		unique, _ := field(index, "unique").(bool)
		index = slices.DeleteFunc(index, func(e bson.E) bool {
			return e.Key == "expireAfterSeconds" || e.Key == "partialFilterExpression" && !unique
		})
		keys, _ := field(index, "key").(bson.D)
		for k := range keys {
			if keys[k].Value == "hashed" {
				keys[k].Value = int32(1)
			}
		}
		indexes[i] = index
	}
	return createIndexes
}

func field(document bson.D, key string) any {
	for _, e := range document {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}
