package report

import (
	"slices"

	"github.com/allsparkrt/allspark/bench/load"
)

// Growth is what a scenario's messages cost, in what they cost where there is least.
type Growth struct {
	About
	Ratio map[string]float64 // by the name of the target, for those that did both
}

// Growths compares scenarios that do the same at different sizes.
func (r *Report) Growths() []Growth {
	tables := r.Tables()
	var all []Growth
	for _, t := range tables {
		i := slices.IndexFunc(tables, func(o *Table) bool { return t.Least != "" && o.Name == t.Least })
		if i < 0 {
			continue
		}
		g := Growth{About: t.About, Ratio: make(map[string]float64)}
		for _, least := range tables[i].Rows {
			k := slices.IndexFunc(t.Rows, func(row *Row) bool { return row.Target.Name == least.Target.Name })
			if k < 0 {
				continue
			}
			before, ok1 := least.Figures[load.ServerCPU]
			after, ok2 := t.Rows[k].Figures[load.ServerCPU]
			if ok1 && ok2 && before.Median > 0 {
				g.Ratio[least.Target.Name] = after.Median / before.Median
			}
		}
		if len(g.Ratio) > 0 {
			all = append(all, g)
		}
	}
	return all
}

// targetsOf returns the names of all that were compared, in alphabetical order.
func targetsOf(growths []Growth) []string {
	var names []string
	for _, g := range growths {
		for name := range g.Ratio {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
