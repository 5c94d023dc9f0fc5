package mongotest_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/allsparkrt/allspark/internal/mongotest"
)

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	return client
}

func TestDatabaseIsDropped(t *testing.T) {
	client := connect(t, mongotest.URI(t))
	var name string
	t.Run("use", func(t *testing.T) {
		name = mongotest.Database(t)
		if other := mongotest.Database(t); other == name {
			t.Fatalf("two databases are called %s", name)
		}
		if _, err := client.Database(name).Collection("c").InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}}); err != nil {
			t.Fatal(err)
		}
	})
	left, err := client.ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: name}})
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
}

func TestKillAndRestart(t *testing.T) {
	server := mongotest.Start(t)
	collection := connect(t, server.URI).Database("d").Collection("c")
	if _, err := collection.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Restart()
	n, err := collection.CountDocuments(t.Context(), bson.D{})
	if err != nil || n != 1 {
		t.Fatalf("after the restart there are %d documents, error %v", n, err)
	}
}

func TestFaults(t *testing.T) {
	server := mongotest.Start(t)
	collection := connect(t, server.URI).Database("d").Collection("c")
	status := server.Inject(mongotest.Fault{Kind: mongotest.WriteConcern, Commands: []string{"insert"}, Count: 1})
	if status.Probability != 1 || status.Seed == 0 {
		t.Errorf("the fault is %+v", status)
	}
	for i, want := range []bool{true, false} {
		_, err := collection.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}})
		if (err != nil) != want {
			t.Errorf("insert %d: error %v", i, err)
		}
	}
	if list := server.Faults(); len(list) != 1 || list[0].Fired != 1 {
		t.Errorf("the faults are %+v", list)
	}
	server.ClearFaults()
	if list := server.Faults(); len(list) != 0 {
		t.Errorf("after clearing the faults are %+v", list)
	}
}
