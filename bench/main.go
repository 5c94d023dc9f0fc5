// Command bench drives servers with a load and reports what it cost and
// whether every promise was kept. It ends with a status other than 0 when a
// message was lost, repeated or out of order.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// errBroken means that servers broke a promise, or a run failed; the report says which.
var errBroken = errors.New("a run failed, or messages were lost, duplicated or out of order")

func main() {
	var cli struct {
		Run    runCmd    `cmd:"" help:"Run scenarios against targets that take turns, and report what it cost."`
		List   listCmd   `cmd:"" help:"List scenarios and targets."`
		Report reportCmd `cmd:"" help:"Show again what was run before."`
		Worker workerCmd `cmd:"" hidden:"" help:"Open connections for another process of the bench, which may not have as many files."`
		P2P    p2pCmd    `cmd:"" name:"p2p" help:"The load test of the original system, by way of the Go client."`
	}
	k := kong.Parse(&cli, kong.Name("bench"), kong.Description("Loads for AllSpark and its peers, side by side."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(os.Stdout, (*io.Writer)(nil))
	err := k.Run()
	stop()
	k.FatalIfErrorf(err)
}
