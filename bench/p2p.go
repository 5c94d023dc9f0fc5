package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/allsparkrt/allspark/bench/scenario"
	"github.com/allsparkrt/allspark/bench/target"
	"github.com/allsparkrt/allspark/envelope"
)

// p2pCmd is the command line of the scenario p2p.
type p2pCmd struct {
	Devices  int           `default:"100" help:"Connected devices."`
	Messages int           `default:"50000" help:"Messages to send."`
	Class    string        `default:"durable" enum:"durable,volatile" help:"Delivery class: ${enum}."`
	Size     int           `default:"200" help:"Bytes of each body, at least."`
	Inflight int           `default:"16" help:"Unanswered messages of one device; closed loop."`
	Rate     float64       `help:"Messages per second of all devices together: open loop, latencies from the moment due. Default: closed loop."`
	Seed     uint64        `default:"1" help:"Of the random pairs."`
	Settle   time.Duration `default:"10s" help:"How long to wait for a message that does not come."`
	Timeout  time.Duration `default:"10m" help:"Give up after this time."`
	JSON     bool          `name:"json" help:"Print JSON."`

	Target     string `default:"serve1" enum:"demo,serve1,mongo3" group:"Servers to start" help:"demo: three servers in one process, one embedded store. serve1: one process, embedded store. mongo3: three processes over one MongoDB."`
	MongoDBURI string `name:"mongodb-uri" group:"Servers to start" placeholder:"URI" help:"MongoDB of the target mongo3."`

	Servers        []string `group:"Servers that run" placeholder:"URL" help:"Their URLs; nothing is started then."`
	AuthSecretFile string   `group:"Servers that run" placeholder:"FILE" help:"File with the secret to sign auth keys with (HS256)."`
	AuthKeys       string   `group:"Servers that run" placeholder:"FILE" help:"File with a JSON object of device ids and auth keys."`
	PIDs           []int    `name:"pids" group:"Servers that run" placeholder:"PID" help:"Their processes, for the CPU time; on this machine."`
}

// Run runs the scenario and prints its report. The error is errBroken when the
// servers did not keep their promises.
func (c *p2pCmd) Run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	t, err := c.target(ctx)
	if err != nil {
		return err
	}
	report, err := c.drive(ctx, t)
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(stdout).Encode(report)
	} else {
		err = report.WriteTable(stdout)
	}
	if err == nil && !report.Good() {
		err = errBroken
	}
	return err
}

func (c *p2pCmd) target(ctx context.Context) (*target.Target, error) {
	if len(c.Servers) > 0 {
		return target.Running(c.Servers, c.PIDs, c.AuthSecretFile, c.AuthKeys)
	}
	return target.Start(ctx, c.Target, c.MongoDBURI)
}

func (c *p2pCmd) drive(ctx context.Context, t *target.Target) (scenario.Report, error) {
	devices, err := t.Devices(c.Devices, strconv.FormatInt(time.Now().UnixMilli(), 36))
	if err != nil {
		return scenario.Report{}, err
	}
	class := envelope.Durable
	if c.Class == envelope.Volatile.String() {
		class = envelope.Volatile
	}
	progress, done := c.progress()
	defer done()
	report, err := scenario.P2P{
		Servers: t.URLs, Devices: devices, Messages: c.Messages, Class: class, Size: c.Size,
		Inflight: c.Inflight, Rate: c.Rate, Seed: c.Seed, Settle: c.Settle,
		CPU: t.CPU(), Progress: progress,
	}.Run(ctx)
	if err != nil {
		return report, fmt.Errorf("p2p: %w", err)
	}
	report.Servers, report.Target = len(t.URLs), t.Name
	return report, nil
}

// progress returns what shows the progress, on a terminal, and what ends that.
func (c *p2pCmd) progress() (show func(received int), done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(c.Messages,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("received"),
		progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	// A bar that cannot be drawn is no reason to end a run.
	return func(n int) { _ = bar.Set(n) }, func() { _ = bar.Finish() }
}
