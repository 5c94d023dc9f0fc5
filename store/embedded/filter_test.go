package embedded

import (
	"math/rand/v2"
	"testing"
)

func TestFilter(t *testing.T) {
	const max = 1 << 20 // three layers, the last one smaller than it would be
	f := filter{max: max}
	in, out := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	n := 0
	for f.add(in.Uint64()) {
		n++
	}
	if want := max / blockBytes * blockIDs; n != want || f.bytes != max {
		t.Fatalf("%d ids in %d bytes, want %d in %d", n, f.bytes, want, max)
	}
	in = rand.New(rand.NewPCG(1, 2))
	for i := range n {
		if !f.has(in.Uint64()) {
			t.Fatalf("id %d is lost", i)
		}
	}
	mistaken := 0
	for range n {
		if f.has(out.Uint64()) {
			mistaken++
		}
	}
	if rate := float64(mistaken) / float64(n); rate > 0.005*float64(len(f.layers)) {
		t.Errorf("%.4f of the ids that are not there seem to be, in %d layers", rate, len(f.layers))
	}
}

func BenchmarkFilter(b *testing.B) {
	f := filter{max: 24 << 20}
	for f.add(rand.Uint64()) {
	}
	b.ResetTimer()
	for b.Loop() {
		f.has(rand.Uint64())
	}
}
