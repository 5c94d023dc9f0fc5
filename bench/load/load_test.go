package load

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// TestScenarios carries each scenario out, for a moment, against a real server,
// and those that make a difference there against three.
func TestScenarios(t *testing.T) {
	o := allspark.Options{Builder: &allspark.Builder{Dir: t.TempDir()}}
	run := func(t *testing.T, s Scenario, target peer.Target) {
		loop, err := wire.NewLoop(1)
		if err != nil {
			t.Fatal(err)
		}
		defer loop.Close()
		done := 0.0
		res := s.Run(t.Context(), Options{
			Target: target, Env: peer.Env{Dir: t.TempDir(), Loop: loop}, Settle: 10 * time.Second,
			Progress: func(now float64) { done = max(done, now) },
		})
		t.Logf("%+v", res.Figures)
		if !res.Counts() || !res.Good() {
			t.Fatalf("%s %s %+v", res.Skipped, res.Failed, res.Verdict)
		}
		if s.Name != "herd" && (res.Sent == 0 || res.Received != res.Sent) {
			t.Errorf("%+v", res.Verdict)
		}
		if done == 0 {
			t.Error("no progress")
		}
		for _, f := range res.Figures {
			if f.Value < 0 {
				t.Errorf("%s: %v %s", f.Name, f.Value, f.Unit)
			}
		}
	}
	for _, s := range Scenarios(true) {
		t.Run(s.Name, func(t *testing.T) { run(t, s, allspark.One(o)) })
		switch s.Name {
		case "mesh", "group", "mixed":
			t.Run(s.Name+"-3", func(t *testing.T) { run(t, s, allspark.Three(o)) })
		}
	}
}
