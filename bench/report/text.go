package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/allsparkrt/allspark/bench/ledger"
	"github.com/allsparkrt/allspark/bench/load"
)

// WriteText writes a table for each scenario: medians of the rounds.
func (r *Report) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s, %s\n", r.Started.Format("2 January 2006"), r.Machine); err != nil {
		return err
	}
	for _, t := range r.Tables() {
		if err := t.writeText(w); err != nil {
			return err
		}
	}
	return r.writeGrowth(w)
}

// writeGrowth writes a table of what messages cost against size.
func (r *Report) writeGrowth(w io.Writer) error {
	growths := r.Growths()
	if len(growths) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nCost against size\nServer CPU for a message, in that of the same load where there is least.\n")
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, g := range growths {
		fmt.Fprintf(out, "\t%s", g.Name)
	}
	fmt.Fprint(out, "\t\n")
	for _, name := range targetsOf(growths) {
		fmt.Fprint(out, name)
		for _, g := range growths {
			value := "–"
			if ratio, ok := g.Ratio[name]; ok {
				value = number(ratio)
			}
			fmt.Fprintf(out, "\t%s", value)
		}
		fmt.Fprint(out, "\t\n")
	}
	return out.Flush()
}

func (t *Table) writeText(w io.Writer) error {
	fmt.Fprintf(w, "\n%s (%s)\n%s\n", t.Title, t.Name, t.About.About)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\t")
	for _, c := range t.Columns {
		fmt.Fprintf(out, "%s\t", c.Name)
	}
	fmt.Fprint(out, "errors\trounds\t\n\t")
	for _, c := range t.Columns {
		fmt.Fprintf(out, "%s\t", c.Unit)
	}
	fmt.Fprint(out, "\t\t\n")
	var remarks []string
	for _, row := range t.Rows {
		name := row.Target.Name
		switch {
		case row.Skipped != "":
			remarks = append(remarks, fmt.Sprintf("%s did not run: %s", name, row.Skipped))
		case row.Note != "":
			remarks = append(remarks, fmt.Sprintf("%s ran %s", name, row.Note))
		}
		if row.Repeated > 0 {
			remarks = append(remarks, fmt.Sprintf("%s: %s", name, repeated(row.Repeated, row.Disturbed)))
		}
		for _, why := range row.Failed {
			remarks = append(remarks, fmt.Sprintf("%s failed: %s", name, why))
		}
		if row.Rounds == 0 {
			continue
		}
		fmt.Fprintf(out, "%s\t", name)
		for _, c := range t.Columns {
			value := "–"
			if s, ok := row.Figures[c.Name]; ok {
				value = number(s.Median)
			}
			fmt.Fprintf(out, "%s\t", value)
		}
		fmt.Fprintf(out, "%s\t%d\t\n", faults(row.Verdict), row.Rounds)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, remark := range remarks {
		if _, err := fmt.Fprintln(w, remark); err != nil {
			return err
		}
	}
	return nil
}

// number writes a number with three digits that count.
func number(v float64) string {
	abs := math.Abs(v)
	switch {
	case abs >= 100 || v == 0:
		return grouped(v)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// grouped writes a whole number with commas.
func grouped(v float64) string {
	digits := strconv.FormatFloat(math.Round(math.Abs(v)), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if v < 0 {
		return "-" + digits
	}
	return digits
}

// repeated says how many runs do not count, and how many do that should not.
func repeated(runs, disturbed int) string {
	text := fmt.Sprintf("runs repeated because the host took too much of the processors: %d", runs)
	if disturbed > 0 {
		text += fmt.Sprintf("; of those that count it took too much in %d", disturbed)
	}
	return text
}

// faults says what went wrong with messages; "0": nothing.
func faults(v ledger.Verdict) string {
	var what []string
	for _, f := range []struct {
		n    int
		name string
	}{
		{v.Lost, "lost"}, {v.Duplicated, "twice"}, {v.OutOfOrder, "out of order"}, {v.Strange, "strange"}, {v.Refused, "refused"},
	} {
		if f.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", f.n, f.name))
		}
	}
	if len(what) == 0 {
		return "0"
	}
	return strings.Join(what, ", ")
}

// WriteBenchmarks writes a line for each run in the format of Go benchmarks
// (golang.org/design/14313-benchmark-format), so that
// benchstat -col /target compares targets, and two files compare versions.
func (r *Report) WriteBenchmarks(w io.Writer) error {
	goos, goarch, _ := strings.Cut(strings.Fields(r.Machine.System + " ")[0], "/")
	if _, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/allsparkrt/allspark/bench\ncpu: %s\n", goos, goarch, r.Machine.CPU); err != nil {
		return err
	}
	for i := range r.Results {
		res := &r.Results[i]
		if !res.Counts() || len(res.Figures) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w, benchmark(res)); err != nil {
			return err
		}
	}
	return nil
}

func benchmark(res *load.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s/target=%s \t%8d", camel(res.Scenario), res.Target.Name, max(res.Received, 1))
	for _, f := range res.Figures {
		unit := strings.ReplaceAll(f.Name, " ", "-")
		if f.Unit != "" {
			unit += "-" + strings.ReplaceAll(f.Unit, " ", "-")
		}
		fmt.Fprintf(&b, "\t%s %s", strconv.FormatFloat(f.Value, 'g', 6, 64), unit)
	}
	return b.String()
}

// camel makes the name of a benchmark: fanout-1k becomes Fanout1k.
func camel(name string) string {
	var b strings.Builder
	up := true
	for _, c := range name {
		switch {
		case c == '-':
			up = true
		case up:
			b.WriteRune(unicode.ToUpper(c))
			up = false
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
