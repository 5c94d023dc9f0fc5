package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/load"
	"github.com/allsparkrt/allspark/bench/peer"
)

// result is one run with a CPU time and a median latency.
func result(scenario, target string, round int, cpu, p50 float64) load.Result {
	return load.Result{
		Scenario: scenario, Target: peer.About{Name: target, Title: "The " + target, Version: "1.2 <beta>", Settings: `"plain" & simple`}, Round: round,
		Verdict: ledger.Verdict{Sent: 1000, Taken: 1000, Received: 1000},
		Figures: []load.Figure{{Name: load.ServerCPU, Unit: "µs/message", Value: cpu, Better: load.Less}, {Name: "p50", Unit: "ms", Value: p50, Better: load.Less}},
		Latency: &load.Latency{Count: 1000, Points: []load.Point{{Percent: 10, MS: p50 / 2}, {Percent: 50, MS: p50}, {Percent: 99, MS: 3 * p50}, {Percent: 100, MS: 9 * p50}}},
		Samples: []load.Sample{{Seconds: 0.1, RSS: 10, CPU: 50}, {Seconds: 0.2, RSS: 12 * cpu, CPU: 70}},
	}
}

func sample() *Report {
	failed := load.Result{Scenario: "p2p", Target: peer.About{Name: "theirs", Title: "Theirs"}, Round: 3, Failed: "it ended"}
	skipped := load.Result{Scenario: "idle-10k", Target: peer.About{Name: "theirs", Title: "Theirs"}, Round: 1, Skipped: "it has no idle connections"}
	idle := result("idle-10k", "ours", 1, 44, 1)
	idle.Lost = 2
	return &Report{
		Started: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), Machine: Machine{CPU: "Abacus", Cores: 2, Memory: "4 GB", System: "linux/amd64 6.1", Go: "go1.26"},
		About: []About{{"p2p", "User to user", "Each to each.", ""}, {"idle-10k", "Idle", "Nothing.", ""}, {"never", "Never ran", "", ""}},
		Results: []load.Result{
			result("p2p", "ours", 1, 5, 0.4), result("p2p", "theirs", 1, 9, 0.5),
			result("p2p", "ours", 2, 4, 0.2), result("p2p", "theirs", 2, 11, 0.7),
			result("p2p", "ours", 3, 30, 0.3), failed,
			idle, skipped,
		},
	}
}

func TestTables(t *testing.T) {
	tables := sample().Tables()
	if len(tables) != 2 || len(tables[0].Rows) != 2 || len(tables[1].Rows) != 2 {
		t.Fatalf("%+v", tables)
	}
	ours, theirs := tables[0].Rows[0], tables[0].Rows[1]
	if want := (Spread{Median: 5, Min: 4, Max: 30}); ours.Figures[load.ServerCPU] != want || ours.Rounds != 3 {
		t.Errorf("%+v of %d", ours.Figures, ours.Rounds)
	}
	if want := (Spread{Median: 10, Min: 9, Max: 11}); theirs.Figures[load.ServerCPU] != want || theirs.Rounds != 2 || len(theirs.Failed) != 1 {
		t.Errorf("%+v of %d, %q", theirs.Figures, theirs.Rounds, theirs.Failed)
	}
	if ours.Verdict.Sent != 3000 || ours.Latency.At(50) != 0.3 || ours.Latency.At(100) != 2.7 && math.Abs(ours.Latency.At(100)-2.7) > 1e-9 {
		t.Errorf("%+v, %+v", ours.Verdict, ours.Latency)
	}
	if last := ours.Samples[1].RSS; last != 60 {
		t.Errorf("samples of the run with %v, not of that in the middle", last/12)
	}
	if tables[1].Rows[1].Skipped == "" || tables[1].Rows[1].Rounds != 0 {
		t.Errorf("%+v", tables[1].Rows[1])
	}
}

func TestCostAgainstSize(t *testing.T) {
	r := sample()
	r.About = append(r.About, About{"size-few", "Few", "", ""}, About{"size-many", "Many", "", "size-few"})
	r.Results = append(r.Results,
		result("size-few", "ours", 1, 10, 1), result("size-few", "theirs", 1, 10, 1),
		result("size-many", "ours", 1, 11, 1), result("size-many", "theirs", 1, 20, 1), result("size-many", "late", 1, 20, 1),
	)
	g := r.Growths()
	if len(g) != 1 || g[0].Name != "size-many" || len(g[0].Ratio) != 2 || g[0].Ratio["ours"] != 1.1 || g[0].Ratio["theirs"] != 2 {
		t.Fatalf("%+v", g)
	}
	var text, html bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteHTML(&html)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Cost against size", "ours       1.10", "theirs       2.00"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if !strings.Contains(html.String(), `<td class="best">1.10</td><td>2.00</td>`) {
		t.Error("the page does not say what hardly grows")
	}
	if len(sample().Growths()) > 0 {
		t.Error("a comparison of nothing")
	}
}

func TestRepeated(t *testing.T) {
	r := sample()
	r.Results[0].Repeated, r.Results[2].Repeated, r.Results[2].Disturbed = 1, 2, true
	var text, markdown, html bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteMarkdown(&markdown), r.WriteHTML(&html)); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{"ours: ": text.String(), "\nours: ": markdown.String(), "<li>The ours: ": html.String()} {
		if want := name + "runs repeated because the host took too much of the processors: 3; of those that count it took too much in 1"; !strings.Contains(in, want) {
			t.Errorf("no %q in\n%s", want, in)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{4, 1}, Spread{2.5, 1, 4}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
		{[]float64{4, 3, 2, 1}, Spread{2.5, 1, 4}},
	} {
		if got := spread(tt.in); got != tt.want {
			t.Errorf("%v: %v", tt.in, got)
		}
	}
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"User to user (p2p)", "5.00", "theirs failed: it ended", "theirs did not run: it has no idle connections", "2 lost"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteMarkdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### User to user (`p2p`)\n\n| target | rounds | server CPU, µs/message | p50, ms | ours against it, CPU |\n| --- | --- | --- | --- | --- |\n",
		"| ours | 3 | 5.00 | 0.300 |  |\n| theirs | 2 | 10.0 | 0.600 | 0.500 |\n", "ours: 2 lost.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		in   float64
		want string
	}{{0, "0"}, {0.01234, "0.012"}, {1.234, "1.23"}, {12.34, "12.3"}, {123.4, "123"}, {1234567, "1,234,567"}, {-1234, "-1,234"}, {999, "999"}} {
		if got := number(tt.in); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, got, tt.want)
		}
	}
}

// Lines as in golang.org/design/14313-benchmark-format.
var line = regexp.MustCompile(`^Benchmark[A-Z0-9]\S*\s+[0-9]+(\s+-?[0-9.]+(e[+-]?[0-9]+)? [^\s]+)+$`)

func TestBenchmarks(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteBenchmarks(&out); err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(out.String()))
	if len(lines) != 4+6 { // the failed and the skipped run have none
		t.Errorf("%d lines:\n%s", len(lines), &out)
	}
	for _, l := range lines[4:] {
		if !line.MatchString(strings.TrimSpace(l)) {
			t.Errorf("%q", l)
		}
	}
	if want := "BenchmarkP2p/target=ours \t    1000\t5 server-CPU-µs/message\t0.4 p50-ms\n"; lines[4] != want {
		t.Errorf("got  %q\nwant %q", lines[4], want)
	}
	if camel("fanout-10k-pipelined") != "Fanout10kPipelined" {
		t.Error(camel("fanout-10k-pipelined"))
	}
}

func TestJSONAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	want := sample()
	if err := want.WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\n%+v", err, got, want)
	}
	got.Add(&Report{About: []About{{Name: "p2p"}, {Name: "new"}}, Results: []load.Result{result("new", "ours", 1, 1, 1)}})
	if len(got.About) != 4 || len(got.Tables()) != 3 || got.Good() {
		t.Errorf("%+v, good %v", got.About, got.Good())
	}
}

// The page is well-formed and asks for nothing from outside.
func TestHTML(t *testing.T) {
	var out bytes.Buffer
	if err := sample().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, never := range []string{"http://", "https://", "ZgotmplZ", "NaN", "Inf", "<beta>"} {
		if strings.Contains(text, never) {
			t.Errorf("%q in the page", never)
		}
	}
	for _, want := range []string{"The ours", "1.2 &lt;beta&gt;", "× 2.00", "it ended", "Latency by percentile", "Resident memory", "<polyline"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	d := xml.NewDecoder(&out)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	svg := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "svg" {
			svg++
		}
	}
	if svg != 2*4 { // CPU, latencies, memory, CPU over time
		t.Errorf("%d plots", svg)
	}
}

func TestAxes(t *testing.T) {
	for _, tt := range []struct{ most, last float64 }{{0, 1}, {0.9, 1}, {1, 1}, {49, 50}, {70_000, 80_000}, {131, 150}} {
		s := steps(tt.most)
		if s[0] != 0 || s[len(s)-1] < tt.most || len(s) > 7 || math.Abs(s[len(s)-1]-tt.last) > tt.last/4 {
			t.Errorf("%v: %v", tt.most, s)
		}
	}
	if got := decades(0.02, 30); !slices.EqualFunc(got, []float64{0.01, 0.1, 1, 10, 100}, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
		t.Error(got)
	}
	a := axis{low: 0.1, high: 10, from: 100, to: 0, logarithmic: true}
	if got := a.at(1); math.Abs(got-50) > 1e-9 {
		t.Error(got)
	}
	if rank(90) != 1 || math.Abs(rank(99.9)-3) > 1e-9 || rank(0) != 0 {
		t.Error(rank(90), rank(99.9))
	}
}

func TestThinKeepsPeaks(t *testing.T) {
	var many []load.Sample
	for i := range 5000 {
		many = append(many, load.Sample{Seconds: float64(i), RSS: 1})
	}
	many[3333].RSS = 99
	some := thin(many, func(s load.Sample) float64 { return s.RSS })
	if len(some) > mostPoints || !slices.Contains(some, many[3333]) {
		t.Errorf("%d points, the peak among them: %v", len(some), slices.Contains(some, many[3333]))
	}
}
