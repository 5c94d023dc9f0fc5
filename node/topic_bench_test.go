package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// BenchmarkTopic hands one message to ten thousand followers of a topic, on one
// server and spread over three. follow/s is how many came to follow it.
func BenchmarkTopic(b *testing.B) {
	const followers = 10_000
	for _, servers := range []int{1, 3} {
		b.Run(fmt.Sprint(servers, " servers"), func(b *testing.B) {
			m := benchMesh(b, servers)
			ids := m.ids()
			sinks := make([]*sink, followers)
			for i := range sinks {
				s := newSink()
				var done sync.WaitGroup
				done.Go(func() {
					who := envelope.Principal{Node: envelope.NodeID(fmt.Sprint("d", i)), Client: envelope.ClientID(fmt.Sprint("u", i))}
					m.at(ids[i%servers]).Serve(context.Background(), who, s, native.NewCodec(false), gateway.Options{Hello: true})
				})
				b.Cleanup(func() { s.Abort(); done.Wait() })
				s.in <- []byte(`{"control":"hello"}`)
				sinks[i] = s
			}
			for _, s := range sinks {
				s.wait(2)
			}
			began := time.Now()
			for _, s := range sinks {
				s.in <- []byte(`{"control":"subscribe","topics":["topic:news"]}`)
			}
			for _, s := range sinks {
				s.wait(3)
			}
			took := time.Since(began)
			b.ReportAllocs()
			want := int64(3)
			for b.Loop() {
				want++
				_, err := m.at("a").Do(b.Context(), envelope.Principal{Node: "app", Client: "app", App: true}, gateway.Send{Envelope: &envelope.Envelope{
					DestSession: "topic:news", Class: envelope.Volatile, Body: []byte(`"payload":"a value of some length, as prices are"`),
				}})
				if err != nil {
					b.Fatal(err)
				}
				for _, s := range sinks {
					s.wait(want)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/followers, "ns/delivery")
			b.ReportMetric(followers/took.Seconds(), "follow/s")
		})
	}
}

// BenchmarkManyTopics hands one message to a device that follows one topic, or
// a thousand others besides.
func BenchmarkManyTopics(b *testing.B) {
	for _, others := range []int{0, envelope.MaxTopics - 1} {
		b.Run(fmt.Sprint(others, " others"), func(b *testing.B) {
			m := benchMesh(b, 1)
			s := newSink()
			var done sync.WaitGroup
			done.Go(func() {
				m.at("a").Serve(context.Background(), envelope.Principal{Node: "d", Client: "u"}, s, native.NewCodec(false), gateway.Options{Hello: true})
			})
			b.Cleanup(func() { s.Abort(); done.Wait() })
			s.in <- []byte(`{"control":"hello"}`)
			s.wait(2)
			s.in <- []byte(`{"control":"subscribe","topics":["topic:news"]}`)
			s.wait(3)
			want := int64(3)
			for i := range others {
				want++
				s.in <- fmt.Appendf(nil, `{"control":"subscribe","topics":["topic:%d"]}`, i)
				s.wait(want)
			}
			for b.Loop() {
				want++
				_, err := m.at("a").Do(b.Context(), envelope.Principal{Node: "app", Client: "app", App: true}, gateway.Send{Envelope: &envelope.Envelope{
					DestSession: "topic:news", Class: envelope.Volatile, Body: []byte(`"payload":"a value"`),
				}})
				if err != nil {
					b.Fatal(err)
				}
				s.wait(want)
			}
		})
	}
}
