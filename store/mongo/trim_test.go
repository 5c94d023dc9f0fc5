package mongo_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/store/mongo"
)

// fill appends messages 1 to n without waiting for each; message i is of the
// time i.
func fill(t *testing.T, s inbox.Store, log envelope.Address, n int) {
	t.Helper()
	answers := make(chan error, n)
	for i := range n {
		s.Append(log, at(message("alice", fmt.Sprint(i+1)), int64(i+1)), func(_ uint64, err error) { answers <- err })
	}
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// seqs reads a log from the beginning.
func seqs(t *testing.T, s inbox.Store, log envelope.Address) (all []uint64) {
	t.Helper()
	after := uint64(0)
	for {
		page, err := s.Read(t.Context(), log, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range page {
			if i > 0 && e.Seq != after+1 {
				t.Fatalf("a page has %d behind %d", e.Seq, after)
			}
			after = e.Seq
			all = append(all, after)
		}
		if len(page) == 0 {
			return all
		}
	}
}

// TestTrimLeftHalfDone holds that readers make do with a batch of which some
// rows were trimmed, in any order, and that the next Trim completes it.
func TestTrimLeftHalfDone(t *testing.T) {
	uri, database := mongotest.URI(t), mongotest.Database(t)
	s := openAll(t, 1, mongo.Options{URI: uri, Database: database, Timeout: 30 * time.Second})[0]
	client, err := driver.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	rows := client.Database(database).Collection("messages")
	log := room
	fill(t, s, log, 10)
	for _, test := range []struct {
		strip int // by hand
		reads []uint64
	}{
		{4, []uint64{1, 2, 3, 5, 6, 7, 8, 9, 10}},
		{6, []uint64{1, 2, 3, 7, 8, 9, 10}}, // 5 is left and cannot be read any more
		{1, []uint64{7, 8, 9, 10}},
	} {
		_, err := rows.UpdateOne(t.Context(), bson.D{{Key: "s", Value: test.strip}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: true}}}, {Key: "$unset", Value: bson.D{{Key: "e", Value: ""}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := seqs(t, s, log); !slices.Equal(got, test.reads) {
			t.Errorf("without %d a reader sees %v, want %v", test.strip, got, test.reads)
		}
	}
	if err := s.Trim(t.Context(), log, 7, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := rows.CountDocuments(t.Context(), bson.D{{Key: "e", Value: bson.D{{Key: "$exists", Value: true}}}}); err != nil || n != 4 {
		t.Errorf("%d rows have a body, %v", n, err)
	}
	if x, err := s.Extent(t.Context(), log); err != nil || x.Floor != 7 || x.Head != 10 {
		t.Errorf("extent %+v, %v", x, err)
	}
}

// TestYoungIsNotForgotten holds that a row stays for as long as another server
// may count from one before it.
func TestYoungIsNotForgotten(t *testing.T) {
	s := openAll(t, 1, mongo.Options{URI: mongotest.URI(t), Database: mongotest.Database(t), Timeout: 30 * time.Second})[0]
	now := time.Now()
	for id, age := range []time.Duration{2 * time.Hour, time.Minute, 0} {
		if o := appendOne(s, room, at(message("alice", fmt.Sprint(id+1)), now.Add(-age).UnixMilli())); o.err != nil {
			t.Fatal(o.err)
		}
	}
	if err := s.Trim(t.Context(), room, 3, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint64{0, 2, 3} {
		if found, err := s.Find(t.Context(), room, "alice", fmt.Sprint(i+1)); err != nil || found.Seq != want {
			t.Errorf("message %d: %+v, %v", i+1, found, err)
		}
	}
}

// TestManyBatches trims, forgets and walks logs of more rows than one command
// has to do with.
func TestManyBatches(t *testing.T) {
	s := openAll(t, 1, mongo.Options{URI: mongotest.URI(t), Database: mongotest.Database(t), Timeout: 30 * time.Second})[0]
	const n = 700
	long := envelope.NodeID("long").Address()
	fill(t, s, long, n)
	logs := []envelope.Address{envelope.ClientID("short").Address(), long, room}
	for _, log := range logs {
		fill(t, s, log, 2)
	}
	var walked []envelope.Address
	for after := (envelope.Address{}); ; after = walked[len(walked)-1] {
		some, err := s.Logs(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if walked = append(walked, some...); len(some) == 0 {
			break
		}
	}
	if !slices.Equal(walked, logs) {
		t.Errorf("the logs are %v", walked)
	}
	if err := s.Trim(t.Context(), long, 600, time.UnixMilli(550)); err != nil {
		t.Fatal(err)
	}
	if got := seqs(t, s, long); len(got) != n-599 || got[0] != 600 {
		t.Errorf("%d entries are left", len(got))
	}
	if x, err := s.Extent(t.Context(), long); err != nil || x.Floor != 600 || x.Head != n {
		t.Errorf("extent %+v, %v", x, err)
	}
	for id, want := range map[int]uint64{1: 0, 549: 0, 550: 550, 599: 599, 600: 600} {
		if found, err := s.Find(t.Context(), long, "alice", fmt.Sprint(id)); err != nil || found.Seq != want {
			t.Errorf("message %d: %+v, %v", id, found, err)
		}
	}
}
