package memory

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
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
	const size = 8 << 20
	kept := make([]byte, size+floor)
	debug.FreeOSMemory()
	after := w.read()
	if grown := after.allocated - before.allocated; grown < size {
		t.Errorf("%d bytes allocated, and %d seen", len(kept), grown)
	}
	if after.live < size {
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

// TestFloor: there may be more garbage, and that memory is not taken from the system.
// That can be seen in a process that has not had other memory before.
func TestFloor(t *testing.T) {
	const child = "ALLSPARK_TEST_FLOOR"
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestFloor$", "-test.v")
		c.Env = append(os.Environ(), child+"=1", "GOGC=100", "GOMEMLIMIT=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/live:bytes"}}
	garbage := func() uint64 {
		debug.FreeOSMemory()
		metrics.Read(goal)
		return goal[0].Value.Uint64() - goal[1].Value.Uint64()
	}
	kept := make([]byte, 8<<20) // else the least that Go allows counts, 4 MB
	before, held := garbage(), resident(t)
	defer Tend()()
	if more := garbage() - before; more < floor*9/10 || more > floor*11/10 {
		t.Errorf("%d bytes more of garbage", more)
	}
	if more := resident(t) - held; more > floor/2 {
		t.Errorf("%d bytes more are resident", more)
	}
	runtime.KeepAlive(kept)
}

// resident is how much memory the process has of the system, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this system does not tell: ", err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
