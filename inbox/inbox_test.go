package inbox_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/store/embedded"
)

// What package inbox does, seen from outside.
const (
	flushEvery = time.Second
	flushBatch = 1000
	flushRetry = time.Second
)

// countingStore is a real store that counts writes of cursors and can fail.
type countingStore struct {
	*embedded.Store

	mu      sync.Mutex
	calls   int
	largest int
	err     error
	hold    chan struct{} // Advance waits for it
}

func (s *countingStore) Advance(ctx context.Context, cursors []inbox.Cursor) error {
	s.mu.Lock()
	s.calls++
	s.largest = max(s.largest, len(cursors))
	err, hold := s.err, s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err != nil {
		return err
	}
	return s.Store.Advance(ctx, cursors)
}

func (s *countingStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *countingStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// inBubble runs f with an Inbox over a store; run starts Run and stop ends it.
func inBubble(t *testing.T, f func(t *testing.T, in *inbox.Inbox, s *countingStore, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), CacheBytes: 1 << 20, MemtableBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		s := &countingStore{Store: store}
		in := inbox.New(s, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { in.Run(ctx) })
		stop := func() { cancel(); running.Wait() }
		defer stop()
		f(t, in, s, stop)
	})
}

func logOf(n int) envelope.Address { return envelope.NodeID(fmt.Sprint("d", n)).Address() }

// positions returns the cursors of device "d" in a store.
func positions(t *testing.T, s interface {
	Cursors(context.Context, envelope.NodeID) ([]inbox.Cursor, error)
},
) map[envelope.Address]uint64 {
	t.Helper()
	all, err := s.Cursors(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[envelope.Address]uint64)
	for _, c := range all {
		at[c.Log] = c.Delivered
	}
	return at
}

func TestCursorsAreGathered(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		for i := range 100 {
			in.Acknowledge("d", logOf(1), uint64(i))
			in.Acknowledge("d", logOf(2), uint64(200-i)) // forward only
		}
		want := map[envelope.Address]uint64{logOf(1): 99, logOf(2): 200}
		if got := positions(t, in); !maps.Equal(got, want) {
			t.Errorf("before they are written: %v, want %v", got, want)
		}
		if got := positions(t, s); len(got) != 0 {
			t.Errorf("written already: %v", got)
		}
		time.Sleep(flushEvery + time.Millisecond)
		synctest.Wait()
		if got := positions(t, s); !maps.Equal(got, want) || s.count() != 1 {
			t.Errorf("written %v in %d calls, want %v in one", got, s.count(), want)
		}
		in.Acknowledge("d", logOf(1), 5) // behind
		time.Sleep(2 * flushEvery)
		if got := positions(t, in); !maps.Equal(got, want) {
			t.Errorf("moved backwards: %v", got)
		}
	})
}

// Both positions of a cursor are gathered and neither takes the other back;
// the user's are apart from the device's.
func TestReadMarks(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		user, own := envelope.ClientID("u").Address(), envelope.NodeID("d").Address()
		in.Acknowledge("d", user, 9)
		in.MarkRead("d", "u", user, 5)
		in.MarkRead("d", "u", user, 3) // behind
		in.MarkRead("d", "u", own, 2)  // no other device has that log
		in.MarkRead("e", "u", user, 7)
		check := func(where string, of inbox.Store, away bool) {
			t.Helper()
			for node, want := range map[envelope.NodeID][]inbox.Cursor{
				"d":                   {{Node: "d", Log: user, Delivered: 9, Read: 5}, {Node: "d", Log: own, Delivered: 2, Read: 2}},
				"e":                   {{Node: "e", Log: user, Delivered: 7, Read: 7}},
				inbox.UserReader("u"): {{Node: inbox.UserReader("u"), Log: user, Read: 7}},
			} {
				got, err := of.Cursors(t.Context(), node)
				if err != nil {
					t.Fatal(err)
				}
				if away {
					want = nil
				}
				slices.SortFunc(got, func(a, b inbox.Cursor) int { return cmp.Compare(a.Log.Kind, b.Log.Kind) })
				if !slices.Equal(got, want) {
					t.Errorf("%s, of %s: %v, want %v", where, node, got, want)
				}
				for _, c := range got {
					if c.OfUser() != (node == inbox.UserReader("u")) {
						t.Errorf("%v of a user: %v", c, c.OfUser())
					}
				}
			}
		}
		check("noted", in, false)
		check("not written yet", s, true)
		s.set(func() { s.err = envelope.BusyError(1, "away", nil) })
		if in.Flush(t.Context()) == nil {
			t.Error("flushed to a store that is away")
		}
		check("put back", in, false)
		s.set(func() { s.err = nil })
		if err := in.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("written", s, false)
		in.MarkRead("d", "u", user, 6)
		in.Acknowledge("d", user, 4) // behind what is written
		if got, _ := in.Cursors(t.Context(), "d"); !slices.Contains(got, inbox.Cursor{Node: "d", Log: user, Delivered: 9, Read: 6}) {
			t.Errorf("merged: %v", got)
		}
	})
}

func TestBatches(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		for i := range 2*flushBatch + 1 {
			in.Acknowledge("d", logOf(i), 1)
		}
		if err := in.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.count() != 3 || s.largest != flushBatch || len(positions(t, s)) != 2*flushBatch+1 {
			t.Errorf("%d calls, the largest with %d; %d are there", s.count(), s.largest, len(positions(t, s)))
		}
	})
}

// Between leaving the list and arriving in the store a cursor is still seen.
func TestCursorsOnTheirWay(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		hold := make(chan struct{})
		s.set(func() { s.hold = hold })
		in.Acknowledge("d", logOf(1), 7)
		time.Sleep(flushEvery + time.Millisecond)
		synctest.Wait()
		if s.count() != 1 {
			t.Fatal("not on its way")
		}
		in.Acknowledge("d", logOf(2), 3)
		want := map[envelope.Address]uint64{logOf(1): 7, logOf(2): 3}
		if got := positions(t, in); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		close(hold)
		if err := in.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := positions(t, s); !maps.Equal(got, want) {
			t.Errorf("written %v, want %v", got, want)
		}
	})
}

func TestRetry(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		away := envelope.BusyError(100, "away", nil)
		s.set(func() { s.err = away })
		in.Acknowledge("d", logOf(1), 7)
		if err := in.Flush(t.Context()); !errors.Is(err, away) {
			t.Errorf("flush: %v", err)
		}
		in.Acknowledge("d", logOf(1), 9)
		time.Sleep(10 * time.Second)
		if n := s.count(); n < 3 || n > 12 {
			t.Errorf("%d attempts in 10 s", n)
		}
		if got := positions(t, in); got[logOf(1)] != 9 {
			t.Errorf("noted: %v", got)
		}
		s.set(func() { s.err = nil })
		time.Sleep(3 * flushRetry)
		if got := positions(t, s); got[logOf(1)] != 9 {
			t.Errorf("written: %v", got)
		}
		if in.Lost() != 0 {
			t.Errorf("%d lost", in.Lost())
		}
	})
}

func TestLastSave(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, stop func()) {
		in.Acknowledge("d", logOf(1), 7)
		stop()
		if got := positions(t, s); got[logOf(1)] != 7 {
			t.Errorf("written: %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := in.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a flush after the end: %v", err)
		}
	})
}

func TestFlushesShareASave(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, s *countingStore, _ func()) {
		hold := make(chan struct{})
		s.set(func() { s.hold = hold })
		in.Acknowledge("d", logOf(0), 1)
		time.Sleep(2 * flushEvery)
		var wg sync.WaitGroup
		for i := range 100 {
			in.Acknowledge("d", logOf(i), 2)
			wg.Go(func() {
				if err := in.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if s.count() > 4 {
			t.Errorf("%d writes", s.count())
		}
		if got := positions(t, s); len(got) != 100 {
			t.Errorf("%d written", len(got))
		}
	})
}

func TestWait(t *testing.T) {
	inBubble(t, func(t *testing.T, in *inbox.Inbox, _ *countingStore, _ func()) {
		e := &envelope.Envelope{ID: "1", SrcNode: "a", DestNode: "d1"}
		for range 2 {
			seq, err := inbox.Wait(t.Context(), func(done func(uint64, error)) { in.Append(logOf(1), e, done) })
			if seq != 1 || err != nil {
				t.Errorf("got %d, %v", seq, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := inbox.Wait(ctx, func(func(uint64, error)) {}) // a store that never answers
		if envelope.CodeOf(err) != envelope.Busy || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
