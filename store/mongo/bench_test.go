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
// three that contend for it, by 64 senders that each wait for their ack.
func BenchmarkLane(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("stores=%d", n), func(b *testing.B) {
			stores := openAll(b, n, mongo.Options{URI: mongotest.URI(b), Database: mongotest.Database(b), Timeout: 30 * time.Second})
			const senders = 64
			answers := make(chan error, senders)
			for range senders {
				answers <- nil
			}
			sent := 0
			for b.Loop() {
				if err := <-answers; err != nil {
					b.Fatal(err)
				}
				sent++
				src := envelope.NodeID(fmt.Sprint("sender", sent%senders))
				stores[sent%n].Append(room, message(src, strconv.Itoa(sent)), func(_ uint64, err error) { answers <- err })
			}
			for range senders {
				if err := <-answers; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "appends/s")
			var overtaken int64
			for _, s := range stores {
				overtaken += s.(*opened).Stats().Overtaken
			}
			b.ReportMetric(float64(overtaken)/float64(sent), "overtaken/op")
		})
	}
}
