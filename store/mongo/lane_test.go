package mongo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

var room = envelope.SessionID("room").Address()

func newTestAppender(t table) *appender { return newLanes(t, Options{Timeout: 2 * time.Second}) }

// newLanes returns an appender whose probes are answered as reads of t are.
func newLanes(t table, o Options) *appender {
	o = o.withDefaults()
	writes := newBreaker("writes", o, func(ctx context.Context) error {
		_, err := t.tip(ctx, "probe")
		return err
	})
	return newAppender(t, writes, o)
}

// device sends numbered messages without waiting for each. When one is refused
// it stops, and starts again from there, perhaps at another server.
type device struct {
	id     envelope.NodeID
	total  int
	window int // how many it sends without an answer
	acks   []uint64
}

type answer struct {
	n   int
	seq uint64
	err error
}

func (d *device) run(servers []*appender, random *rand.Rand) error {
	for len(d.acks) < d.total {
		server := servers[random.IntN(len(servers))]
		first, sent := len(d.acks), 0
		answers := make(chan answer, d.total)
		var mu sync.Mutex // no message is handed over while a refusal is being heard
		refused := false
		for n := first; n < d.total && sent < d.window; n++ {
			env := &envelope.Envelope{ID: fmt.Sprint(n), SrcNode: d.id}
			e := newEntry(env, func(seq uint64, err error) {
				mu.Lock()
				refused = refused || err != nil
				mu.Unlock()
				answers <- answer{n, seq, err}
			})
			mu.Lock()
			stop := refused
			if !stop {
				server.append(room, e)
			}
			mu.Unlock()
			if stop {
				break
			}
			sent++
			if random.IntN(3) == 0 {
				_ = sleep(context.Background(), time.Duration(random.Int64N(int64(20*time.Millisecond))))
			}
		}
		if err := d.collect(first, sent, answers); err != nil {
			return err
		}
	}
	return nil
}

// collect takes the answers to messages that were sent one after the other.
func (d *device) collect(first, sent int, answers <-chan answer) error {
	refused := false
	for n := first; n < first+sent; n++ {
		a := <-answers
		switch {
		case a.n != n:
			return fmt.Errorf("%s: answer for %d in place of %d", d.id, a.n, n)
		case a.err == nil && refused:
			return fmt.Errorf("%s: %d was stored after one before it was refused", d.id, a.n)
		case a.err == nil:
			d.acks = append(d.acks, a.seq)
		case envelope.CodeOf(a.err) == envelope.Quota && d.window == 1:
			_ = sleep(context.Background(), 10*time.Millisecond)
		case envelope.CodeOf(a.err) != envelope.Busy:
			return a.err
		default:
			refused = true
		}
	}
	return nil
}

// check compares what the device was told with what is there.
func (d *device) check(rows []clusterRow) error {
	n := 0
	for _, r := range rows {
		if !strings.HasPrefix(r.key, string(d.id)+"|") {
			continue
		}
		if want := fmt.Sprintf("%s|%d", d.id, n); r.key != want || n >= len(d.acks) {
			return fmt.Errorf("seq %d is %s, want %s of %d", r.seq, r.key, want, len(d.acks))
		}
		if d.acks[n] != r.seq {
			return fmt.Errorf("%s has seq %d and was acknowledged as %d", r.key, r.seq, d.acks[n])
		}
		n++
	}
	if n != d.total {
		return fmt.Errorf("%s has %d messages stored, want %d", d.id, n, d.total)
	}
	return nil
}

// TestLanesOnBrokenCluster lets three servers write one log in a replica set
// that misbehaves in every way it may.
func TestLanesOnBrokenCluster(t *testing.T) {
	var sum Stats
	for seed := range uint64(150) {
		breakLanes(t, seed, 10, inbox.Quota{}, &sum)
	}
	t.Logf("%+v", sum)
	if sum.Away == 0 || sum.Overtaken == 0 || sum.Unknown == 0 {
		t.Errorf("the faults were too few: %+v", sum)
	}
}

// TestQuotaOnBrokenCluster does the same with a log that is trimmed while it
// is written and may not grow beyond a few entries.
func TestQuotaOnBrokenCluster(t *testing.T) {
	var sum Stats
	for seed := range uint64(25) {
		breakLanes(t, seed, 1, inbox.Quota{Entries: 5}, &sum)
		breakLanes(t, seed, 1, inbox.Quota{Bytes: 1100}, &sum)
	}
	t.Logf("%+v", sum)
	if sum.Quota == 0 || sum.Overtaken == 0 || sum.Unknown == 0 {
		t.Errorf("the faults were too few: %+v", sum)
	}
}

func breakLanes(t *testing.T, seed uint64, window int, quota inbox.Quota, sum *Stats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{faults: true, quota: quota, random: rand.New(rand.NewPCG(seed, 1))}
		servers := make([]*appender, 3)
		for i := range servers {
			servers[i] = newLanes(c, Options{Timeout: 2 * time.Second, Quotas: inbox.Quotas{room.Kind: quota}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var trimming sync.WaitGroup
		trimming.Go(func() {
			for sleep(ctx, 50*time.Millisecond) == nil {
				c.trim()
			}
		})
		devices := make([]*device, 6)
		var running sync.WaitGroup
		for i := range devices {
			d := &device{id: envelope.NodeID(fmt.Sprint("d", i)), total: 20, window: window}
			devices[i] = d
			random := rand.New(rand.NewPCG(seed, uint64(i)+2))
			running.Go(func() {
				if err := d.run(servers, random); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			})
		}
		running.Wait()
		cancel()
		trimming.Wait()
		for _, s := range servers {
			s.close()
			s.writes.close()
			stats := s.stats.read()
			sum.Quota += stats.Quota
			sum.Away += stats.Away
			sum.Overtaken += stats.Overtaken
			sum.Unknown += stats.Unknown
			if s.bytes != 0 || len(s.lanes) != 0 {
				t.Errorf("seed %d: %d bytes and %d lanes are left", seed, s.bytes, len(s.lanes))
			}
		}
		// Whatever is carried out late has been by then.
		_ = sleep(t.Context(), time.Minute)
		if c.broken != nil {
			t.Errorf("seed %d: %v", seed, c.broken)
		}
		for _, d := range devices {
			if err := d.check(c.rows); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	})
}
