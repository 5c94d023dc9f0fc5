package scenario

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/allsparkrt/allspark/bench/ledger"
)

// Report is the result of a run.
type Report struct {
	Scenario string  `json:"scenario"`
	Class    string  `json:"class"`
	Servers  int     `json:"servers"` // set by the caller
	Target   string  `json:"target"`  // likewise
	Devices  int     `json:"devices"`
	Size     int     `json:"body_bytes"`
	Inflight int     `json:"inflight,omitempty"` // closed loop
	Rate     float64 `json:"rate,omitempty"`     // messages per second; open loop

	ledger.Verdict
	Reconnects int `json:"reconnects"`
	Gaps       int `json:"gaps"`

	Seconds   float64  `json:"seconds"` // to the last receipt
	PerSecond float64  `json:"received_per_second"`
	ServerCPU *float64 `json:"server_cpu_us_per_message,omitempty"` // user and system
	ToAck     Latency  `json:"send_to_ack"`
	ToReceive Latency  `json:"send_to_receive"`
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	loop := fmt.Sprintf("closed loop, %d unanswered per device", r.Inflight)
	switch {
	case r.Rate > 0:
		loop = fmt.Sprintf("open loop, %g/s, latencies from the moment due", r.Rate)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, %s, %d devices, %d server(s) (%s), %d-byte bodies, %s\n\n",
		r.Scenario, r.Class, r.Devices, r.Servers, r.Target, r.Size, loop)
	for _, row := range []struct {
		name string
		n    int
	}{
		{"sent", r.Sent},
		{"acknowledged", r.Taken},
		{"refused or unanswered", r.Refused},
		{"received", r.Received},
		{"lost", r.Lost},
		{"duplicated", r.Duplicated},
		{"out of order", r.OutOfOrder},
		{"never sent", r.Strange},
		{"reconnects", r.Reconnects},
		{"gaps", r.Gaps},
	} {
		fmt.Fprintf(t, "%s\t%d\n", row.name, row.n)
	}
	fmt.Fprintf(t, "throughput\t%.0f messages/s\n", r.PerSecond)
	if r.ServerCPU != nil {
		fmt.Fprintf(t, "server CPU\t%.1f µs per message\n", *r.ServerCPU)
	}
	fmt.Fprintf(t, "\nlatency, ms\tp50\tp90\tp99\tp99.9\tmax\n")
	type latencyRow struct {
		name string
		l    Latency
	}
	rows := []latencyRow{{"send to ack", r.ToAck}, {"send to receive", r.ToReceive}}
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", row.name,
			ms(row.l.P50), ms(row.l.P90), ms(row.l.P99), ms(row.l.P999), ms(row.l.Max))
	}
	return t.Flush()
}

func ms(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }
