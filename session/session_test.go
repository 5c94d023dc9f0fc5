package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
)

// world is Sessions over a real store, with a log that a test can make fail.
type world struct {
	*session.Sessions
	store *embedded.Store

	mu  sync.Mutex
	err error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w := &world{store: store}
	w.Sessions = session.New(store, w.append, nil)
	return w
}

func (w *world) append(_ context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	type result struct {
		seq uint64
		err error
	}
	done := make(chan result, 1)
	w.store.Append(log, env, func(seq uint64, err error) { done <- result{seq, err} })
	r := <-done
	return r.seq, r.err
}

func who(id string) envelope.Principal {
	return envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}
}

// Every state of a membership, and what each call makes of it.
func TestStates(t *testing.T) {
	away := envelope.BusyError(100, "away", nil)
	interrupt := func(w *world, call func() error) {
		w.mu.Lock()
		w.err = away
		w.mu.Unlock()
		_ = call()
		w.mu.Lock()
		w.err = nil
		w.mu.Unlock()
	}
	join := func(t *testing.T, w *world) error {
		_, err := w.Join(t.Context(), who("bob"), "r", session.As{})
		return err
	}
	leave := func(t *testing.T, w *world) error { _, err := w.Leave(t.Context(), who("bob"), "r"); return err }
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	states := map[string]func(t *testing.T, w *world){
		"none":    func(*testing.T, *world) {},
		"joining": func(t *testing.T, w *world) { interrupt(w, func() error { return join(t, w) }) },
		"joined":  func(t *testing.T, w *world) { must(t, join(t, w)) },
		"leaving": func(t *testing.T, w *world) {
			must(t, join(t, w))
			interrupt(w, func() error { return leave(t, w) })
		},
		"left": func(t *testing.T, w *world) { must(t, join(t, w)); must(t, leave(t, w)) },
	}
	in, once := []session.Span{{From: 2}}, []session.Span{{From: 2, Until: 3}}
	back := []session.Span{{From: 2, Until: 3}, {From: 4}}
	for _, tt := range []struct {
		state, call string
		code        envelope.Code
		spans       []session.Span
	}{
		{"none", "join", "", in},
		{"none", "leave", envelope.NotFound, nil},
		{"none", "look", "", nil},
		{"joining", "join", "", in},
		{"joining", "leave", "", once},
		{"joining", "look", "", in},
		{"joined", "join", "", in},
		{"joined", "leave", "", once},
		{"joined", "look", "", in},
		{"leaving", "join", "", back},
		{"leaving", "leave", "", once},
		{"leaving", "look", "", once},
		{"left", "join", "", back},
		{"left", "leave", "", once},
		{"left", "look", "", once},
	} {
		t.Run(tt.state+" "+tt.call, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.Create(t.Context(), who("alice"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
				t.Fatal(err)
			}
			states[tt.state](t, w)
			var err error
			switch tt.call {
			case "join":
				err = join(t, w)
			case "leave":
				err = leave(t, w)
			}
			if envelope.CodeOf(err) != tt.code {
				t.Errorf("got %v, want %q", err, tt.code)
			}
			members, err := w.Of(t.Context(), "bob") // looking completes what was begun
			var spans []session.Span
			for _, m := range members {
				spans = append(spans, m.Spans...)
			}
			if err != nil || !slices.Equal(spans, tt.spans) {
				t.Errorf("stays %v, %v; want %v", spans, err, tt.spans)
			}
			isIn := len(tt.spans) > 0 && tt.spans[len(tt.spans)-1].Until == 0
			_, err = w.Resolve(t.Context(), &envelope.Envelope{SrcNode: "bob", DestSession: "r"})
			if (err == nil) != isIn {
				t.Errorf("may write: %v, want %v", err, isIn)
			}
			if _, _, err := w.Get(t.Context(), who("bob"), "r"); (err == nil) != isIn {
				t.Errorf("may look: %v, want %v", err, isIn)
			}
		})
	}
}

// Many at once for one device end in one membership, with one entry for each change.
func TestConcurrentJoins(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Create(t.Context(), who("alice"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	seqs := make([]uint64, 16)
	var wg sync.WaitGroup
	for i := range seqs {
		wg.Go(func() {
			m, err := w.Join(t.Context(), who("bob"), "r", session.As{})
			if err != nil {
				t.Error(err)
				return
			}
			seqs[i] = m.Spans[len(m.Spans)-1].From
		})
	}
	wg.Wait()
	if slices.Max(seqs) != 2 || slices.Min(seqs) != 2 {
		t.Errorf("joined at %v", seqs)
	}
	log, err := w.store.Read(t.Context(), envelope.SessionID("r").Address(), 0, 100, 1<<20)
	if err != nil || len(log) != 2 {
		t.Errorf("%d entries, %v", len(log), err)
	}
}

// A membership is remembered for a moment, and forgotten when the log says so.
func TestObserve(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Create(t.Context(), who("alice"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Join(t.Context(), who("bob"), "r", session.As{}); err != nil {
		t.Fatal(err)
	}
	write := func() error {
		_, err := w.Resolve(t.Context(), &envelope.Envelope{SrcNode: "bob", DestSession: "r"})
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	elsewhere := session.New(w.store, w.append, nil)
	if _, err := elsewhere.Leave(t.Context(), who("bob"), "r"); err != nil {
		t.Fatal(err)
	}
	w.Observe(&envelope.Envelope{DestSession: "r", SrcNode: "bob", HasType: true, Type: envelope.TypeLeft})
	if err := write(); envelope.CodeOf(err) != envelope.NotFound || !errors.Is(err, session.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
