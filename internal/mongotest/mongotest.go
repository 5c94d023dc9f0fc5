// Package mongotest gives tests a MongoDB to work with: the one that
// MONGODB_URI names, or the stand-in of internal/standin, which it builds and
// runs as a process of its own.
//
// A test that cannot have a database is skipped, except when CI is set: there
// it fails.
package mongotest

import (
	"context"
	"crypto/rand"
	"os"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// EnvURI names the environment variable with the URI of a real MongoDB.
const EnvURI = "MONGODB_URI"

// shared returns the one stand-in of this test binary, which ends with it.
var shared = sync.OnceValues(func() (*process, error) { return launch(config{}) })

// URI returns the URI of a database server that the tests of this binary share.
func URI(t testing.TB) string {
	t.Helper()
	if uri := os.Getenv(EnvURI); uri != "" {
		return uri
	}
	p, err := shared()
	if err != nil {
		unavailable(t, err)
	}
	return p.uri
}

// Database returns the name of a new database at [URI], which is dropped when
// the test ends.
func Database(t testing.TB) string {
	t.Helper()
	uri := URI(t)
	name := "test_" + rand.Text()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		client, err := mongo.Connect(options.Client().ApplyURI(uri))
		if err != nil {
			t.Errorf("dropping the database: %v", err)
			return
		}
		defer func() { _ = client.Disconnect(ctx) }()
		if err := client.Database(name).Drop(ctx); err != nil {
			t.Errorf("dropping the database: %v", err)
		}
	})
	return name
}

// unavailable ends a test that has no database.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("there is no stand-in for MongoDB: %v", err)
	}
	t.Skipf("there is no stand-in for MongoDB, and %s is not set: %v", EnvURI, err)
}
