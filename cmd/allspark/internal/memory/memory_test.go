package memory

import (
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestDue: memory is given back when a burst is over, not within it, not twice for
// the same, and not too often.
func TestDue(t *testing.T) {
	const mb = 1 << 20
	w := newWatch()
	now := use{live: 32 * mb}
	at := time.Duration(0)
	look := func(allocated uint64) bool {
		at += lookEvery
		now.allocated += allocated
		return w.due(now, at)
	}
	for range 10 {
		if look(50 * mb) {
			t.Fatal("given back within a burst")
		}
	}
	if look(0) {
		t.Fatal("given back at the first moment of peace")
	}
	if !look(mb) {
		t.Fatal("not given back after the burst")
	}
	w.given(now, at, 100*time.Millisecond)
	for range 20 {
		if look(100) {
			t.Fatal("given back although nothing was allocated since")
		}
	}
	w.given(now, at, 100*time.Millisecond)
	look(100 * mb)
	for passed := 2 * time.Second; passed <= 20*time.Second; passed += lookEvery {
		if due, want := look(0), passed >= 20*time.Second; due != want {
			t.Fatalf("%v after the last time, which took 100 ms: %v", passed, due)
		}
	}
}

// TestRead: what is read is what the process does.
func TestRead(t *testing.T) {
	w := newWatch()
	before := w.read()
	kept := make([]byte, 8<<20)
	debug.FreeOSMemory()
	after := w.read()
	if grown := after.allocated - before.allocated; grown < uint64(len(kept)) {
		t.Errorf("%d bytes allocated, and %d seen", len(kept), grown)
	}
	if after.live < uint64(len(kept)) {
		t.Errorf("%d bytes are in use, and %d seen", len(kept), after.live)
	}
	for _, s := range w.samples {
		if s.Value.Kind() != metrics.KindUint64 {
			t.Errorf("%s is not a number", s.Name)
		}
	}
	clear(kept)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if w.read(); !w.off() {
		t.Error("GOGC=off is not seen")
	}
}
