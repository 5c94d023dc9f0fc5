package embedded

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/allsparkrt/allspark/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(t testing.TB) storetest.Store { return openIn(t, t.TempDir()) }, floor(b))
}

// floor appends to a bare file with one fdatasync for each batch.
func floor(b *testing.B) storetest.Floor {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return func(n, batch int) error {
		records := make([]byte, 300*batch)
		for range n / batch {
			if _, err := f.Write(records); err != nil {
				return err
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
		}
		return nil
	}
}
