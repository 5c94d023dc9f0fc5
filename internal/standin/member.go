package main

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	setName = "standin"

	// FerretDB inserts in batches of this size and, against the promise of an ordered
	// insert, goes on with the next batch after a failure. Told so, clients split an
	// insert themselves, and stop.
	maxWriteBatch = 100
)

// member is the one member of the replica set that the stand-in poses as.
type member struct{ address string }

// pose turns FerretDB's answer to hello into that of a primary. FerretDB already
// gives its wire versions, a session timeout and no compression.
func (m member) pose(hello bson.D) bson.D {
	for _, field := range (bson.D{
		{Key: "secondary", Value: false},
		{Key: "setName", Value: setName},
		{Key: "setVersion", Value: int32(1)},
		{Key: "hosts", Value: bson.A{m.address}},
		{Key: "primary", Value: m.address},
		{Key: "me", Value: m.address},
		{Key: "maxWriteBatchSize", Value: int32(maxWriteBatch)},
	}) {
		hello = slices.DeleteFunc(hello, func(e bson.E) bool { return e.Key == field.Key })
		hello = append(hello, field)
	}
	return hello
}
