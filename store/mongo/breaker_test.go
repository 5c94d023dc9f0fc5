package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// health is a database as far as a probe notices.
type health struct {
	away    atomic.Bool
	hangs   bool          // while away; else it refuses connections
	slow    time.Duration // to answer
	probes  atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // probes that ran at once
}

func (h *health) probe(ctx context.Context) error {
	h.probes.Add(1)
	h.most.Store(max(h.most.Load(), h.running.Add(1)))
	defer h.running.Add(-1)
	switch {
	case h.away.Load() && h.hangs:
		<-ctx.Done()
		return ctx.Err()
	case h.away.Load():
		return errLost
	}
	return sleep(ctx, h.slow)
}

func newTestBreaker(h *health, log *bytes.Buffer) *breaker {
	return newBreaker("calls", Options{Logger: slog.New(slog.NewTextHandler(log, nil))}.withDefaults(), h.probe)
}

func trip(b *breaker) {
	for range outage {
		b.failure(errLost)
	}
}

func TestBreakerOpensAndCloses(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("hangs=%v", hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &health{hangs: hangs}
				h.away.Store(true)
				var log bytes.Buffer
				b := newTestBreaker(h, &log)
				defer b.close()
				for range outage - 1 {
					b.failure(errLost)
				}
				if err := b.refusal(); err != nil {
					t.Fatalf("refused too early: %v", err)
				}
				b.failure(errLost)
				for range 100 { // what was on its way fails later
					b.failure(errLost)
				}
				if e := envelope.AsError(b.refusal()); e == nil || e.Code != envelope.Busy || e.RetryMS == 0 {
					t.Fatalf("refused with %+v", e)
				}
				_ = sleep(t.Context(), 3*time.Minute)
				if probes := h.probes.Load(); probes < 60 || probes > 400 {
					t.Errorf("%d probes in three minutes", probes)
				}
				if h.most.Load() != 1 {
					t.Errorf("%d probes at once", h.most.Load())
				}

				h.away.Store(false)
				back := time.Now()
				for b.refusal() != nil {
					_ = sleep(t.Context(), 10*time.Millisecond)
				}
				// A long probe that had just begun to hang.
				limit := 2 * time.Second
				if hangs {
					limit = b.patience + probePause
				}
				if took := time.Since(back); took > limit {
					t.Errorf("it took %v to notice that the database is back", took)
				}
				synctest.Wait()
				if n := strings.Count(log.String(), "\n"); n != 2 || b.outages.Load() != 1 {
					t.Errorf("%d outages; the log is\n%s", b.outages.Load(), &log)
				}
				if probes := h.probes.Load(); b.refusal() != nil || probes != h.probes.Load() {
					t.Error("it goes on after the database was found")
				}
			})
		})
	}
}

// TestBreakerStaysClosed holds that nothing is refused while the database
// works for some, or slowly.
func TestBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &health{}
		b := newTestBreaker(h, &log)
		defer b.close()
		for range 100 {
			b.failure(errLost)
			b.failure(errLost)
			b.success()
			if b.refusal() != nil {
				t.Fatal("refused while every third call succeeds")
			}
		}
		// Many time out together because of one stall that is over by now.
		trip(b)
		synctest.Wait()
		if b.refusal() != nil {
			t.Error("the first probe came late")
		}
		// A call that was on its way is as good as a probe.
		h.away.Store(true)
		trip(b)
		b.success()
		if b.refusal() != nil {
			t.Error("refused after a success")
		}
		// A slow database is a working one.
		h.away.Store(false)
		h.slow = 2 * probePatience
		trip(b)
		_ = sleep(t.Context(), 10*time.Second)
		if b.refusal() != nil {
			t.Error("a slow database was not found")
		}
	})
}

func TestBreakerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{hangs: true}
		h.away.Store(true)
		b := newTestBreaker(h, new(bytes.Buffer))
		trip(b)
		synctest.Wait()
		began := time.Now()
		b.close()
		trip(b)
		synctest.Wait()
		if time.Since(began) != 0 || h.running.Load() != 0 {
			t.Error("a probe outlives its breaker")
		}
	})
}

// TestLanesRefuseAtOnce holds that appends do not queue for a database that is
// away, and are stored again soon after it is back.
func TestLanesRefuseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStuck()
		a := newLanes(s, Options{})
		defer a.close()
		for i := range outage {
			o := newTold()
			o.send(a, envelope.NodeID(fmt.Sprint(i)).Address(), "first", 10)
			if code := <-o.codes; code != envelope.Busy {
				t.Fatalf("without a database an append ended in %q", code)
			}
		}
		began := time.Now()
		o := newTold()
		for i := range 100 {
			o.send(a, room, fmt.Sprint(i), 10)
			if code := <-o.codes; code != envelope.Busy {
				t.Fatalf("without a database an append ended in %q", code)
			}
			<-o.seqs
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("100 refusals took %v", took)
		}
		close(s.gate)
		began = time.Now()
		for stored := false; !stored; {
			_ = sleep(t.Context(), 10*time.Millisecond)
			o.send(a, room, "0", 10)
			stored = <-o.codes == ""
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stored again after %v", took)
		}
	})
}

func TestOutOfSpace(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"command", command(codeOutOfDiskSpace, "no space"), true},
		{"wrapped", fmt.Errorf("bulk: %w", command(codeOutOfDiskSpace, "")), true},
		{"Atlas", command(codeAtlas, "you are over your space quota, using 513 MB of 512 MB"), true},
		{"Atlas, another", command(codeAtlas, "user is not allowed to do action"), false},
		{"another command", command(10107, "not primary"), false},
		{"network", errors.New("connection reset"), false},
		{"none", nil, false},
	} {
		if got := outOfSpace(test.err); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
