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

// errBroken means that the run went through and the servers broke a promise.
var errBroken = errors.New("messages were lost, duplicated or out of order")

func main() {
	var cli struct {
		P2P p2pCmd `cmd:"" name:"p2p" help:"Devices send to one another, each message to a device picked at random."`
	}
	k := kong.Parse(&cli, kong.Name("bench"), kong.Description("Load scenarios for AllSpark."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(os.Stdout, (*io.Writer)(nil))
	err := k.Run()
	stop()
	k.FatalIfErrorf(err)
}
