package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// listenCmd prints the messages for a device.
type listenCmd struct {
	remote
	Proxy   bool                 `help:"Reach the server through the entry point on ports 80 and 443 only."`
	Topics  []envelope.SessionID `name:"topic" placeholder:"TOPIC" help:"Follow this topic as well; may be given several times."`
	Count   int                  `placeholder:"N" help:"End after so many messages. Default: never."`
	Timeout time.Duration        `placeholder:"DURATION" help:"End after this time; with --count, that is a failure. Default: never."`
}

// Run prints messages until there were enough, the time is over, or the
// process is told to end.
func (c *listenCmd) Run(ctx context.Context, sys *system) error {
	if c.Count < 0 || c.Timeout < 0 {
		return usageError("--count and --timeout cannot be negative")
	}
	opts, err := c.options(sys)
	if err != nil {
		return err
	}
	opts.ManualAck, opts.Proxy = true, c.Proxy
	opts.OnGap = func(g client.Gap) {
		fmt.Fprintf(sys.stderr, "allspark: listen: the messages of %s before %d are gone\n", g.Log, g.Floor)
	}
	ctx, cancel := within(ctx, c.Timeout, fmt.Sprintf("not %d messages", c.Count))
	defer cancel()
	err = c.listen(ctx, opts, sys)
	if c.Count == 0 && err != nil && err == context.Cause(ctx) { //nolint:errorlint // alone: nothing else went wrong
		return nil
	}
	return err
}

// listen returns the cause of ctx when it was only that which ended it.
func (c *listenCmd) listen(ctx context.Context, opts client.Options, sys *system) error {
	conn, err := client.Dial(ctx, opts)
	if err != nil {
		return err
	}
	if err = conn.Subscribe(ctx, c.Topics...); err == nil {
		err = c.print(ctx, conn, sys)
	}
	if closing := goodbyeTo(ctx, conn); closing != nil {
		return errors.Join(err, fmt.Errorf("the last messages may not be acknowledged: %w", closing))
	}
	return err
}

// print prints messages and acknowledges each after it has been written.
func (c *listenCmd) print(ctx context.Context, conn *client.Client, sys *system) error {
	var line []byte
	for n := 0; c.Count == 0 || n < c.Count; n++ {
		m, err := conn.Receive(ctx)
		if err != nil {
			return err
		}
		line = append(m.AppendJSON(line[:0]), '\n')
		if _, err := sys.stdout.Write(line); err != nil {
			return err
		}
		conn.Ack(m)
	}
	return nil
}
