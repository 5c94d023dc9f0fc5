package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/allsparkrt/allspark/bench/scenario"
)

// TestFanOut drives three real servers.
func TestFanOut(t *testing.T) {
	for _, inflight := range []string{"1", "8"} {
		var cmd fanOutCmd
		k, err := kong.New(&cmd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Parse([]string{"--target", "demo", "--members", "60", "--messages", "50", "--inflight", inflight, "--json"}); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := cmd.Run(t.Context(), &out); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		var rep scenario.Report
		if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
			t.Fatalf("%v in %s", err, &out)
		}
		want := scenario.Verdict{Sent: 3000, Taken: 3000, Received: 3000}
		if rep.Verdict != want || rep.Servers != 3 || rep.ToAll == nil || rep.ToAll.P50 <= 0 || rep.PerSecond <= 0 || rep.ServerCPU == nil {
			t.Errorf("inflight %s: %+v", inflight, rep)
		}
	}
}
