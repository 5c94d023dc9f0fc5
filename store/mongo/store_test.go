package mongo_test

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/store/mongo"
	"github.com/allsparkrt/allspark/store/storetest"
)

// opened is a Store that knows how it was opened.
type opened struct {
	*mongo.Store
	options mongo.Options
}

func openWith(t testing.TB, o mongo.Options) *opened {
	t.Helper()
	s, err := mongo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &opened{s, o}
}

// openNew opens a store over a new database.
func openNew(t testing.TB) storetest.Store {
	t.Helper()
	uri := mongotest.URI(t)
	// A batch may meet a machine that is busy with other tests.
	return openWith(t, mongo.Options{URI: uri, Database: mongotest.Database(t), Timeout: 30 * time.Second, Quotas: storetest.Quotas()})
}

// openAgain opens the database of another store.
func openAgain(t testing.TB, s storetest.Store) storetest.Store {
	t.Helper()
	return openWith(t, s.(*opened).options)
}

func TestStore(t *testing.T) {
	storetest.Run(t, openNew, storetest.Options{
		Reopen: func(t testing.TB, s storetest.Store) storetest.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return openAgain(t, s)
		},
		Second: openAgain,
	})
}
