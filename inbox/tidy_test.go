package inbox_test

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/store/embedded"
)

// What is left of ten entries of 100 bytes, an hour apart, the last one now,
// of which the device has acknowledged six.
func TestTidy(t *testing.T) {
	size := inbox.Size(&envelope.Envelope{Body: make([]byte, 100)})
	tests := []struct {
		name   string
		limits inbox.Limits
		floor  uint64
	}{
		{"all", inbox.Limits{}, 1},
		{"entries", inbox.Limits{Entries: 4}, 7},
		{"more entries than there are", inbox.Limits{Entries: 40}, 1},
		{"age", inbox.Limits{Age: 150 * time.Minute}, 8},
		{"to the minute", inbox.Limits{Age: 2 * time.Hour}, 8},
		{"too old, all of them", inbox.Limits{Age: time.Nanosecond}, 10},
		{"bytes", inbox.Limits{Bytes: 3 * size}, 8},
		{"bytes, not quite", inbox.Limits{Bytes: 3*size - 1}, 9},
		{"bytes for none", inbox.Limits{Bytes: 1}, 10},
		{"acknowledged", inbox.Limits{Acknowledged: time.Minute}, 7},
		{"acknowledged and old", inbox.Limits{Acknowledged: 450 * time.Minute}, 3},
		{"acknowledged, of an alias", inbox.Limits{Acknowledged: time.Minute}, 7},
		{"the strictest", inbox.Limits{Entries: 4, Age: 150 * time.Minute, Bytes: 2 * size}, 9},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				in := inbox.New(store, slog.New(slog.DiscardHandler))
				node := envelope.NodeID("bob")
				if strings.HasSuffix(test.name, "alias") {
					node = "room~zorro"
				}
				log := node.Address()
				for i := range 10 {
					if i > 0 {
						time.Sleep(time.Hour)
					}
					env := &envelope.Envelope{DestNode: node, SrcNode: "alice", Timestamp: time.Now().UnixMilli(), Body: make([]byte, 100)}
					if _, err := inbox.Wait(t.Context(), func(done func(uint64, error)) { in.Append(log, env, done) }); err != nil {
						t.Fatal(err)
					}
				}
				if err := in.Advance(t.Context(), []inbox.Cursor{{Node: "bob", Log: log, Delivered: 2}}); err != nil {
					t.Fatal(err)
				}
				in.Acknowledge("bob", log, 6) // which is not in the store yet
				r := inbox.Retention{Keep: map[envelope.Kind]inbox.Limits{envelope.KindNode: test.limits}}
				for _, want := range []uint64{test.floor - 1, 0} {
					gone, err := in.Tidy(t.Context(), log, r)
					if err != nil || gone != want {
						t.Errorf("%d went, want %d, %v", gone, want, err)
					}
				}
				x, err := in.Extent(t.Context(), log)
				if err != nil || x.Floor != test.floor || x.Head != 10 || x.Bytes != int64(11-test.floor)*size {
					t.Errorf("left %+v, %v", x, err)
				}
				other, err := in.Tidy(t.Context(), envelope.ClientID("bob").Address(), r)
				if err != nil || other != 0 {
					t.Errorf("an empty log: %d, %v", other, err)
				}
			})
		})
	}
}
