package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/allsparkrt/allspark/bench/scenario"
	"github.com/allsparkrt/allspark/bench/target"
)

// targetFlags say which servers to drive, for how long, and how to report.
type targetFlags struct {
	Timeout time.Duration `default:"10m" help:"Give up after this time."`
	JSON    bool          `name:"json" help:"Print JSON."`

	Target     string `default:"serve1" enum:"demo,serve1,mongo3" group:"Servers to start" help:"demo: three servers in one process, one embedded store. serve1: one process, embedded store. mongo3: three processes over one MongoDB."`
	MongoDBURI string `name:"mongodb-uri" group:"Servers to start" placeholder:"URI" help:"MongoDB of the target mongo3."`

	Servers        []string `group:"Servers that run" placeholder:"URL" help:"Their URLs; nothing is started then."`
	AuthSecretFile string   `group:"Servers that run" placeholder:"FILE" help:"File with the secret to sign auth keys with (HS256)."`
	AuthKeys       string   `group:"Servers that run" placeholder:"FILE" help:"File with a JSON object of device ids and auth keys."`
	PIDs           []int    `name:"pids" group:"Servers that run" placeholder:"PID" help:"Their processes, for the CPU time; on this machine."`
}

// run drives the servers and prints the report. The error is errBroken when the
// servers did not keep their promises.
func (f *targetFlags) run(ctx context.Context, stdout io.Writer, drive func(context.Context, *target.Target) (scenario.Report, error)) error {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	t, err := f.target(ctx)
	if err != nil {
		return err
	}
	report, err := drive(ctx, t)
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	if f.JSON {
		err = json.NewEncoder(stdout).Encode(report)
	} else {
		err = report.WriteTable(stdout)
	}
	if err == nil && !report.Good() {
		err = errBroken
	}
	return err
}

func (f *targetFlags) target(ctx context.Context) (*target.Target, error) {
	if len(f.Servers) > 0 {
		return target.Running(f.Servers, f.PIDs, f.AuthSecretFile, f.AuthKeys)
	}
	return target.Start(ctx, target.Options{Name: f.Target, MongoURI: f.MongoDBURI})
}

// showProgress returns what shows the progress, on a terminal, and what ends that.
func showProgress(most int) (show func(received int), done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(most,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("received"),
		progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	// A bar that cannot be drawn is no reason to end a run.
	return func(n int) { _ = bar.Set(n) }, func() { _ = bar.Finish() }
}
