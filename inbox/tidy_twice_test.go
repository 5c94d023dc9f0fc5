package inbox_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/store/embedded"
)

// meanwhileStore has something happen after it has said what there is of a log.
type meanwhileStore struct {
	*embedded.Store
	then func()
}

func (m *meanwhileStore) Extent(ctx context.Context, log envelope.Address) (inbox.Extent, error) {
	x, err := m.Store.Extent(ctx, log)
	if then := m.then; then != nil {
		m.then = nil
		then()
	}
	return x, err
}

// Two that tidy one log at once leave as much of it as one does.
func TestTidyTwice(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m := &meanwhileStore{Store: store}
	in, other := inbox.New(m, slog.New(slog.DiscardHandler)), inbox.New(store, slog.New(slog.DiscardHandler))
	log := envelope.SessionID("r").Address()
	for range 20 {
		env := &envelope.Envelope{DestSession: "r", SrcNode: "alice", Timestamp: time.Now().UnixMilli(), Body: make([]byte, 100)}
		if _, err := inbox.Wait(t.Context(), func(done func(uint64, error)) { in.Append(log, env, done) }); err != nil {
			t.Fatal(err)
		}
	}
	keep := inbox.Retention{Keep: map[envelope.Kind]inbox.Limits{envelope.KindSession: {Bytes: 10 * 300}}}
	m.then = func() {
		if gone, err := other.Tidy(t.Context(), log, keep); gone != 10 || err != nil {
			t.Fatal(gone, err)
		}
	}
	if _, err := in.Tidy(t.Context(), log, keep); err != nil {
		t.Fatal(err)
	}
	x, err := store.Extent(t.Context(), log)
	if err != nil || x.Floor != 11 {
		t.Errorf("the limit is 3000 bytes, and %d are left: %+v, %v", x.Bytes, x, err)
	}
}
