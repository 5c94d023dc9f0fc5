package node

import (
	"context"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// looped is a client's end in memory for which no goroutine waits, as on the
// event loop: the test is the loop.
type looped struct {
	*sink
	at    *server
	ready func(inline bool) bool
	next  []byte // the frame that is there; nil: none
}

func (l *looped) Read() ([]byte, error) {
	frame := l.next
	l.next = nil
	select {
	case <-l.gone:
		return nil, io.EOF
	default:
	}
	if frame == nil {
		return nil, gateway.ErrNothing
	}
	return frame, nil
}

func (l *looped) Watch(ready func(inline bool) bool) { l.ready = ready }
func (l *looped) Keep()                              {}
func (l *looped) Await() bool                        { return true }
func (l *looped) Queue(frame []byte) error           { return l.Write(frame) }
func (l *looped) Flush() (int, error)                { return 0, nil }
func (l *looped) Drain() (int, error)                { return 0, nil }
func (l *looped) Probe() (uint32, bool)              { return l.Heard(), true }
func (l *looped) Heard() uint32                      { return uint32(l.at.alarms.now()) }
func (l *looped) Close(envelope.Code, string)        { l.Abort() }

func (l *looped) Abort() {
	l.once.Do(func() {
		close(l.gone)
		if l.ready != nil {
			go l.ready(false)
		}
	})
}

var _ gateway.Waiter = (*looped)(nil)

// say has the server read a frame, and write what that brings.
func (l *looped) say(frame []byte) {
	l.at.Hold()
	l.next = frame
	l.ready(true)
	l.at.Release()
}

// serveLooped connects a device of a user until the test ends.
func (s *server) serveLooped(tb testing.TB, device, user string) *looped {
	l := &looped{sink: newSink(), at: s, next: []byte(`{"control":"hello"}`)}
	who := envelope.Principal{Node: envelope.NodeID(device), Client: envelope.ClientID(user)}
	s.Serve(context.Background(), who, l, native.NewCodec(false), gateway.Options{Hello: true})
	if l.ready == nil {
		tb.Fatal("the connection was refused")
	}
	tb.Cleanup(l.Abort)
	l.wait(2)
	return l
}

// relayed is a message to a user.
func relayed(id, class string) []byte {
	if id != "" {
		id = fmt.Sprintf(`"id":%q,`, id)
	}
	return fmt.Appendf(nil, `{%s"dest_client_id":"bob","class":%q,"payload":"a payload of some length, as people type it when they are not in a hurry"}`, id, class)
}

// What the way of a message through a server costs in allocations is pinned: who
// adds one finds out here. A volatile message takes two, one for what is kept of
// its frame and one for the frame that its readers get, however many they are.
func TestRelayAllocations(t *testing.T) {
	if underRace {
		t.Skip("memory that is used again is forgotten at random under the race detector")
	}
	const runs, tries = 100, 20 // what else a server does at times is not in all of them
	m := newMesh(t, 1, nil, false)
	defer m.close()
	alice := m.at("a").serveLooped(t, "alice", "alice")
	var readers []*looped
	for _, tt := range []struct {
		readers   int
		class, id string
		most      float64
	}{
		{1, "volatile", "", 2},
		{1, "volatile", "1", 2}, // and it is acknowledged
		{100, "volatile", "1", 2},
	} {
		for len(readers) < tt.readers {
			readers = append(readers, m.at("a").serveLooped(t, fmt.Sprint("bob", len(readers)), "bob"))
		}
		frame := relayed(tt.id, tt.class)
		before := readers[len(readers)-1].got.Load()
		got, tried := math.Inf(1), 0
		for ; tried < tries || got > tt.most && tried < 20*tries; tried++ {
			got = min(got, testing.AllocsPerRun(runs, func() { alice.say(frame) }))
			if tried >= tries {
				time.Sleep(10 * time.Millisecond) // routes are settled when their edges are no news any more
			}
		}
		if got > tt.most {
			t.Errorf("%s with id %q to %d readers: %v allocations, want at most %v", tt.class, tt.id, tt.readers, got, tt.most)
		}
		if got := readers[len(readers)-1].got.Load() - before; got != int64(tried*(runs+1)) { // once to warm up
			t.Errorf("%d messages came, want %d", got, tried*(runs+1))
		}
	}
}

// BenchmarkRelay takes a volatile message from its sender's frame to its reader's
// and the acknowledgement back, on one server and without a network.
func BenchmarkRelay(b *testing.B) {
	m := benchMesh(b, 1)
	alice := m.at("a").serveLooped(b, "alice", "alice")
	m.at("a").serveLooped(b, "bob", "bob")
	frame := relayed("1", "volatile")
	b.ReportAllocs()
	for b.Loop() {
		alice.say(frame)
	}
}
