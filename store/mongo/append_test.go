package mongo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// stuck is a cluster that answers nothing until its gate opens.
type stuck struct {
	cluster
	gate chan struct{}
}

func (s *stuck) tip(ctx context.Context, log string) (tip, error) {
	select {
	case <-s.gate:
		return s.cluster.tip(ctx, log)
	case <-ctx.Done():
		return tip{}, ctx.Err()
	}
}

func newStuck() *stuck {
	return &stuck{cluster: cluster{random: rand.New(rand.NewPCG(1, 1))}, gate: make(chan struct{})}
}

// told collects the answers of appends in the order they come.
type told struct {
	codes chan envelope.Code
	seqs  chan uint64
}

func newTold() told { return told{make(chan envelope.Code, 1000), make(chan uint64, 1000)} }

func (o told) send(a *appender, log envelope.Address, id string, bytes int) {
	env := &envelope.Envelope{ID: id, SrcNode: "alice", Body: make([]byte, bytes)}
	a.append(log, newEntry(env, func(seq uint64, err error) {
		o.codes <- envelope.CodeOf(err)
		o.seqs <- seq
	}))
}

func TestQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		a := newLanes(s, Options{Timeout: time.Minute, QueueBytes: 30_000, QueueBytesPerLog: 9_500})
		accepted, refused := newTold(), newTold()
		other := envelope.NodeID("other").Address()

		for i := range 9 {
			accepted.send(a, room, fmt.Sprint(i), 700)
		}
		began := time.Now()
		refused.send(a, room, "too much for the log", 700)
		synctest.Wait()
		if code := <-refused.codes; code != envelope.Busy || time.Since(began) != 0 {
			t.Errorf("beyond the log's limit: %q after %v", code, time.Since(began))
		}
		for i := range 9 {
			accepted.send(a, other, fmt.Sprint(i), 700)
			accepted.send(a, envelope.NodeID("third").Address(), fmt.Sprint(i), 700)
		}
		refused.send(a, envelope.NodeID("fourth").Address(), "too much for the store", 20_000)
		synctest.Wait()
		if code := <-refused.codes; code != envelope.Busy {
			t.Errorf("beyond the store's limit: %q", code)
		}
		if full := a.stats.read().Full; full != 2 {
			t.Errorf("%d refusals were counted", full)
		}

		close(s.gate)
		for range 27 {
			if code := <-accepted.codes; code != "" {
				t.Errorf("what was accepted ended in %q", code)
			}
		}
		synctest.Wait()
		if a.bytes != 0 || len(a.lanes) != 0 {
			t.Errorf("%d bytes and %d lanes are left", a.bytes, len(a.lanes))
		}
		a.close()
	})
}

// TestLargeAppendGoesAlone holds that the limit of one log does not make a
// message that is larger than it impossible.
func TestLargeAppendGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		close(s.gate)
		a := newLanes(s, Options{Timeout: time.Minute, QueueBytesPerLog: 100})
		defer a.close()
		o := newTold()
		o.send(a, room, "1", 500_000)
		if code := <-o.codes; code != "" {
			t.Errorf("a message larger than the log's limit: %q", code)
		}
		o.send(a, room, "2", maxEntry)
		if code := <-o.codes; code != envelope.TooLarge {
			t.Errorf("a message larger than a document: %q", code)
		}
	})
}

func TestBatches(t *testing.T) {
	l := &lane{}
	a := newLanes(nil, Options{})
	for range batchEntries + 10 {
		l.waiting = append(l.waiting, &entry{})
	}
	if n := len(a.take(l)); n != batchEntries {
		t.Errorf("a batch of small entries has %d", n)
	}
	l.waiting = append(l.waiting[:0], &entry{binary: make([]byte, 2*batchBytes)}, &entry{binary: make([]byte, batchBytes/2)}, &entry{binary: make([]byte, batchBytes/2)})
	for _, want := range []int{1, 1, 1, 0} {
		if n := len(a.take(l)); n != want {
			t.Errorf("a batch of large entries has %d, want %d", n, want)
		}
	}
}

// TestAwayThenBack holds that everything is refused within the time-out while
// the database is away, and that the same lane works once it is back.
func TestAwayThenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		a := newLanes(s, Options{})
		defer a.close()
		o := newTold()
		began := time.Now()
		for i := range 300 { // more than one batch
			o.send(a, room, fmt.Sprint(i), 10)
		}
		for range 300 {
			if code := <-o.codes; code != envelope.Busy {
				t.Fatalf("without a database an append ended in %q", code)
			}
			<-o.seqs
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %v to be refused", took)
		}
		close(s.gate)
		for i := range 300 {
			o.send(a, room, fmt.Sprint(i), 10)
		}
		for i := range uint64(300) {
			if seq := <-o.seqs; seq != i+1 {
				t.Fatalf("seq %d, want %d", seq, i+1)
			}
		}
	})
}

// counted counts how often the end of the log is read.
type counted struct {
	*stuck
	tips int
}

func (c *counted) tip(ctx context.Context, log string) (tip, error) {
	c.tips++
	return c.stuck.tip(ctx, log)
}

// TestOldPositions holds that a lane does not count from a row so old that
// those behind it may have been deleted, and that it does trust a young one.
func TestOldPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{stuck: newStuck()}
		close(c.gate)
		a := newLanes(c, Options{})
		defer a.close()
		for i, step := range []struct {
			pause time.Duration
			tips  int
		}{{0, 1}, {0, 1}, {trust - time.Minute, 1}, {trust - time.Minute, 1}, {trust + time.Minute, 2}, {0, 2}, {8 * 24 * time.Hour, 3}} {
			_ = sleep(t.Context(), step.pause)
			o := newTold()
			o.send(a, room, fmt.Sprint(i), 10)
			if seq := <-o.seqs; seq != uint64(i+1) || c.tips != step.tips {
				t.Errorf("append %d after %v: seq %d after %d reads of the end, want %d", i, step.pause, seq, c.tips, step.tips)
			}
		}
	})
}

func TestCloseAnswersWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		a := newLanes(s, Options{})
		o := newTold()
		for i := range 3 {
			o.send(a, room, fmt.Sprint(i), 10)
		}
		began := time.Now()
		a.close()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("close took %v", took)
		}
		o.send(a, room, "late", 10)
		for range 4 {
			if code := <-o.codes; code != envelope.Busy {
				t.Errorf("an append ended in %q", code)
			}
		}
	})
}

// TestHotLog holds that of three servers with endless work for one log none
// waits long for its turn, and that they do not lose all their time to each
// other. Their batches are a third of those of one server alone.
func TestHotLog(t *testing.T) {
	alone, _ := hotLog(t, 1, 48)
	together, longest := hotLog(t, 3, 48)
	t.Logf("one server %d entries, three %d; longest wait %v", alone, together, longest)
	if longest > 500*time.Millisecond {
		t.Errorf("somebody waited for %v", longest)
	}
	if together < alone/4 {
		t.Errorf("three servers got %d entries stored, one %d", together, alone)
	}
	// With a single sender each, a batch is one entry and turns matter most.
	if _, longest := hotLog(t, 3, 3); longest > 500*time.Millisecond {
		t.Errorf("somebody waited for %v", longest)
	}
}

// hotLog lets senders write one log for three seconds, each waiting for its
// answer, and returns how many entries there are then and the longest wait.
func hotLog(t *testing.T, servers, senders int) (entries int, longest time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		close(s.gate)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		lanes := make([]*appender, servers)
		for i := range lanes {
			lanes[i] = newTestAppender(s)
			defer lanes[i].close()
		}
		waits := make([]time.Duration, senders)
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					began := time.Now()
					o := newTold()
					o.send(lanes[i%servers], room, fmt.Sprint(i, "-", n), 10)
					if code := <-o.codes; code != "" {
						t.Errorf("sender %d was refused: %q", i, code)
					}
					waits[i] = max(waits[i], time.Since(began))
				}
			})
		}
		sending.Wait()
		entries, longest = len(s.rows), slices.Max(waits)
	})
	return entries, longest
}
