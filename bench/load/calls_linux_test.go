package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/process"
)

// TestSystemCalls pins how often the server reads and writes for what it
// delivers, which is most of what a message costs, and how often it has to be woken up. The
// kernel counts, and how fast the machine is makes no difference: either one message is
// there at a time, or all are there at once, because the server stands still while they
// are sent.
func TestSystemCalls(t *testing.T) {
	const followers, burst, rounds = 20, 16, 100
	s := newCounted(t)
	for _, tt := range []struct {
		name      string
		durable   bool
		receivers int     // 1: a user; more: who follows a topic
		burst     int     // messages there at once; 1: one at a time
		calls     float64 // at most, for each delivery
		wakeups   float64 // the same; 0: standing still adds as many
	}{
		// It reads what has come and writes.
		{name: "to-a-user", receivers: 1, burst: 1, calls: 3, wakeups: 5},
		{name: "to-a-user-many-at-once", receivers: 1, burst: burst, calls: 0.4},
		{name: "to-a-topic", receivers: followers, burst: 1, calls: 1.5, wakeups: 0.5},
		{name: "to-a-topic-many-at-once", receivers: followers, burst: burst, calls: 0.2},
		// It reads, writes to the disk, answers, delivers.
		{name: "durable", durable: true, receivers: 1, burst: 1, calls: 6, wakeups: 30},
		{name: "durable-many-at-once", durable: true, receivers: 1, burst: burst, calls: 0.6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topic := tt.receivers > 1
			deliveries, answers := int64(tt.burst*tt.receivers), int64(0)
			if tt.durable {
				answers = int64(tt.burst)
			}
			for i := range tt.receivers {
				s.connect(t, tt.name, fmt.Sprintf("%s-%d", tt.name, i), tt.durable)
			}
			speaker := s.connect(t, tt.name, tt.name+"-speaker", tt.durable)
			round := func() {
				if tt.burst > 1 {
					s.freeze(t)
				}
				for range tt.burst {
					s.tag++
					m := peer.Message{Body: stamp{n: uint32(s.tag)}.appendBody(nil, bodySize), Durable: tt.durable}
					if tt.durable {
						m.Tag = s.tag
					}
					send, to := speaker.Send, tt.name+"-0"
					if topic {
						send, to = speaker.Publish, tt.name
					}
					if err := send(to, m); err != nil {
						t.Fatal(err)
					}
				}
				if tt.burst > 1 {
					s.signal(t, syscall.SIGCONT)
				}
				s.await(t, deliveries, answers)
			}
			round() // what is made once is made
			before := s.used(t)
			for range rounds {
				round()
			}
			after := s.used(t)
			per := float64(rounds * tt.burst * tt.receivers)
			calls, wakeups := float64(after.calls-before.calls)/per, float64(after.wakeups-before.wakeups)/per
			t.Logf("for each delivery %.2f reads and writes, %.2f wake-ups", calls, wakeups)
			if calls > tt.calls {
				t.Errorf("%.2f reads and writes for each delivery, at most %.2f", calls, tt.calls)
			}
			if tt.wakeups > 0 && wakeups > tt.wakeups {
				t.Errorf("%.2f wake-ups for each delivery, at most %.2f", wakeups, tt.wakeups)
			}
		})
	}
}

// counted is a server whose system calls are counted.
type counted struct {
	target *allspark.Target
	pid    int
	tag    uint64

	received, accepted atomic.Int64
	changed            chan struct{}
}

func newCounted(t *testing.T) *counted {
	loop, err := wire.NewLoop(1)
	if err != nil {
		t.Fatal(err)
	}
	target := allspark.One(allspark.Options{Builder: &allspark.Builder{Dir: t.TempDir()}})
	if err := target.Start(t.Context(), peer.Env{Dir: t.TempDir(), Loop: loop}); err != nil {
		t.Fatal(errors.Join(err, loop.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(target.Stop(), loop.Close()); err != nil {
			t.Error(err)
		}
	})
	return &counted{target: target, pid: target.PIDs()[0], changed: make(chan struct{}, 1)}
}

// counts are of the server, up to a moment.
type counts struct{ calls, wakeups int64 }

func (s *counted) used(t *testing.T) (c counts) {
	t.Helper()
	calls, err1 := process.Calls(s.pid)
	wakeups, err2 := process.Wakeups(s.pid)
	if err := errors.Join(err1, err2); err != nil {
		t.Skip(err) // the kernel does not say
	}
	return counts{calls, wakeups}
}

func (s *counted) connect(t *testing.T, topic, name string, durable bool) peer.Client {
	count := func(n *atomic.Int64) {
		n.Add(1)
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := s.target.Connect(ctx, peer.User{Name: name, Durable: durable, Topics: []string{topic}}, peer.Handler{
		Message:  func([]byte) { count(&s.received) },
		Accepted: func(uint64) { count(&s.accepted) },
		Refused:  func(_ uint64, reason string) { t.Errorf("refused: %s", reason) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// await waits for so many deliveries and answers, and begins to count anew.
func (s *counted) await(t *testing.T, deliveries, answers int64) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for s.received.Load() < deliveries || s.accepted.Load() < answers {
		select {
		case <-s.changed:
		case <-limit:
			t.Fatalf("%d of %d deliveries, %d of %d answers", s.received.Load(), deliveries, s.accepted.Load(), answers)
		}
	}
	s.received.Store(0)
	s.accepted.Store(0)
}

// freeze has the server stand still: no thread of it runs any more.
func (s *counted) freeze(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); runtime.Gosched() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stat, []byte(") T ")) {
			return
		}
	}
	t.Fatal("the server does not stop")
}

func (s *counted) signal(t *testing.T, what syscall.Signal) {
	t.Helper()
	p, err := os.FindProcess(s.pid)
	if err == nil {
		err = p.Signal(what)
	}
	if err != nil {
		t.Fatal(err)
	}
}
