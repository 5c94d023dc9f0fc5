// Package memory has Go collect garbage less often than it would in a small process, and
// give memory back to the system while a process has little to do.
//
// Go lets the heap grow to twice of what is in use (GOGC=100) before it looks for
// garbage, and keeps what it has found. So a server to which thousands have
// connected would hold half of its memory for nothing, for hours. A collection
// when the burst is over costs some milliseconds, and the memory is there for others.
//
// Nor does twice of very little make sense: a server that relays some thousand messages
// a second has so little in use that it would look for garbage each second, and each
// time hold up messages.
package memory

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// lookEvery is how often the process is looked at.
	lookEvery = time.Second
	// quietFor is how many looks in a row must find it quiet.
	quietFor = 2
	// quietShare and quietBytes are how much a quiet process may allocate from one
	// look to the next: a part of what is in use, and so much more.
	quietShare, quietBytes = 32, 256 << 10
	// worthShare and worthBytes are how much must have been allocated since
	// memory was given back, for it to be worth another time.
	worthShare, worthBytes = 4, 4 << 20
	// price bounds what it costs: after it has taken a time, nothing is given back
	// for so many times that.
	price = 200
	// leastPause is how long nothing is given back in any case.
	leastPause = 10 * time.Second
)

// floor is how much more garbage there may be than GOGC=100 allows, in bytes; which
// matters only as long as little is in use.
const floor = 8 << 20

// Tend keeps a floor below the collections and gives memory back whenever the process
// has become quiet, until end is called, which waits for it. With GOGC=off it does
// nothing: the user decides. A process needs it once, early.
func Tend() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWatch()
	w.read()
	var ballast []byte
	if !w.off() {
		// Never touched, this takes no memory of the system's; but the collector counts
		// it as in use. Go has no setting for that.
		ballast = make([]byte, floor)
	}
	w.back = w.read()
	var giving sync.WaitGroup
	giving.Go(func() {
		w.giveBack(ctx)
		runtime.KeepAlive(ballast)
	})
	return func() { cancel(); giving.Wait() }
}

func (w *watch) giveBack(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := w.read()
		if !w.due(now, time.Since(began)) || w.off() {
			continue
		}
		from := time.Now()
		debug.FreeOSMemory()
		w.given(w.read(), time.Since(began), time.Since(from))
	}
}

// use is what the process does with its heap, in bytes.
type use struct {
	allocated uint64 // ever
	live      uint64 // what the last collection has found in use, beside the ballast
}

// watch decides when memory is given back.
type watch struct {
	samples []metrics.Sample

	last  use           // at the last look
	back  use           // when memory was given back, or at the beginning
	quiet int           // looks in a row
	pause time.Duration // nothing is given back before
}

func newWatch() *watch {
	return &watch{samples: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}}
}

// read looks at the process. It does not stop it.
func (w *watch) read() use {
	metrics.Read(w.samples)
	live := w.samples[1].Value.Uint64()
	return use{w.samples[0].Value.Uint64(), live - min(live, floor)}
}

// off reports whether the user wants no collections.
func (w *watch) off() bool { return w.samples[2].Value.Uint64() == math.MaxUint64 }

// due takes note of a look and reports whether memory is to be given back. What
// there can be of it is what was allocated since the last time.
func (w *watch) due(now use, at time.Duration) bool {
	if now.allocated-w.last.allocated <= now.live/quietShare+quietBytes {
		w.quiet++
	} else {
		w.quiet = 0
	}
	w.last = now
	return w.quiet >= quietFor && at >= w.pause && now.allocated-w.back.allocated > now.live/worthShare+worthBytes
}

// given takes note of how the process is when memory was given back, and of how
// long that took.
func (w *watch) given(now use, at, took time.Duration) {
	w.last, w.back = now, now
	w.pause = at + max(leastPause, price*took)
}
