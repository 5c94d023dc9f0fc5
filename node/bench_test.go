package node

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// sink is a client's end in memory: it sends what it is given and counts what
// it gets.
type sink struct {
	in   chan []byte
	got  atomic.Int64
	more chan struct{} // a token after each frame
	once sync.Once
	gone chan struct{}
}

func newSink() *sink {
	return &sink{in: make(chan []byte, 64), more: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (s *sink) Read() ([]byte, error) {
	select {
	case f := <-s.in:
		return f, nil
	case <-s.gone:
		return nil, io.EOF
	}
}

func (s *sink) Write([]byte) error {
	s.got.Add(1)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}
func (s *sink) Ping(context.Context) error  { return nil }
func (s *sink) Close(envelope.Code, string) { s.Abort() }
func (s *sink) Abort()                      { s.once.Do(func() { close(s.gone) }) }

// wait waits until n frames came.
func (s *sink) wait(n int64) {
	for s.got.Load() < n {
		<-s.more
	}
}

// serveSink serves a device at a server until the benchmark ends.
func (s *server) serveSink(b *testing.B, id string) *sink {
	k := newSink()
	var done sync.WaitGroup
	done.Go(func() {
		s.Serve(context.Background(), envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}, k, native.NewCodec(false), gateway.Options{Hello: true})
	})
	b.Cleanup(func() { k.Abort(); done.Wait() })
	k.in <- []byte(`{"control":"hello"}`)
	k.wait(2)
	return k
}

// benchMesh is a mesh in real time; its networks are in memory.
func benchMesh(b *testing.B, n int) *mesh {
	m := newMesh(b, n, nil, false)
	b.Cleanup(m.close)
	return m
}

// BenchmarkSend takes one message from a sender's frame to its reader's, and
// the acknowledgement back.
func BenchmarkSend(b *testing.B) {
	for _, class := range []string{"volatile", "durable"} {
		for _, to := range []string{"same server", "peer"} {
			b.Run(class+"/"+to, func(b *testing.B) {
				m := benchMesh(b, 2)
				at := map[string]string{"same server": "a", "peer": "b"}[to]
				alice, bob := m.at("a").serveSink(b, "alice"), m.at(at).serveSink(b, "bob")
				b.ReportAllocs()
				acks, msgs := alice.got.Load(), bob.got.Load()
				for i := 0; b.Loop(); i++ {
					alice.in <- fmt.Appendf(nil, `{"id":"%d","dest_id":"bob","class":"%s","payload":"a payload of some length, as people type"}`, i, class)
					acks, msgs = acks+1, msgs+1
					alice.wait(acks)
					bob.wait(msgs)
				}
			})
		}
	}
}

// BenchmarkFanOut hands one message to many readers of an address.
func BenchmarkFanOut(b *testing.B) {
	const readers = 1000
	m := benchMesh(b, 1)
	var sinks []*sink
	for i := range readers {
		s := newSink()
		var done sync.WaitGroup
		done.Go(func() {
			m.at("a").Serve(context.Background(), envelope.Principal{Node: envelope.NodeID(fmt.Sprint("d", i)), Client: "bob"}, s, native.NewCodec(false), gateway.Options{Hello: true})
		})
		b.Cleanup(func() { s.Abort(); done.Wait() })
		s.in <- []byte(`{"control":"hello"}`)
		sinks = append(sinks, s)
	}
	for _, s := range sinks {
		s.wait(2)
	}
	alice := m.at("a").serveSink(b, "alice")
	b.ReportAllocs()
	acks, want := alice.got.Load(), int64(2)
	for i := 0; b.Loop(); i++ {
		alice.in <- fmt.Appendf(nil, `{"id":"%d","dest_client_id":"bob","class":"volatile","payload":"hi"}`, i)
		acks, want = acks+1, want+1
		alice.wait(acks)
		for _, s := range sinks {
			s.wait(want)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/readers, "ns/reader")
}
