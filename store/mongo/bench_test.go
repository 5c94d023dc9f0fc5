package mongo_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
	"github.com/allsparkrt/allspark/store/mongo"
	"github.com/allsparkrt/allspark/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Bench(b, openNew, nil) }

// BenchmarkLane measures appends to one log through one store and through
// three that contend for it, by 64 senders that each wait for their ack, and
// the longest wait of any.
func BenchmarkLane(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("stores=%d", n), func(b *testing.B) {
			stores := openAll(b, n, mongo.Options{URI: mongotest.URI(b), Database: mongotest.Database(b), Timeout: 30 * time.Second})
			const senders = 64
			type answer struct {
				sender int
				took   time.Duration
				err    error
			}
			answers := make(chan answer, senders)
			for i := range senders {
				answers <- answer{sender: i}
			}
			sent := 0
			longest := time.Duration(0)
			wait := func() int {
				a := <-answers
				if a.err != nil {
					b.Fatal(a.err)
				}
				longest = max(longest, a.took)
				return a.sender
			}
			for b.Loop() {
				i := wait()
				sent++
				began := time.Now()
				env := message(envelope.NodeID(fmt.Sprint("sender", i)), strconv.Itoa(sent))
				stores[i%n].Append(room, env, func(_ uint64, err error) { answers <- answer{i, time.Since(began), err} })
			}
			for range senders {
				wait()
			}
			if x, err := stores[0].Extent(b.Context(), room); err != nil || x.Head != uint64(sent) {
				b.Errorf("%d entries were sent, the extent is %+v, %v", sent, x, err)
			}
			b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "appends/s")
			var overtaken int64
			for _, s := range stores {
				overtaken += s.(*opened).Stats().Overtaken
			}
			b.ReportMetric(float64(overtaken)/float64(sent), "overtaken/op")
		})
	}
}
