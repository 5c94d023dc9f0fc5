package load

import (
	"context"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/bench/process"
)

// sampleEvery is how often memory and CPU time are looked at: often enough for a
// plot, and ten steps of the kernel's clock for CPU times.
const sampleEvery = 100 * time.Millisecond

// meter looks at what processes use.
type meter struct {
	pids    []int // of servers
	clients []int // of the load
	start   time.Time

	mu      sync.Mutex
	samples []Sample
}

// reading is what was used up to a moment.
type reading struct {
	at     time.Time
	server process.Usage
	client time.Duration
}

func (m *meter) read() (r reading, err error) {
	r.at = time.Now()
	if r.server, err = process.Used(m.pids...); err != nil {
		return r, err
	}
	own, err := process.Used(m.clients...)
	r.client = own.CPU
	return r, err
}

// run takes samples until ctx ends. A process that is gone ends it, too: the
// scenario will say so.
func (m *meter) run(ctx context.Context) {
	if len(m.pids) == 0 {
		return
	}
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	last, err := m.read()
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var now reading
		if now, err = m.read(); err != nil {
			return
		}
		m.mu.Lock()
		m.samples = append(m.samples, Sample{
			Seconds: now.at.Sub(m.start).Seconds(), RSS: float64(now.server.RSS) / 1e6,
			CPU: 100 * float64(now.server.CPU-last.server.CPU) / float64(now.at.Sub(last.at)),
		})
		m.mu.Unlock()
		last = now
	}
}

func (m *meter) taken() []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.samples
}

// peak returns the highest resident memory of all samples, in MB.
func peak(samples []Sample) (most float64) {
	for _, s := range samples {
		most = max(most, s.RSS)
	}
	return most
}

// steal returns what tells how much of the processors' time the host of a virtual
// machine has given to others since, in percent; false where that is not known.
func steal() func() (percent float64, known bool) {
	before, err := process.MachineTimes()
	return func() (float64, bool) {
		after, failed := process.MachineTimes()
		if err != nil || failed != nil || after.All <= before.All {
			return 0, false
		}
		return 100 * float64(max(0, after.Stolen-before.Stolen)) / float64(after.All-before.All), true
	}
}
