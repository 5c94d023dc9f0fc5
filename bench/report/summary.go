package report

import (
	"cmp"
	"slices"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/load"
	"github.com/allsparkrt/allspark/bench/peer"
)

// Table is one scenario: a row for each target.
type Table struct {
	About
	Columns []Column
	Rows    []*Row
}

// Column is a figure that some target has.
type Column struct {
	Name, Unit string
	Better     load.Better
}

// Row is what the rounds of one target showed together.
type Row struct {
	Target  peer.About
	Rounds  int // that count
	Figures map[string]Spread
	Verdict ledger.Verdict // of all rounds
	Skipped string
	Failed  []string
	Note    string
	// Repeated is how many runs do not count because the host had taken too much,
	// Disturbed how many do all the same.
	Repeated, Disturbed int
	Latency             *load.Latency // at each quantile the median of the rounds
	Samples             []load.Sample // of the round in the middle, by CPU time
}

// Spread is the values of one figure over the rounds.
type Spread struct{ Median, Min, Max float64 }

// spread returns the spread of at least one value.
func spread(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	return Spread{Median: median(sorted), Min: sorted[0], Max: sorted[len(sorted)-1]}
}

// median returns the value in the middle, or the mean of the two that are.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Tables puts the results together, scenarios and targets in the order in which
// they first ran.
func (r *Report) Tables() []*Table {
	var tables []*Table
	for _, about := range r.About {
		var of []*load.Result
		for i := range r.Results {
			if r.Results[i].Scenario == about.Name {
				of = append(of, &r.Results[i])
			}
		}
		if len(of) > 0 {
			tables = append(tables, newTable(about, of))
		}
	}
	return tables
}

func newTable(about About, results []*load.Result) *Table {
	t := &Table{About: about}
	var names []string
	by := make(map[string][]*load.Result)
	for _, res := range results {
		name := res.Target.Name
		if by[name] == nil {
			names = append(names, name)
		}
		by[name] = append(by[name], res)
		if !res.Counts() {
			continue
		}
		for _, f := range res.Figures {
			if c := (Column{f.Name, f.Unit, f.Better}); !slices.ContainsFunc(t.Columns, func(o Column) bool { return o.Name == c.Name }) {
				t.Columns = append(t.Columns, c)
			}
		}
	}
	for _, name := range names {
		t.Rows = append(t.Rows, newRow(by[name]))
	}
	return t
}

func newRow(results []*load.Result) *Row {
	row := &Row{Target: results[0].Target, Figures: make(map[string]Spread)}
	values := make(map[string][]float64)
	var counted []*load.Result
	for _, res := range results {
		row.Repeated += res.Repeated
		switch {
		case res.Skipped != "":
			row.Skipped = res.Skipped
			continue
		case res.Failed != "":
			if !slices.Contains(row.Failed, res.Failed) {
				row.Failed = append(row.Failed, res.Failed)
			}
			continue
		}
		counted = append(counted, res)
		row.Target, row.Note = res.Target, res.Note
		row.Verdict.Add(res.Verdict)
		if res.Disturbed {
			row.Disturbed++
		}
		for _, f := range res.Figures {
			values[f.Name] = append(values[f.Name], f.Value)
		}
	}
	row.Rounds = len(counted)
	for name, v := range values {
		row.Figures[name] = spread(v)
	}
	if row.Rounds > 0 {
		row.Latency = middle(counted)
		slices.SortStableFunc(counted, func(a, b *load.Result) int {
			x, _ := a.Figure(load.ServerCPU)
			y, _ := b.Figure(load.ServerCPU)
			return cmp.Compare(x.Value, y.Value)
		})
		row.Samples = counted[len(counted)/2].Samples
	}
	return row
}

// middle returns the medians of distributions, at the quantiles that all have.
func middle(results []*load.Result) *load.Latency {
	at := make(map[float64][]float64)
	sum, n := &load.Latency{}, 0
	for _, res := range results {
		if res.Latency == nil {
			continue
		}
		n++
		sum.Count += res.Latency.Count
		for _, p := range res.Latency.Points {
			at[p.Percent] = append(at[p.Percent], p.MS)
		}
	}
	for _, q := range load.Quantiles() {
		if v := at[q]; n > 0 && len(v) == n {
			sum.Points = append(sum.Points, load.Point{Percent: q, MS: spread(v).Median})
		}
	}
	if n == 0 {
		return nil
	}
	return sum
}
