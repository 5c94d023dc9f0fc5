package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

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
	targetFlags
}

// Run runs the scenario and prints its report.
func (c *p2pCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.run(ctx, stdout, c.drive)
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
	progress, done := showProgress(c.Messages)
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
