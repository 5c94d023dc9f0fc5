package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/allsparkrt/allspark/bench/load"
)

// WriteMarkdown writes a table for each scenario, for keeping: medians of the
// rounds, and how the CPU time of the first target compares with that of each other.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var out bytes.Buffer
	for _, t := range r.Tables() {
		t.writeMarkdown(&out)
	}
	if growths := r.Growths(); len(growths) > 0 {
		head := []string{"server CPU against the least"}
		for _, g := range growths {
			head = append(head, g.Name)
		}
		fmt.Fprint(&out, "### Cost against size\n\n")
		tableHead(&out, head)
		for _, name := range targetsOf(growths) {
			cells := []string{name}
			for _, g := range growths {
				value := ""
				if ratio, ok := g.Ratio[name]; ok {
					value = number(ratio)
				}
				cells = append(cells, value)
			}
			tableRow(&out, cells)
		}
	}
	_, err := out.WriteTo(w)
	return err
}

func (t *Table) writeMarkdown(out *bytes.Buffer) {
	fmt.Fprintf(out, "### %s (`%s`)\n\n", t.Title, t.Name)
	first := t.Rows[0]
	base, compares := first.Figures[load.ServerCPU]
	head := []string{"target", "rounds"}
	for _, c := range t.Columns {
		head = append(head, strings.TrimSuffix(c.Name+", "+c.Unit, ", "))
	}
	if compares {
		head = append(head, first.Target.Name+" against it, CPU")
	}
	tableHead(out, head)
	var remarks []string
	for i, row := range t.Rows {
		if row.Rounds == 0 {
			continue
		}
		cells := []string{row.Target.Name, fmt.Sprint(row.Rounds)}
		for _, c := range t.Columns {
			value := ""
			if s, ok := row.Figures[c.Name]; ok {
				value = number(s.Median)
			}
			cells = append(cells, value)
		}
		if compares {
			ratio := ""
			if s := row.Figures[load.ServerCPU]; i > 0 && s.Median > 0 {
				ratio = number(base.Median / s.Median)
			}
			cells = append(cells, ratio)
		}
		tableRow(out, cells)
		if wrong := faults(row.Verdict); wrong != "0" {
			remarks = append(remarks, row.Target.Name+": "+wrong)
		}
		if row.Note != "" {
			remarks = append(remarks, row.Target.Name+" ran "+row.Note)
		}
		if row.Repeated > 0 {
			remarks = append(remarks, row.Target.Name+": "+repeated(row.Repeated, row.Disturbed))
		}
	}
	out.WriteByte('\n')
	for _, remark := range remarks {
		fmt.Fprintf(out, "%s.\n\n", remark)
	}
}

func tableHead(out *bytes.Buffer, cells []string) {
	tableRow(out, cells)
	out.WriteString("|" + strings.Repeat(" --- |", len(cells)) + "\n")
}

// tableRow writes a row of a table (GitHub Flavored Markdown, section 4.10).
func tableRow(out *bytes.Buffer, cells []string) {
	for _, cell := range cells {
		out.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
	}
	out.WriteString("|\n")
}
