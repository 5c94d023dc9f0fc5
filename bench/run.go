package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/allsparkrt/allspark/bench/load"
	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/wire"
	"github.com/allsparkrt/allspark/bench/report"
)

// runCmd is the command line of scenarios against targets.
type runCmd struct {
	Scenario []string      `default:"all" placeholder:"NAME" help:"Scenarios, or all; see list."`
	Target   []string      `default:"allspark" placeholder:"NAME" help:"Targets, or all; see list. They take turns in each round, in the next one in the opposite order."`
	Rounds   int           `default:"5" help:"How often each scenario is run against each target."`
	Quick    bool          `help:"Everything in small, to see that it works."`
	Settle   time.Duration `default:"10s" help:"How long to wait for a message that does not come."`
	Timeout  time.Duration `default:"10m" help:"Give one run up after this time."`
	MaxSteal float64       `placeholder:"PERCENT" help:"Repeat a run in which the host of this virtual machine gave more of the processors' time to others, up to ten times. Default: whatever that was."`
	Workers  int           `placeholder:"N" help:"Have connections opened by N other processes. Default: as many as very many connections need, because a process may have only so many files."`
	Apart    int           `placeholder:"N" help:"Have connections of idle-…, size-connections-… and size-quiet-… spread over N servers that know nothing of one another. Default: as many as they need."`
	Dir      string        `placeholder:"DIR" help:"Where servers keep their data, on the disk that is to be measured. Default: a temporary directory."`

	Address    map[string]string `placeholder:"TARGET=ADDRESS" group:"Servers that run" help:"HOST:PORT or URL of a target that runs already and is not to be started. Of AllSpark, URLs with commas between them."`
	PIDs       map[string][]int  `name:"pids" placeholder:"TARGET=PID,…" group:"Servers that run" help:"Its processes, for CPU time and memory; on this machine."`
	SecretFile string            `name:"auth-secret-file" placeholder:"FILE" group:"Servers that run" help:"File with the secret that AllSpark's auth keys are signed with (HS256)."`
	Program    string            `placeholder:"FILE" type:"existingfile" help:"Program of AllSpark's server, for comparing versions. Default: built from this source."`
	MongoDBURI string            `name:"mongodb-uri" placeholder:"URI" help:"MongoDB of the target allspark-mongo, which exists only with it."`

	outputs
}

// outputs say how results are shown.
type outputs struct {
	JSON      string `name:"json" placeholder:"FILE" group:"Results" help:"Write everything as JSON; report reads it."`
	HTML      string `name:"html" placeholder:"FILE" group:"Results" help:"Write a page with plots."`
	Markdown  string `name:"markdown" placeholder:"FILE" group:"Results" help:"Write tables as Markdown, with the ratios to the first target."`
	Benchfmt  string `name:"benchfmt" placeholder:"FILE" group:"Results" help:"Write lines for benchstat, as of Go benchmarks."`
	Unchecked bool   `group:"Results" help:"End with status 0 even when messages were lost, duplicated or out of order."`
}

// write writes all that is asked for, and tables to stdout.
func (o outputs) write(r *report.Report, stdout io.Writer) error {
	errs := []error{r.WriteText(stdout)}
	if o.JSON != "" {
		errs = append(errs, r.WriteJSON(o.JSON))
	}
	for path, write := range map[string]func(io.Writer) error{o.HTML: r.WriteHTML, o.Markdown: r.WriteMarkdown, o.Benchfmt: r.WriteBenchmarks} {
		if path != "" {
			errs = append(errs, writeFile(path, write))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !r.Good() && !o.Unchecked {
		return errBroken
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// Run makes all runs and writes the report, also of those before an interrupt.
func (c *runCmd) Run(ctx context.Context, stdout io.Writer) error {
	scenarios, err := choose(load.Scenarios(c.Quick), func(s load.Scenario) string { return s.Name }, c.Scenario)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.Dir, "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// A server under an account of its own has to get through to its directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	chosen, err := choose(targets(allspark.Options{
		Builder: &allspark.Builder{Dir: dir, Program: c.Program}, MongoURI: c.MongoDBURI, SecretFile: c.SecretFile,
	}), func(t peer.Target) string { return t.About().Name }, c.Target)
	if err != nil {
		return err
	}
	// What the bench collects less often, servers have more of the cores.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	rep := &report.Report{Started: time.Now().UTC().Truncate(time.Second), Machine: report.ThisMachine(), Quick: c.Quick}
	for _, s := range scenarios {
		rep.About = append(rep.About, report.About{Name: s.Name, Title: s.Title, About: s.About, Least: s.Least})
	}
	bar := newBar(len(scenarios) * len(chosen) * c.Rounds)
	for round := range c.Rounds {
		if round > 0 {
			slices.Reverse(chosen) // no one comes always first, or always after the same one
		}
		for _, s := range scenarios {
			for _, t := range chosen {
				if ctx.Err() != nil {
					break
				}
				bar.begin(fmt.Sprintf("%d/%d %s %s", round+1, c.Rounds, s.Name, t.About().Name))
				res, err := c.calm(ctx, func() (load.Result, error) {
					return c.one(ctx, s, t, round+1, filepath.Join(dir, fmt.Sprintf("%s-%s-%d", s.Name, t.About().Name, round+1)), bar.progress)
				})
				if err != nil {
					return err
				}
				if ctx.Err() == nil { // else it was cut short
					rep.Results = append(rep.Results, res)
				}
				bar.end(&res)
			}
		}
	}
	bar.close()
	return errors.Join(c.write(rep, stdout), context.Cause(ctx))
}

// maxRepeats is how often a run is repeated at most; then the last one counts.
const maxRepeats = 10

// calm makes a run, again and again until the host leaves the processors alone.
func (c *runCmd) calm(ctx context.Context, run func() (load.Result, error)) (load.Result, error) {
	for repeated := 0; ; repeated++ {
		res, err := run()
		res.Repeated, res.Disturbed = repeated, c.disturbed(&res)
		if err != nil || ctx.Err() != nil || repeated == maxRepeats || !res.Disturbed {
			return res, err
		}
	}
}

// disturbed reports whether a run says little of its target. One in which something was
// lost says enough.
func (c *runCmd) disturbed(res *load.Result) bool {
	steal, _ := res.Figure(load.HostSteal)
	return res.Counts() && res.Good() && c.MaxSteal > 0 && steal.Value > c.MaxSteal
}

// one makes one run.
func (c *runCmd) one(ctx context.Context, s load.Scenario, t peer.Target, round int, dir string, progress func(float64)) (res load.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return res, err
	}
	loop, err := wire.NewLoop(max(1, runtime.NumCPU()/2))
	if err != nil {
		return res, err
	}
	program, err := os.Executable()
	if err != nil {
		return res, errors.Join(err, loop.Close())
	}
	name := t.About().Name
	res = s.Run(ctx, load.Options{
		Target: t, Round: round, Settle: c.Settle, Progress: progress, Worker: []string{program, "worker"}, Workers: c.Workers, Apart: c.Apart,
		Env: peer.Env{Dir: dir, Address: c.Address[name], PIDs: c.PIDs[name], Loop: loop},
	})
	err = errors.Join(loop.Close(), os.RemoveAll(dir))
	runtime.GC() // not during the next run
	return res, err
}

// bar shows the progress of all runs: on a terminal as a bar, else a line for each.
type bar struct {
	bar   *progressbar.ProgressBar // nil: no terminal
	what  string
	ended int
}

// parts is what one run is on the bar.
const parts = 1000

func newBar(runs int) *bar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return new(bar)
	}
	return &bar{bar: progressbar.NewOptions(runs*parts,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())}
}

func (b *bar) begin(what string) {
	b.what = what
	if b.bar != nil {
		b.bar.Describe(what)
	}
}

// progress may be called by any goroutine while a run goes on. A bar that cannot
// be drawn is no reason to end it.
func (b *bar) progress(done float64) {
	if b.bar != nil {
		_ = b.bar.Set(b.ended*parts + int(min(done, 1)*(parts-1)))
	}
}

func (b *bar) end(res *load.Result) {
	b.ended++
	switch cpu, ok := res.Figure(load.ServerCPU); {
	case b.bar != nil:
		_ = b.bar.Set(b.ended * parts)
	case !res.Counts():
		fmt.Fprintf(os.Stderr, "%s: %s%s\n", b.what, res.Skipped, res.Failed)
	case ok:
		fmt.Fprintf(os.Stderr, "%s: %.1f %s\n", b.what, cpu.Value, cpu.Unit)
	default:
		fmt.Fprintf(os.Stderr, "%s: done\n", b.what)
	}
}

func (b *bar) close() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

// reportCmd is the command line of showing what was run before.
type reportCmd struct {
	Files []string `arg:"" type:"existingfile" help:"What run --json has written; several are put together."`
	outputs
}

// Run reads and writes.
func (c *reportCmd) Run(stdout io.Writer) error {
	var all *report.Report
	for _, path := range c.Files {
		r, err := report.Read(path)
		if err != nil {
			return err
		}
		if all == nil {
			all = r
		} else {
			all.Add(r)
		}
	}
	return c.write(all, stdout)
}

// listCmd is the command line of what there is.
type listCmd struct{}

// Run prints it.
func (listCmd) Run(stdout io.Writer) error {
	fmt.Fprintln(stdout, "scenarios")
	for _, s := range load.Scenarios(false) {
		fmt.Fprintf(stdout, "  %-20s %s. %s\n", s.Name, s.Title, s.About)
	}
	_, err := fmt.Fprintln(stdout, "targets")
	for _, t := range append(targets(allspark.Options{}), allspark.Mongo(allspark.Options{})) {
		a := t.About()
		_, err = fmt.Fprintf(stdout, "  %-20s %s: %s\n", a.Name, a.Title, a.Settings)
	}
	return err
}
