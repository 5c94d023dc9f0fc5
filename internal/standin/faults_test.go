package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// FerretDB alone would lose most of these increments, and repeat those whose reply was lost.
func TestIncrementsAreExact(t *testing.T) {
	for _, test := range []struct {
		kind   Kind
		shared bool
	}{
		// A lost connection clears the driver's pool, and whoever asks the cleared pool for a
		// connection gets an error that the driver does not retry. So each has a pool of its own.
		{ReplyLost, false},
		{Unreachable, true},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			shared, control := start(t)
			uri := setURI(t, shared)
			control.add(fmt.Sprintf(`{"kind":%q,"commands":["update"],"probability":0.05,"seed":1}`, test.kind))
			one := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
			id := bson.D{{Key: "_id", Value: "n"}}
			var writers sync.WaitGroup
			for range 8 {
				db := shared
				if !test.shared {
					db = connect(t, uri)
				}
				writers.Go(func() {
					for range 200 {
						_, err := db.Collection("counters").UpdateOne(t.Context(), id, one, options.UpdateOne().SetUpsert(true))
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			var counter struct{ N int }
			if err := shared.Collection("counters").FindOne(t.Context(), id).Decode(&counter); err != nil {
				t.Fatal(err)
			}
			if counter.N != 1600 {
				t.Errorf("counted %d, want 1600", counter.N)
			}
			if fired := control.list()[0].Fired; fired < 40 {
				t.Errorf("only %d replies were lost", fired)
			}
		})
	}
}

func TestFaultKinds(t *testing.T) {
	// What one insert, retried by the driver or not, ends with.
	for _, test := range []struct {
		name    string
		fault   string
		retried bool
		code    int   // 0: no server error
		network bool  // a network error
		rows    int64 // of the one inserted
	}{
		{"reply lost", `{"kind":"reply_lost","commands":["insert"],"count":1}`, true, 0, false, 1},
		{"reply lost, not retried", `{"kind":"reply_lost","commands":["insert"],"count":1}`, false, 0, true, 1},
		{"unreachable", `{"kind":"unreachable","commands":["insert"],"count":1}`, true, 0, false, 1},
		{"unreachable, not retried", `{"kind":"unreachable","commands":["insert"],"count":1}`, false, 6, false, 1},
		{"not primary", `{"kind":"not_primary","commands":["insert"],"count":1}`, true, 0, false, 1},
		{"not primary, not retried", `{"kind":"not_primary","commands":["insert"],"count":1}`, false, 10107, false, 0},
		{"cut", `{"kind":"cut","commands":["insert"],"count":1}`, true, 0, false, 1},
		{"cut, not retried", `{"kind":"cut","commands":["insert"],"count":1}`, false, 0, true, 0},
		{"disk full", `{"kind":"disk_full","count":1}`, true, 14031, false, 0},
		{"disk full, reads go on", `{"kind":"disk_full","commands":["aggregate","find"]}`, true, 0, false, 1},
		{"write concern", `{"kind":"write_concern","commands":["insert"],"count":1}`, true, 64, false, 1},
		{"stall", `{"kind":"stall","commands":["insert"],"count":1,"delay_ms":20}`, true, 0, false, 1},
		{"other command", `{"kind":"cut","commands":["update"]}`, true, 0, false, 1},
		{"other collection", `{"kind":"cut","collections":["others"]}`, true, 0, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			db, control := start(t)
			if !test.retried {
				db = connectOptions(t, options.Client().ApplyURI(setURI(t, db)).SetRetryWrites(false))
			}
			c := db.Collection("c")
			control.add(test.fault)
			_, err := c.InsertOne(t.Context(), entry("a", 1))
			failed, ok := errors.AsType[mongo.ServerError](err)
			switch {
			case test.network:
				if !mongo.IsNetworkError(err) {
					t.Errorf("error = %v, want a network error", err)
				}
			case test.code == 0 && err != nil:
				t.Error(err)
			case test.code != 0 && (!ok || !failed.HasErrorCode(test.code)):
				t.Errorf("error = %v, want code %d", err, test.code)
			}
			if n := count(t, c, bson.D{}); n != test.rows {
				t.Errorf("%d rows, want %d", n, test.rows)
			}
		})
	}
}

func TestStallDelays(t *testing.T) {
	db, control := start(t)
	const delay = 100 * time.Millisecond
	control.add(`{"kind":"stall","commands":["find"],"delay_ms":100}`)
	began := time.Now()
	if err := db.Collection("c").FindOne(t.Context(), bson.D{}).Err(); !errors.Is(err, mongo.ErrNoDocuments) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("answered after %v, want at least %v", took, delay)
	}
}

func TestControl(t *testing.T) {
	control := newControl(t)
	for _, bad := range []string{
		``, `{}`, `{"kind":"magic"}`, `{"kind":"cut","typo":1}`, `{"kind":"cut","probability":0}`,
		`{"kind":"cut","probability":1.1}`, `{"kind":"cut","count":-1}`, `{"kind":"stall"}`, `{"kind":"cut","delay_ms":1}`,
	} {
		if status, _ := control.do(http.MethodPost, bad); status != http.StatusBadRequest {
			t.Errorf("adding %q: status %d, want 400", bad, status)
		}
	}
	control.add(`{"kind":"cut","seed":7}`)
	control.add(`{"kind":"reply_lost","probability":0.5}`)
	list := control.list()
	if len(list) != 2 || list[0].Seed != 7 || list[0].Probability != 1 || list[1].Seed == 0 {
		t.Errorf("list = %+v", list)
	}
	status, body := control.do(http.MethodDelete, "")
	var cleared []FaultStatus
	if err := json.Unmarshal(body, &cleared); err != nil || status != http.StatusOK || len(cleared) != 2 {
		t.Errorf("clearing: %d %s", status, body)
	}
	if list := control.list(); len(list) != 0 {
		t.Errorf("list after clearing = %+v", list)
	}
}

func TestSameSeedSameFaults(t *testing.T) {
	draw := func() (fired []int) {
		faults := newFaults()
		if _, err := faults.Add(Fault{Kind: Cut, Probability: 0.3, Seed: 42, Count: 5}); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if faults.draw(command{name: "insert"}).kind == Cut {
				fired = append(fired, i)
			}
		}
		return fired
	}
	first, second := draw(), draw()
	if len(first) != 5 || len(second) != 5 {
		t.Fatalf("fired %d and %d times, want 5", len(first), len(second))
	}
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("fired at %v, then at %v", first, second)
		}
	}
}

// primary asks the set for its primary.
func primary(t testing.TB, db *mongo.Database) string {
	t.Helper()
	var hello struct{ Primary string }
	if err := db.RunCommand(context.Background(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		t.Fatal(err)
	}
	return hello.Primary
}

func setURI(t testing.TB, db *mongo.Database) string {
	return "mongodb://" + primary(t, db) + "/?replicaSet=" + setName
}
