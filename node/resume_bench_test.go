package node

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/session"
)

// visit connects a device, which says hello, and waits for so many frames. The
// device stays until the function returned is called.
func (s *server) visit(id string, t gateway.Transport, k *sink, frames int64) (leave func()) {
	var done sync.WaitGroup
	done.Go(func() {
		s.Serve(context.Background(), envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}, t, native.NewCodec(false), gateway.Options{Hello: true})
	})
	k.in <- []byte(`{"control":"hello"}`)
	k.wait(frames)
	return func() { k.Abort(); done.Wait() }
}

// fill appends so many messages to a log.
func (m *mesh) fill(log envelope.Address, n int) {
	m.t.Helper()
	var stored sync.WaitGroup
	room := make(chan struct{}, 256)
	for i := range n {
		e := to(log, fmt.Sprint("filled-", i), "a payload of some length, as people type")
		e.SrcNode, e.SrcClient, e.Timestamp = "filler", "filler", time.Now().UnixMilli()
		room <- struct{}{}
		stored.Add(1)
		m.store.Append(log, &e, func(_ uint64, err error) {
			if err != nil {
				m.t.Error(err)
			}
			<-room
			stored.Done()
		})
	}
	stored.Wait()
}

// calls counts the calls of a server's store by their names.
type calls struct {
	mu sync.Mutex
	of map[string]int // guarded by mu
}

func (s *server) counted() *calls {
	c := &calls{of: make(map[string]int)}
	s.store.set(func(f *faultyStore) {
		f.before = func(op string) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.of[op]++
			return nil
		}
	})
	return c
}

// take returns what has been counted since the last time.
func (c *calls) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of
	c.of = make(map[string]int)
	return of
}

// opening are the calls that the resume of a connection consists of; others
// belong to what a server does all the time.
var opening = []string{"put edges", "edges", "memberships", "cursors", "heads", "session", "member", "members", "read", "revisions", "extent"}

// follower makes a device a member of so many sessions, all of whose entries
// it has acknowledged.
func (m *mesh) follower(id envelope.NodeID, sessions int) []envelope.Address {
	m.t.Helper()
	s, ctx := m.at("a"), context.Background()
	owner, who := envelope.Principal{Node: "owner", Client: "owner"}, envelope.Principal{Node: id, Client: envelope.ClientID(id)}
	logs := make([]envelope.Address, sessions)
	var joined sync.WaitGroup
	for i := range logs {
		joined.Go(func() {
			name := roomID(fmt.Sprint("room", i))
			logs[i] = name.Address()
			if _, err := s.sessions.Create(ctx, owner, name, session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
				m.t.Error(err)
			}
			if _, err := s.sessions.Join(ctx, who, name, session.As{}); err != nil {
				m.t.Error(err)
			}
			s.inbox.Acknowledge(id, logs[i], 2)
		})
	}
	joined.Wait()
	if err := s.inbox.Flush(ctx); err != nil {
		m.t.Error(err)
	}
	return logs
}

// BenchmarkResume200 is the resume of a device that follows 200 sessions, from
// hello to caught_up, with news in none, some or all of them.
func BenchmarkResume200(b *testing.B) {
	for _, news := range []int{0, 10, 200} {
		b.Run(fmt.Sprint("news in ", news), func(b *testing.B) {
			m := benchMesh(b, 1)
			for _, log := range m.follower("bob", 200)[:news] {
				m.fill(log, 1)
			}
			a := m.at("a")
			counts := a.counted()
			total := 0
			b.ReportAllocs()
			for b.Loop() {
				counts.take()
				k := newSink()
				leave := a.visit("bob", k, k, int64(2+news))
				for op, n := range counts.take() {
					if slices.Contains(opening, op) {
						total += n
					}
				}
				b.StopTimer()
				leave()
				b.StartTimer()
			}
			b.ReportMetric(float64(total)/float64(b.N), "calls/op")
		})
	}
}

// The resume of a device that follows 200 sessions takes few calls of the
// store, and no more than that of one that follows 20.
func TestResumeCalls(t *testing.T) {
	cost := func(sessions int) (of map[string]int) {
		inMesh(t, 1, func(t *testing.T, m *mesh) {
			m.follower("bob", sessions)
			a := m.at("a")
			counts := a.counted()
			k := newSink()
			defer a.visit("bob", k, k, 2)()
			of = counts.take()
			maps.DeleteFunc(of, func(op string, _ int) bool { return !slices.Contains(opening, op) })
		})
		return of
	}
	few, many := cost(20), cost(200)
	if !maps.Equal(few, many) {
		t.Errorf("20 sessions take %v, 200 take %v", few, many)
	}
	total := 0
	for _, n := range many {
		total += n
	}
	if total > 8 {
		t.Errorf("200 sessions take %v", many)
	}
}

// BenchmarkReplay is the resume of a device for which 10,000 messages wait.
func BenchmarkReplay(b *testing.B) {
	const entries = 10_000
	m := benchMesh(b, 1)
	m.fill(deviceAddr("bob"), entries)
	b.ReportAllocs()
	for b.Loop() {
		k := newSink()
		m.at("a").visit("bob", k, k, entries+2)()
	}
	b.ReportMetric(float64(b.N)*entries/b.Elapsed().Seconds(), "entries/s")
}

// stalled is the end of a client that does not read: the first message stays
// on its way for ever.
type stalled struct {
	*sink
	controls int64 // frames that are taken before
}

func (s *stalled) Write(frame []byte) error {
	if s.got.Load() < s.controls {
		return s.sink.Write(frame)
	}
	<-s.gone
	return context.Canceled
}

// stall connects so many devices of one user that read nothing but the
// answer to their hello.
func (m *mesh) stall(n int) (leave func()) {
	var done sync.WaitGroup
	all := make([]*stalled, n)
	for i := range all {
		s := &stalled{sink: newSink(), controls: 2}
		all[i] = s
		who := envelope.Principal{Node: envelope.NodeID(fmt.Sprint("stalled", i)), Client: "crowd"}
		done.Go(func() {
			m.at("a").Serve(context.Background(), who, s, native.NewCodec(false), gateway.Options{Hello: true})
		})
		s.in <- []byte(`{"control":"hello"}`)
	}
	for _, s := range all {
		s.wait(2)
	}
	return func() {
		for _, s := range all {
			s.Abort()
		}
		done.Wait()
	}
}

func liveHeap() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what had finalizers
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc) / (1 << 20)
}

// BenchmarkStalledReaders sends messages of 1 KB to a user of whose devices
// 1,000 have stalled and one reads. What it holds in memory must not grow with
// the number of messages.
func BenchmarkStalledReaders(b *testing.B) {
	m := benchMesh(b, 1)
	b.Cleanup(m.stall(1000))
	fast := newSink()
	who := envelope.Principal{Node: "fast", Client: "crowd"}
	var done sync.WaitGroup
	done.Go(func() {
		m.at("a").Serve(context.Background(), who, fast, native.NewCodec(false), gateway.Options{Hello: true})
	})
	b.Cleanup(func() { fast.Abort(); done.Wait() })
	fast.in <- []byte(`{"control":"hello"}`)
	fast.wait(2)
	alice := m.at("a").serveSink(b, "alice")
	payload := make([]byte, 1<<10)
	for i := range payload {
		payload[i] = 'x'
	}
	got, acks, sent := fast.got.Load(), alice.got.Load(), 0
	send := func() {
		alice.in <- fmt.Appendf(nil, `{"id":"%d","dest_client_id":"crowd","payload":"%s"}`, sent, payload)
		sent, got, acks = sent+1, got+1, acks+1
		alice.wait(acks)
		fast.wait(got)
	}
	for range 2 * windowMessages { // until all windows are full
		send()
	}
	before := liveHeap()
	for b.Loop() {
		send()
	}
	b.ReportMetric(before, "MB-before")
	b.ReportMetric(liveHeap(), "MB-after")
	b.ReportMetric(float64(sent), "messages")
}
