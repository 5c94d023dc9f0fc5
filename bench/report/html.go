package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"github.com/allsparkrt/allspark/bench/load"
	"github.com/allsparkrt/allspark/bench/peer"
)

//go:embed page.html
var pageText string

// colours is how many the page has.
const colours = 13

// page is what the template gets.
type page struct {
	*Report
	Date    string
	Targets []*pageTarget // that ran at least once
	Timed   []*pageTarget // of these, those whose CPU time is known
	Glance  []glanceRow
	Growth  []glanceRow
	Tables  []*pageTable
}

// pageTarget is a target with the number of its colour.
type pageTarget struct {
	peer.About
	Series int
}

type pageTable struct {
	*Table
	Keys  []*pageTarget // those that ran
	Bars  []*Chart
	Plots []*Chart
}

// glanceRow is a scenario in the overview.
type glanceRow struct {
	Name, Title, Unit string
	Cells             []glanceCell // of each target
}

type glanceCell struct {
	Value string
	Ratio string // to the first target
	Best  bool
	Why   string // why there is no value
}

// drawn are the figures that are drawn as bars, where a scenario has them; the
// others are in its table.
func drawn() []string {
	return []string{load.ServerCPU, load.Throughput, "connects", "memory", "memory after traffic", "idle CPU", "all back after", "replay", "replay CPU"}
}

// WriteHTML writes a page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"number": number, "grouped": grouped, "faults": faults, "repeated": repeated,
		"add": func(a, b float64) float64 { return a + b },
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return t.Execute(w, r.page())
}

func (r *Report) page() *page {
	p := &page{Report: r, Date: r.Started.Format("2 January 2006")}
	tables := r.Tables()
	index, series := make(map[string]int), make(map[string]int) // of targets
	for _, about := range ran(tables) {
		k := len(p.Targets)
		index[about.Name], series[about.Name] = k, k%colours
		p.Targets = append(p.Targets, &pageTarget{About: about, Series: k % colours})
	}
	p.Timed = slices.DeleteFunc(slices.Clone(p.Targets), func(t *pageTarget) bool { return !timed(tables, t.Name) })
	for _, g := range r.Growths() {
		p.Growth = append(p.Growth, g.row(p.Timed))
	}
	for _, t := range tables {
		if g, ok := t.glance(p.Timed); ok {
			p.Glance = append(p.Glance, g)
		}
		pt := &pageTable{Table: t, Bars: t.bars(series), Plots: t.plots(series)}
		for _, row := range t.Rows {
			if row.Rounds > 0 {
				pt.Keys = append(pt.Keys, p.Targets[index[row.Target.Name]])
			}
		}
		p.Tables = append(p.Tables, pt)
	}
	return p
}

// ran returns the targets that ran at least once, floors last.
func ran(tables []*Table) (servers []peer.About) {
	known := make(map[string]bool)
	var floors []peer.About
	for _, t := range tables {
		for _, row := range t.Rows {
			switch {
			case row.Rounds == 0 || known[row.Target.Name]:
				continue
			case row.Target.Floor:
				floors = append(floors, row.Target)
			default:
				servers = append(servers, row.Target)
			}
			known[row.Target.Name] = true
		}
	}
	return append(servers, floors...)
}

// timed reports whether the CPU time of a target is known in any scenario.
func timed(tables []*Table, target string) bool {
	for _, t := range tables {
		for _, row := range t.Rows {
			if _, ok := row.Figures[load.ServerCPU]; ok && row.Target.Name == target {
				return true
			}
		}
	}
	return false
}

func (t *Table) bars(series map[string]int) []*Chart {
	var charts []*Chart
	for _, name := range drawn() {
		if k := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name }); k >= 0 {
			charts = append(charts, barChart(t.Columns[k], t.Rows, series))
		}
	}
	return slices.DeleteFunc(charts, isNil)
}

func (t *Table) plots(series map[string]int) []*Chart {
	return slices.DeleteFunc([]*Chart{
		latencyChart(t.Rows, series),
		timeChart("Resident memory", "MB", t.Rows, series, func(s load.Sample) float64 { return s.RSS }),
		timeChart("CPU of the servers", "% of a core", t.Rows, series, func(s load.Sample) float64 { return s.CPU }),
	}, isNil)
}

// isNil is of charts without anything to draw.
func isNil(c *Chart) bool { return c == nil }

// row returns a row of the table of what messages cost against size. Marked is what
// hardly grows.
func (g Growth) row(targets []*pageTarget) glanceRow {
	const flat = 1.2
	row := glanceRow{Name: g.Name, Title: g.Title}
	for _, t := range targets {
		var cell glanceCell
		if ratio, ok := g.Ratio[t.Name]; ok {
			cell = glanceCell{Value: number(ratio), Best: ratio <= flat && !t.Floor}
		}
		row.Cells = append(row.Cells, cell)
	}
	return row
}

// glance returns the row of the overview: the servers' CPU time.
func (t *Table) glance(targets []*pageTarget) (g glanceRow, ok bool) {
	k := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == load.ServerCPU })
	if k < 0 {
		return g, false
	}
	g = glanceRow{Name: t.Name, Title: t.Title, Unit: t.Columns[k].Unit}
	base, best, servers := 0.0, -1.0, 0
	for _, target := range targets {
		var cell glanceCell
		i := slices.IndexFunc(t.Rows, func(r *Row) bool { return r.Target.Name == target.Name })
		if i >= 0 {
			row := t.Rows[i]
			s, has := row.Figures[load.ServerCPU]
			switch {
			case has:
				cell.Value = number(s.Median)
				if len(g.Cells) == 0 {
					base = s.Median
				} else if base > 0 {
					cell.Ratio = "× " + number(s.Median/base)
				}
				if target.Floor {
					break
				}
				if servers++; best < 0 || s.Median < best {
					best = s.Median
				}
			case row.Skipped != "":
				cell.Why = row.Skipped
			case len(row.Failed) > 0:
				cell.Why = "failed"
			}
		}
		g.Cells = append(g.Cells, cell)
	}
	for i := range g.Cells {
		g.Cells[i].Best = servers > 1 && best > 0 && g.Cells[i].Value == number(best) && !targets[i].Floor
	}
	return g, true
}
