package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/bench/scenario"
	"github.com/allsparkrt/allspark/bench/target"
)

// fanOutCmd is the command line of the scenario fanout.
type fanOutCmd struct {
	Members  int           `default:"10000" help:"Devices that listen; they take turns with the servers."`
	Messages int           `default:"100" help:"Messages to send, each to all members."`
	Size     int           `default:"200" help:"Bytes of each body, at least."`
	Inflight int           `default:"8" help:"Messages that have not reached everybody. 1: one at a time."`
	Settle   time.Duration `default:"10s" help:"How long to wait for a message that does not come."`
	targetFlags
}

// Run runs the scenario and prints its report.
func (c *fanOutCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, stdout, c.drive)
}

func (c *fanOutCmd) drive(ctx context.Context, t *target.Target) (scenario.Report, error) {
	devices, err := t.Devices(c.Members+1, strconv.FormatInt(time.Now().UnixMilli(), 36))
	if err != nil {
		return scenario.Report{}, err
	}
	progress, done := showProgress(c.Messages * c.Members)
	defer done()
	report, err := scenario.FanOut{
		Servers: t.URLs, Devices: devices, Messages: c.Messages, Size: c.Size, Inflight: c.Inflight, Settle: c.Settle,
		CPU: t.CPU(), Progress: progress,
	}.Run(ctx)
	if err != nil {
		return report, fmt.Errorf("fanout: %w", err)
	}
	report.Servers, report.Target = len(t.URLs), t.Name
	return report, nil
}
