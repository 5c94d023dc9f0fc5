package load

import (
	"math"
	"testing"
	"testing/quick"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
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
	s.clients = descriptors()
	if s.clients >= 1<<30 {
		return
	}
	if s.misses(peer.Can{Durable: true}) == "" {
		t.Error("more connections than a process may have")
	}
	if why := s.misses(peer.Can{Durable: true, Processes: 2}); why != "" {
		t.Errorf("two servers: %s", why)
	}
	if n := s.processes(); n != 2 {
		t.Errorf("%d processes for the load", n)
	}
	islands := peer.Can{Durable: true, Processes: 2, Islands: true}
	if s.misses(islands) == "" {
		t.Error("servers that know nothing of one another, in a scenario that needs them to")
	}
	s.crowd = true
	if why := s.misses(islands); why != "" {
		t.Errorf("islands: %s", why)
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
