package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/allsparkrt/allspark/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(t testing.TB) storetest.Store { return openIn(t, t.TempDir()) })
}

// BenchmarkFloor is what the disk allows: 300-byte records appended to a bare
// file with one fdatasync for each batch.
func BenchmarkFloor(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("append/senders=%d", batch), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			record := make([]byte, 300)
			var waiting []byte
			n := 0
			for b.Loop() {
				n++
				waiting = append(waiting, record...)
				if n%batch > 0 {
					continue
				}
				if _, err := f.Write(waiting); err != nil {
					b.Fatal(err)
				}
				if err := syscall.Fdatasync(int(f.Fd())); err != nil {
					b.Fatal(err)
				}
				waiting = waiting[:0]
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}
