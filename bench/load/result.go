package load

import (
	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/peer"
)

// Result is what one run of one scenario against one target showed.
type Result struct {
	Scenario string     `json:"scenario"`
	Target   peer.About `json:"target"`
	Round    int        `json:"round"`

	Skipped string `json:"skipped,omitempty"` // why it did not run
	Failed  string `json:"failed,omitempty"`  // what went wrong; the rest does not count
	Note    string `json:"note,omitempty"`    // what was left out
	// Repeated is how many runs there were before, of which none counts because the
	// host had taken too much of the processors. Disturbed says that it did in this one.
	Repeated  int  `json:"repeated,omitempty"`
	Disturbed bool `json:"disturbed,omitempty"`

	ledger.Verdict
	Figures []Figure `json:"figures"`
	Latency *Latency `json:"latency,omitempty"` // from due, or from sending in a closed loop, to reception
	ToAck   *Latency `json:"to_ack,omitempty"`  // from sending to the server's word
	Samples []Sample `json:"samples"`           // of the server processes
}

// Counts reports whether the run is good for comparisons.
func (r *Result) Counts() bool { return r.Skipped == "" && r.Failed == "" }

// Figure is one number that a scenario shows.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	Better Better  `json:"better,omitempty"`
}

// Better says which way a figure should go.
type Better string

// The ways.
const (
	Less Better = "less"
	More Better = "more"
)

// The names of figures that others look for.
const (
	ServerCPU  = "server CPU"
	Throughput = "throughput"
	// HostSteal is how much of the processors' time, idle time included, the host of a
	// virtual machine gave to others while there was something to do, in percent.
	HostSteal = "host steal"
)

func (r *Result) figure(name, unit string, value float64, better Better) {
	r.Figures = append(r.Figures, Figure{name, unit, value, better})
}

// Figure returns the value of a figure, and false when there is none.
func (r *Result) Figure(name string) (Figure, bool) {
	for _, f := range r.Figures {
		if f.Name == name {
			return f, true
		}
	}
	return Figure{}, false
}

// Sample is what the server processes used at a moment.
type Sample struct {
	Seconds float64 `json:"s"`       // since the start of the run
	RSS     float64 `json:"rss_mb"`  // resident memory, 10^6 bytes
	CPU     float64 `json:"cpu_pct"` // of one core, since the sample before
}
