package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/allsparkrt/allspark/bench/load"
	"github.com/allsparkrt/allspark/bench/report"
)

// parse reads a command line.
func parse[T any](t *testing.T, args ...string) *T {
	t.Helper()
	cmd := new(T)
	k, err := kong.New(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestMain is the program when a test starts it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestWorkers has connections to servers that know nothing of one another opened by
// other processes.
func TestWorkers(t *testing.T) {
	cmd := parse[runCmd](
		t, "--quick", "--rounds=1", "--scenario=p2p-100,idle-50k", "--target=allspark,ws-relay", "--workers=2", "--apart=2",
		"--json="+filepath.Join(t.TempDir(), "r.json"),
	)
	var out bytes.Buffer
	if err := cmd.Run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	r, err := report.Read(cmd.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.Results {
		if !res.Counts() || res.Sent == 0 || res.Received != res.Sent {
			t.Errorf("%+v", res)
		}
		want := 2
		if res.Scenario == "p2p-100" { // is not about the number of connections
			want = 1
		}
		if res.Target.Can.Servers != want {
			t.Errorf("%s %s: %d servers", res.Scenario, res.Target.Name, res.Target.Can.Servers)
		}
	}
}

// TestRun drives a real server and a floor in turn, and shows the results in
// every way.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	var out bytes.Buffer
	cmd := parse[runCmd](
		t, "--quick", "--rounds=2", "--scenario=p2p-100,durable-16", "--target=allspark,tcp-relay", "--dir="+dir,
		"--json="+file("r.json"), "--html="+file("r.html"), "--benchfmt="+file("r.txt"),
	)
	if err := cmd.Run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	r, err := report.Read(file("r.json"))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, res := range r.Results {
		order = append(order, res.Scenario+" "+res.Target.Name)
		if !res.Counts() || res.Sent == 0 || res.Received != res.Sent || len(res.Samples) == 0 && res.Scenario == "p2p-100" {
			t.Errorf("%+v", res)
		}
		if _, ok := res.Figure(load.ServerCPU); !ok {
			t.Errorf("%s: no CPU time", order[len(order)-1])
		}
		if _, ok := res.Figure(load.HostSteal); !ok && runtime.GOOS == "linux" {
			t.Errorf("%s: nothing is known of the host", order[len(order)-1])
		}
	}
	want := "p2p-100 allspark, p2p-100 tcp-relay, durable-16 allspark, durable-16 tcp-relay, " +
		"p2p-100 tcp-relay, p2p-100 allspark, durable-16 tcp-relay, durable-16 allspark"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("ran %s", got)
	}

	var again bytes.Buffer
	shown := parse[reportCmd](t, file("r.json"), "--html="+file("again.html"))
	if err := shown.Run(&again); err != nil {
		t.Fatal(err)
	}
	if again.String() != out.String() {
		t.Errorf("shown again it is\n%s, not\n%s", &again, &out)
	}
	for name, want := range map[string]string{"r.html": "<svg", "again.html": "<svg", "r.txt": "BenchmarkP2p100/target=allspark"} {
		text, err := os.ReadFile(file(name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: no %q, %v", name, want, err)
		}
	}
	left, err := filepath.Glob(file("bench-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestMaxSteal(t *testing.T) {
	const off, failed, lost, unknown = 0, -1, -2, -3
	busy := slices.Repeat([]float64{50}, 2*maxRepeats)
	for _, tt := range []struct {
		name      string
		most      float64
		stolen    []float64 // in one run after the other
		repeated  int
		disturbed bool
	}{
		{"more than allowed", 1, []float64{1.5, 50, 0.5, 0.5}, 2, false},
		{"as much as allowed", 1, []float64{1, 0}, 0, false},
		{"whatever it was", off, busy, 0, false},
		{"always more", 1, busy, maxRepeats, true},
		{"not known", 1, []float64{unknown, 0}, 0, false},
		{"failed", 1, []float64{failed, 0}, 0, false},
		{"something was lost", 1, []float64{50, lost, 0}, 1, false},
	} {
		runs := 0
		res, err := (&runCmd{MaxSteal: tt.most}).calm(t.Context(), func() (res load.Result, err error) {
			stolen := tt.stolen[runs]
			runs++
			switch stolen {
			case unknown:
				return res, nil
			case failed:
				res.Failed, stolen = "it ended", 50
			case lost:
				res.Lost, stolen = 1, 50
			}
			res.Figures = []load.Figure{{Name: load.HostSteal, Unit: "%", Value: stolen}}
			return res, nil
		})
		if err != nil || runs != tt.repeated+1 || res.Repeated != tt.repeated || res.Disturbed != tt.disturbed {
			t.Errorf("%s: %d runs, %+v, %v", tt.name, runs, res, err)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for _, args := range [][]string{{"--target=nobody"}, {"--scenario=nothing"}} {
		if err := parse[runCmd](t, args...).Run(t.Context(), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "none of") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestList(t *testing.T) {
	var out bytes.Buffer
	if err := (listCmd{}).Run(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p2p-100", "idle-50k", "mixed", "allspark-mongo", "tcp-relay"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}
