package stack

import (
	"sync"
	"testing"
)

// BenchmarkDeep is goroutines that go down step by step, as they do through the
// layers of a program, with and without room made for it before.
func BenchmarkDeep(b *testing.B) {
	for name, first := range map[string]func(){"grown": func() {}, "reserved": Reserve} {
		b.Run(name, func(b *testing.B) {
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Go(func() {
					first()
					down(24)
				})
				wg.Wait()
			}
		})
	}
}

//go:noinline
func down(n int) byte {
	var frame [256]byte
	if n > 0 {
		frame[n] = down(n - 1)
	}
	return frame[n/2]
}
