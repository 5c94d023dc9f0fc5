package load

import (
	"math"
	"testing"
	"testing/quick"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/floor"
	"github.com/allsparkrt/allspark/bench/peer/remote"
)

func TestStamp(t *testing.T) {
	err := quick.Check(func(run, from, n uint32, due int64, size uint16) bool {
		want := stamp{run, from, n, due}
		body := want.appendBody(nil, int(size))
		got, ok := readStamp(body)
		return ok && got == want && len(body) == max(int(size), stampSize)
	}, nil)
	if err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "0123", "0000000g00000000000000000000000000000000", "00000000000000000000000000000000000000 0"} {
		if s, ok := readStamp([]byte(bad)); ok {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

// A server stands still for a second while a message is due each millisecond. In
// an open loop all that were due meanwhile are late, and the percentiles say so.
func TestStallIsSeenByAllItDelays(t *testing.T) {
	h := newHistogram()
	for k := range 10_000 {
		due, stall := time.Duration(k)*time.Millisecond, 2*time.Second
		at := due + time.Millisecond
		if due >= stall && due < stall+time.Second {
			at = stall + time.Second // it goes on
		}
		h.record(at - due)
	}
	l := h.latency()
	if l.Count != 10_000 || l.At(50) > 1.01 || l.At(95) < 490 || l.At(99) < 890 || l.At(100) < 999 {
		t.Errorf("%+v", l)
	}
}

func TestLatencyLeavesOutWhatCannotBeTold(t *testing.T) {
	h := newHistogram()
	if h.latency() != nil {
		t.Error("a distribution of nothing")
	}
	for i := range 100 {
		h.record(time.Duration(i+1) * time.Millisecond)
	}
	l := h.latency()
	for _, tt := range []struct{ percent, want float64 }{{10, 10}, {50, 50}, {99, 99}, {99.9, 100}, {100, 100}} {
		if got := l.At(tt.percent); math.Abs(got-tt.want) > tt.want/100 {
			t.Errorf("%v %%: %v, want %v", tt.percent, got, tt.want)
		}
	}
	for _, p := range l.Points {
		if p.Percent > 99 && p.Percent < 100 {
			t.Errorf("%v %% of 100 values", p.Percent)
		}
	}
}

func TestWhatIsMissing(t *testing.T) {
	s := Scenario{clients: 100, needs: durable}
	for _, tt := range []struct {
		can  peer.Can
		miss bool
	}{
		{peer.Can{Durable: true}, false},
		{peer.Can{Volatile: true}, true},
		{peer.Can{Durable: true, Connections: 99}, true},
		{peer.Can{Durable: true, Connections: 100}, false},
	} {
		if got := s.misses(tt.can); (got != "") != tt.miss {
			t.Errorf("%+v: %q", tt.can, got)
		}
	}
}

// Where a scenario has more connections than a process may, servers and the load are spread.
func TestArrangement(t *testing.T) {
	if descriptors() >= 1<<30 {
		t.Skip("a process may have any number of files here")
	}
	one, bare := allspark.One(allspark.Options{}), peer.Target(floor.NewDisk())
	few, many := 10, connections()+1
	for _, tt := range []struct {
		name             string
		scenario         Scenario
		options          Options
		servers, workers int // 0: it cannot be
	}{
		{"few", Scenario{clients: few, crowd: true}, Options{Target: one}, 1, 1},
		{"few, as if many", Scenario{clients: few, crowd: true}, Options{Target: one, Apart: 3, Workers: 2, Worker: []string{"x"}}, 3, 2},
		{"few, not about their number", Scenario{clients: few}, Options{Target: one, Apart: 3}, 1, 1},
		{"many", Scenario{clients: many, crowd: true}, Options{Target: one, Worker: []string{"x"}}, 2, 2},
		{"many, and no workers", Scenario{clients: many, crowd: true}, Options{Target: one}, 0, 0},
		{"many, not about their number", Scenario{clients: many}, Options{Target: one, Worker: []string{"x"}}, 0, 0},
		{"many, and nothing that can be shared", Scenario{clients: many, crowd: true}, Options{Target: bare, Worker: []string{"x"}}, 0, 0},
	} {
		tt.scenario.needs = durable
		target, why := tt.scenario.arrange(tt.options)
		if (why == "") != (tt.servers > 0) {
			t.Errorf("%s: %q", tt.name, why)
		}
		if why != "" {
			continue
		}
		workers := 1
		if r, ok := target.(*remote.Target); ok {
			workers = r.Number()
		}
		if servers := target.About().Can.Servers; servers != tt.servers || workers != tt.workers {
			t.Errorf("%s: %d servers, %d workers", tt.name, servers, workers)
		}
	}
}

func TestKindsOfAMixedDay(t *testing.T) {
	var n [kinds]int
	for k := range int64(1000) {
		n[kind(k)]++
	}
	if n != [kinds]int{signal: 300, letter: 400, post: 300} {
		t.Error(n)
	}
}

func TestSleepUntil(t *testing.T) {
	due := time.Now().Add(3 * time.Millisecond)
	sleepUntil(due)
	if time.Now().Before(due) {
		t.Error("too early")
	}
	sleepUntil(due) // over: at once
}
