package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/allsparkrt/allspark/bench/load"
)

// The size of a plot in user units of SVG, and of the frame in it.
const (
	chartWidth, wideWidth, chartHeight         = 520.0, 1080.0, 290.0
	frameLeft, frameTop, frameRight, frameDown = 52.0, 12.0, 12.0, 34.0
)

// Chart is a plot, ready to be drawn.
type Chart struct {
	Title, XLabel, YLabel string
	Wide                  bool
	Width, Height         float64
	Frame                 Box
	X, Y                  []Tick
	Lines                 []Line
	Bars                  []Bar
}

// Box is a rectangle.
type Box struct{ X, Y, W, H float64 }

// Tick is a mark on an axis.
type Tick struct {
	At    float64
	Label string
}

// Line is one target in a plot.
type Line struct {
	Series int
	Dashed bool
	Name   string
	Points string // of a polyline
	Dots   []Dot  // values to point at
}

// Dot is a point with a text.
type Dot struct {
	X, Y float64
	Text string
}

// Bar is one target in a bar chart, with the range of its rounds.
type Bar struct {
	Series           int
	Dashed           bool
	Name, Value      string
	Box              Box
	LabelY           float64
	Low, High, Text  float64 // x of the range's ends and of the value
	Middle           float64 // y
	Ratio, Statement string
}

// axis maps values to places in a frame.
type axis struct {
	low, high   float64 // values
	from, to    float64 // places
	logarithmic bool
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.logarithmic {
		v, low, high = math.Log10(v), math.Log10(low), math.Log10(high)
	}
	if high == low {
		return a.from
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// steps returns round values from 0 to at least most, some five of them.
func steps(most float64) []float64 {
	if most <= 0 {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, k := range []float64{1, 2, 2.5, 5, 10} {
		if k*step*5 >= most {
			step *= k
			break
		}
	}
	var all []float64
	for k := 0.0; ; k++ {
		all = append(all, k*step)
		if k*step >= most {
			return all
		}
	}
}

// decades returns the powers of ten from at most low to at least high.
func decades(low, high float64) []float64 {
	var all []float64
	first, last := int(math.Floor(math.Log10(low))), int(math.Ceil(math.Log10(high)))
	if last == first {
		last++
	}
	for e := first; e <= last; e++ {
		all = append(all, math.Pow10(e))
	}
	return all
}

func newChart(title, x, y string, width float64) *Chart {
	return &Chart{
		Title: title, XLabel: x, YLabel: y, Wide: width > chartWidth, Width: width, Height: chartHeight,
		Frame: Box{frameLeft, frameTop, width - frameLeft - frameRight, chartHeight - frameTop - frameDown},
	}
}

func (c *Chart) across(low, high float64) axis {
	return axis{low: low, high: high, from: c.Frame.X, to: c.Frame.X + c.Frame.W}
}

func (c *Chart) up(low, high float64) axis {
	return axis{low: low, high: high, from: c.Frame.Y + c.Frame.H, to: c.Frame.Y}
}

func place(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// rank stretches the upper quantiles: one unit for each nine.
func rank(percent float64) float64 { return -math.Log10(1 - percent/100) }

// maxGap is how far behind the last quantile the maximum stands, in nines.
const maxGap = 0.5

// latencyChart draws latencies over quantiles, both logarithmic.
func latencyChart(rows []*Row, series map[string]int) *Chart {
	low, high, widest := math.Inf(1), 0.0, rank(99)
	for _, row := range rows {
		if row.Latency == nil {
			continue
		}
		for _, p := range row.Latency.Points {
			low, high = min(low, p.MS), max(high, p.MS)
			if p.Percent < 100 {
				widest = max(widest, rank(p.Percent))
			}
		}
	}
	if high == 0 {
		return nil
	}
	c := newChart("Latency by percentile", "percentile", "ms", wideWidth)
	marks := decades(max(low, 0.001), high)
	x, y := c.across(0, widest+maxGap), c.up(marks[0], marks[len(marks)-1])
	y.logarithmic = true
	for _, v := range marks {
		c.Y = append(c.Y, Tick{y.at(v), strconv.FormatFloat(v, 'g', -1, 64)})
	}
	for _, q := range []float64{50, 90, 99, 99.9, 99.99, 99.999} {
		if rank(q) <= widest {
			c.X = append(c.X, Tick{x.at(rank(q)), strconv.FormatFloat(q, 'g', -1, 64)})
		}
	}
	c.X = append(c.X, Tick{x.at(widest + maxGap), "max"})
	for _, row := range rows {
		if row.Latency == nil {
			continue
		}
		l := Line{Series: series[row.Target.Name], Dashed: row.Target.Floor, Name: row.Target.Title}
		var points []string
		for _, p := range row.Latency.Points {
			at := widest + maxGap
			if p.Percent < 100 {
				at = rank(p.Percent)
			}
			d := Dot{x.at(at), y.at(max(p.MS, marks[0])), fmt.Sprintf("%s: %g %% within %s ms", row.Target.Title, p.Percent, number(p.MS))}
			l.Dots = append(l.Dots, d)
			points = append(points, place(d.X)+","+place(d.Y))
		}
		l.Points = strings.Join(points, " ")
		c.Lines = append(c.Lines, l)
	}
	return c
}

// timeChart draws what the servers used over time.
func timeChart(title, unit string, rows []*Row, series map[string]int, value func(load.Sample) float64) *Chart {
	var longest, most float64
	for _, row := range rows {
		for _, s := range row.Samples {
			longest, most = max(longest, s.Seconds), max(most, value(s))
		}
	}
	if longest == 0 || most == 0 {
		return nil
	}
	c := newChart(title, "seconds", unit, chartWidth)
	marks := steps(most)
	x, y := c.across(0, longest), c.up(0, marks[len(marks)-1])
	for _, v := range marks {
		c.Y = append(c.Y, Tick{y.at(v), strconv.FormatFloat(v, 'g', 4, 64)})
	}
	for _, v := range steps(longest) {
		if v <= longest {
			c.X = append(c.X, Tick{x.at(v), strconv.FormatFloat(v, 'g', 4, 64)})
		}
	}
	for _, row := range rows {
		if len(row.Samples) == 0 {
			continue
		}
		l := Line{Series: series[row.Target.Name], Dashed: row.Target.Floor, Name: row.Target.Title}
		var points []string
		for _, s := range thin(row.Samples, value) {
			points = append(points, place(x.at(s.Seconds))+","+place(y.at(value(s))))
		}
		l.Points = strings.Join(points, " ")
		last := row.Samples[len(row.Samples)-1]
		l.Dots = []Dot{{x.at(last.Seconds), y.at(value(last)), fmt.Sprintf("%s: %s %s", row.Target.Title, number(value(last)), unit)}}
		c.Lines = append(c.Lines, l)
	}
	return c
}

// mostPoints is how many points of a line can be told apart.
const mostPoints = 240

// thin leaves of each stretch of samples the highest one.
func thin(samples []load.Sample, value func(load.Sample) float64) []load.Sample {
	stretch := (len(samples) + mostPoints - 1) / mostPoints
	if stretch <= 1 {
		return samples
	}
	var some []load.Sample
	for part := range slices.Chunk(samples, stretch) {
		some = append(some, slices.MaxFunc(part, func(a, b load.Sample) int {
			return int(math.Copysign(1, value(a)-value(b)))
		}))
	}
	return some
}

// barChart draws one figure of all targets, the first target being what the
// others are compared with.
func barChart(col Column, rows []*Row, series map[string]int) *Chart {
	const (
		left, right = 138.0, 116.0
		row, thick  = 34.0, 18.0
	)
	var most float64
	var n int
	for _, r := range rows {
		if s, ok := r.Figures[col.Name]; ok {
			most = max(most, s.Max)
			n++
		}
	}
	if n == 0 || most <= 0 {
		return nil
	}
	way := ""
	switch col.Better {
	case load.Less:
		way = ", less is better"
	case load.More:
		way = ", more is better"
	}
	c := &Chart{
		Title: upper(col.Name), XLabel: col.Unit + way, Width: chartWidth,
		Frame: Box{left, 6, chartWidth - left - right, float64(n) * row},
	}
	c.Height = c.Frame.H + 14
	x := c.across(0, most)
	base, compared := 0.0, false
	for _, r := range rows {
		s, ok := r.Figures[col.Name]
		if !ok {
			continue
		}
		top := c.Frame.Y + float64(len(c.Bars))*row
		b := Bar{
			Series: series[r.Target.Name], Dashed: r.Target.Floor, Name: r.Target.Title, Value: number(s.Median),
			Box: Box{left, top + (row-thick)/2, max(x.at(s.Median)-left, 1), thick},
			Low: x.at(s.Min), High: x.at(s.Max), Middle: top + row/2, LabelY: top + row/2 + 4,
		}
		b.Text = max(left, x.at(s.Median), b.High) + 7
		b.Statement = fmt.Sprintf("%s: %s %s (%s to %s)", r.Target.Title, number(s.Median), col.Unit, number(s.Min), number(s.Max))
		switch {
		case !compared:
			base, compared = s.Median, true
		case base > 0 && s.Median > 0:
			b.Ratio = "× " + number(s.Median/base)
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
