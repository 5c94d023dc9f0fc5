package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the longest latency told apart; longer ones count as this.
const maxLatency = 10 * time.Minute

// Quantiles are at which a distribution is kept, in percent.
func Quantiles() []float64 {
	return []float64{10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999, 100}
}

// Latency is a distribution: how many, and the values in milliseconds at
// [Quantiles]. Quantiles that so few values cannot tell from the maximum are
// left out, but for the maximum itself.
type Latency struct {
	Count  int64   `json:"count"`
	Points []Point `json:"points"`
}

// Point is one point of a distribution.
type Point struct {
	Percent float64 `json:"percent"`
	MS      float64 `json:"ms"`
}

// At returns the value at a quantile, or at the next one above that is known; 0 without values.
func (l Latency) At(percent float64) float64 {
	for _, p := range l.Points {
		if p.Percent >= percent {
			return p.MS
		}
	}
	return 0
}

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
	_ = h.h.RecordValue(min(max(d, time.Microsecond), maxLatency).Microseconds())
}

func (h *histogram) latency() *Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &Latency{Count: h.h.TotalCount()}
	if l.Count == 0 {
		return nil
	}
	for _, q := range Quantiles() {
		if beyond := float64(l.Count) * (100 - q) / 100; q < 100 && beyond < 1 {
			continue
		}
		l.Points = append(l.Points, Point{q, float64(h.h.ValueAtPercentile(q)) / 1000})
	}
	return l
}
