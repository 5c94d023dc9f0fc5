package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

// Bench measures durable appends of 300-byte messages by 1, 16 and 256
// senders, each to its own log and each waiting for its ack before the next,
// and reads of 100 entries.
func Bench(b *testing.B, open Open) {
	payload := strings.Repeat("x", 200)
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("append/senders=%d", senders), func(b *testing.B) {
			store := open(b)
			defer func() { _ = store.Close() }()
			logs := make([]envelope.Address, senders)
			idle := make(chan int, senders) // senders whose last message is acknowledged
			for i := range logs {
				logs[i] = sender(i).Address()
				idle <- i
			}
			failed := make(chan error, 1)
			n := 0
			for b.Loop() {
				i := <-idle
				n++
				store.Append(logs[i], message(alice, strconv.Itoa(n), payload), func(_ uint64, err error) {
					if err != nil {
						select {
						case failed <- err:
						default:
						}
					}
					idle <- i
				})
			}
			for range senders {
				<-idle
			}
			select {
			case err := <-failed:
				b.Fatal(err)
			default:
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "appends/s")
		})
	}
	b.Run("read/entries=100", func(b *testing.B) {
		store := open(b)
		defer func() { _ = store.Close() }()
		log := bob.Address()
		var last *call
		for i := range 200 {
			last = start(store, log, message(alice, strconv.Itoa(i), payload))
		}
		if _, err := last.wait(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			page, err := store.Read(b.Context(), log, 50, 100, 1<<20)
			if err != nil || len(page) != 100 {
				b.Fatal(len(page), err)
			}
		}
	})
}
