package scenario

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the longest latency told apart; longer ones count as this.
const maxLatency = 10 * time.Minute

// histogram collects durations, to three digits. It is safe for concurrent use.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newHistogram() *histogram {
	return &histogram{h: hdrhistogram.New(1, maxLatency.Microseconds(), 3)}
}

func (h *histogram) record(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Within the bounds recording cannot fail.
	_ = h.h.RecordValue(min(max(d, 0), maxLatency).Microseconds())
}

// Latency is the percentiles of a latency, in microseconds.
type Latency struct {
	P50  int64 `json:"p50_us"`
	P90  int64 `json:"p90_us"`
	P99  int64 `json:"p99_us"`
	P999 int64 `json:"p999_us"`
	Max  int64 `json:"max_us"`
}

func (h *histogram) latency() Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.h.ValueAtPercentile
	return Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: h.h.Max()}
}
