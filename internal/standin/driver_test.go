package main

import (
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

func TestPosesAsPrimary(t *testing.T) {
	db, _ := start(t)
	if err := db.Client().Ping(t.Context(), readpref.Primary()); err != nil {
		t.Fatal(err)
	}
	var hello struct {
		SetName  string   `bson:"setName"`
		Hosts    []string `bson:"hosts"`
		Me       string   `bson:"me"`
		Primary  string   `bson:"primary"`
		Writable bool     `bson:"isWritablePrimary"`
		Sessions int      `bson:"logicalSessionTimeoutMinutes"`
	}
	if err := db.RunCommand(t.Context(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		t.Fatal(err)
	}
	if hello.SetName != setName || len(hello.Hosts) != 1 || hello.Hosts[0] != hello.Me ||
		hello.Primary != hello.Me || !hello.Writable || hello.Sessions == 0 {
		t.Errorf("hello = %+v", hello)
	}
}

// A log as a store would keep it: unique by (log, seq).
func newLog(t testing.TB, db *mongo.Database) *mongo.Collection {
	t.Helper()
	entries := db.Collection("entries")
	_, err := entries.Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys:    bson.D{{Key: "log", Value: 1}, {Key: "seq", Value: 1}},
		Options: options.Index().SetUnique(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func entry(log string, seq int) bson.D {
	return bson.D{{Key: "log", Value: log}, {Key: "seq", Value: int64(seq)}}
}

func entries(log string, seqs ...int) []any {
	var documents []any
	for _, seq := range seqs {
		documents = append(documents, entry(log, seq))
	}
	return documents
}

func count(t testing.TB, c *mongo.Collection, filter bson.D) int64 {
	t.Helper()
	n, err := c.CountDocuments(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func seqs(documents []bson.M) string {
	list := []any{}
	for _, d := range documents {
		list = append(list, d["seq"])
	}
	return fmt.Sprint(list)
}

func wantCode(t testing.TB, err error, code int) {
	t.Helper()
	failed, ok := errors.AsType[mongo.ServerError](err)
	if !ok || !failed.HasErrorCode(code) {
		t.Errorf("error = %v, want one with code %d", err, code)
	}
}

func TestUniqueIndex(t *testing.T) {
	db, _ := start(t)
	log := newLog(t, db)
	if _, err := log.InsertMany(t.Context(), entries("a", 1, 2)); err != nil {
		t.Fatal(err)
	}
	_, err := log.InsertOne(t.Context(), entry("a", 1))
	wantCode(t, err, duplicateKey)

	become1 := bson.D{{Key: "$set", Value: bson.D{{Key: "seq", Value: int64(1)}}}}
	_, err = log.UpdateOne(t.Context(), entry("a", 2), become1)
	wantCode(t, err, duplicateKey)
	err = log.FindOneAndUpdate(t.Context(), entry("a", 2), become1).Err()
	wantCode(t, err, duplicateKey)

	if n := count(t, log, bson.D{}); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func TestOrderedInsertStopsAtFirstDuplicate(t *testing.T) {
	db, _ := start(t)
	log := newLog(t, db)
	batch := entries("a", 0, 1, 2, 1, 3)
	for seq := 4; seq < 2*maxWriteBatch; seq++ { // FerretDB would go on here.
		batch = append(batch, entry("a", seq))
	}
	_, err := log.InsertMany(t.Context(), batch)
	failed, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || len(failed.WriteErrors) != 1 || failed.WriteErrors[0].Index != 3 || failed.WriteErrors[0].Code != duplicateKey {
		t.Errorf("error = %v, want one duplicate key at index 3", err)
	}
	if n := count(t, log, bson.D{}); n != 3 {
		t.Errorf("%d entries, want the 3 before the duplicate", n)
	}
}

func TestBulkUpdates(t *testing.T) {
	set := func(id, key int, upsert bool) mongo.WriteModel {
		return mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: id}}).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "key", Value: key}}}}).
			SetUpsert(upsert)
	}
	// The second clashes with row 3, the third must say that it was upserted as the third.
	models := []mongo.WriteModel{set(1, 10, true), set(2, 3, true), set(4, 40, true), set(3, 30, false)}
	for _, test := range []struct {
		ordered  bool
		rows     int64
		modified int64
	}{{true, 2, 0}, {false, 3, 1}} {
		t.Run(fmt.Sprintf("ordered=%t", test.ordered), func(t *testing.T) {
			db, _ := start(t)
			c := db.Collection("c")
			_, err := c.Indexes().CreateOne(t.Context(), mongo.IndexModel{
				Keys: bson.D{{Key: "key", Value: 1}}, Options: options.Index().SetUnique(true),
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 3}, {Key: "key", Value: 3}}); err != nil {
				t.Fatal(err)
			}
			result, err := c.BulkWrite(t.Context(), models, options.BulkWrite().SetOrdered(test.ordered))
			failed, ok := errors.AsType[mongo.BulkWriteException](err)
			if !ok || len(failed.WriteErrors) != 1 || failed.WriteErrors[0].Index != 1 || failed.WriteErrors[0].Code != duplicateKey {
				t.Fatalf("error = %v, want one duplicate key at index 1", err)
			}
			if n := count(t, c, bson.D{}); n != test.rows || result.ModifiedCount != test.modified {
				t.Errorf("%d rows, %d modified, want %d and %d", n, result.ModifiedCount, test.rows, test.modified)
			}
			if id, ok := result.UpsertedIDs[2]; !test.ordered && (!ok || id != int32(4)) {
				t.Errorf("upserted %v, want 4 by statement 2", result.UpsertedIDs)
			}
		})
	}
}

func TestUpserts(t *testing.T) {
	db, _ := start(t)
	cursors := db.Collection("cursors")
	upsert := func(operator string, value int64) {
		t.Helper()
		_, err := cursors.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "reader"}},
			bson.D{{Key: operator, Value: bson.D{{Key: operator[1:], Value: value}}}},
			options.UpdateOne().SetUpsert(true))
		if err != nil {
			t.Fatal(err)
		}
	}
	upsert("$max", 7)
	upsert("$max", 5)
	upsert("$set", 7)
	upsert("$set", 5)
	var got struct{ Max, Set int64 }
	if err := cursors.FindOne(t.Context(), bson.D{{Key: "_id", Value: "reader"}}).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Max != 7 || got.Set != 5 {
		t.Errorf("got %+v, want max 7 and set 5", got)
	}
}

func TestFind(t *testing.T) {
	db, _ := start(t)
	log := newLog(t, db)
	if _, err := log.InsertMany(t.Context(), append(entries("a", 3, 1, 5, 4, 2), entries("b", 1)...)); err != nil {
		t.Fatal(err)
	}
	seq := func(operator string, value any) bson.D {
		return bson.D{{Key: "log", Value: "a"}, {Key: "seq", Value: bson.D{{Key: operator, Value: value}}}}
	}
	for _, test := range []struct {
		name   string
		filter bson.D
		limit  int64
		want   string
	}{
		{"range", seq("$gt", 2), 0, "[3 4 5]"},
		{"range, limited", seq("$gt", 2), 2, "[3 4]"},
		{"in", seq("$in", bson.A{5, 2, 9}), 0, "[2 5]"},
		{"or", bson.D{{Key: "$or", Value: bson.A{entry("b", 1), entry("a", 4)}}}, 0, "[1 4]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cursor, err := log.Find(t.Context(), test.filter,
				options.Find().SetSort(bson.D{{Key: "seq", Value: 1}}).SetLimit(test.limit))
			if got := seqs(all(t, cursor, err)); got != test.want {
				t.Errorf("found %s, want %s", got, test.want)
			}
		})
	}
}

func TestDistinct(t *testing.T) {
	db, _ := start(t)
	log := newLog(t, db)
	if _, err := log.InsertMany(t.Context(), append(entries("a", 1, 2), entries("b", 1)...)); err != nil {
		t.Fatal(err)
	}
	var logs []string
	if err := log.Distinct(t.Context(), "log", bson.D{}).Decode(&logs); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(logs) != "[a b]" {
		t.Errorf("distinct logs = %v", logs)
	}
}

// FerretDB answers even what wants no answer: the connection must stay in step.
func TestUnacknowledgedWrites(t *testing.T) {
	db, _ := start(t)
	log := db.Collection("entries", options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
	for seq := range 20 {
		if _, err := log.InsertOne(t.Context(), entry("a", seq)); err != nil {
			t.Fatal(err)
		}
		if err := db.Client().Ping(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIndexesThatFerretDBRefuses(t *testing.T) {
	db, _ := start(t)
	indexes := db.Collection("c").Indexes()
	_, err := indexes.CreateMany(t.Context(), []mongo.IndexModel{
		{Keys: bson.D{{Key: "at", Value: 1}}, Options: options.Index().SetExpireAfterSeconds(60)},
		{Keys: bson.D{{Key: "log", Value: "hashed"}}},
	})
	if err != nil {
		t.Error(err)
	}
	_, err = indexes.CreateOne(t.Context(), mongo.IndexModel{
		Keys:    bson.D{{Key: "key", Value: 1}},
		Options: options.Index().SetUnique(true).SetPartialFilterExpression(bson.D{{Key: "key", Value: 1}}),
	})
	wantCode(t, err, 238)
}

func TestTransactionsAreRefused(t *testing.T) {
	db, _ := start(t)
	session, err := db.Client().StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(t.Context())
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	_, err = db.Collection("c").InsertOne(mongo.NewSessionContext(t.Context(), session), entry("a", 1))
	wantCode(t, err, 20)
}

// FerretDB panics over a type it does not know; the client must be told, once.
func TestBackendFailureIsAnError(t *testing.T) {
	db, _ := startLogging(t, silent())
	c := db.Collection("c")
	_, err := c.InsertOne(t.Context(), bson.D{{Key: "d", Value: bson.NewDecimal128(1, 2)}})
	wantCode(t, err, 1)
	if _, err := c.InsertOne(t.Context(), entry("a", 1)); err != nil {
		t.Error(err)
	}
}
