package main

import (
	"context"
	"fmt"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// historyCmd prints a page of a log.
type historyCmd struct {
	remote

	Log    string    `arg:"" help:"node:ID of your own, client:ID of your own, or session:ID."`
	Limit  int       `default:"100" help:"Messages at most, up to 1000."`
	After  uint64    `placeholder:"SEQ" help:"What comes behind SEQ."`
	Since  time.Time `placeholder:"TIME" help:"Not before TIME, such as 2026-11-20T17:00:00Z."`
	Back   bool      `help:"From the end backwards, without edits and deletions themselves."`
	Before uint64    `placeholder:"SEQ" help:"Backwards, what comes before SEQ."`
	Until  time.Time `placeholder:"TIME" help:"Backwards, not after TIME."`

	Timeout time.Duration `default:"10s" help:"How long to try; 0 without end."`
}

// Run prints the messages, oldest first, one a line. How to go on is said on
// stderr when there is more.
func (c *historyCmd) Run(ctx context.Context, sys *system) error {
	log, err := envelope.ParseAddress(c.Log)
	if err != nil {
		return usageError(err.Error())
	}
	q := client.HistoryQuery{
		Log: log, Limit: c.Limit, After: c.After, Since: c.Since,
		Back: c.Back || c.Before > 0 || !c.Until.IsZero(), Before: c.Before, Until: c.Until,
	}
	if q.Back && (q.After > 0 || !q.Since.IsZero()) {
		return usageError("--after and --since lead forwards, --back, --before and --until backwards")
	}
	api, err := c.api(sys)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c.Timeout, "no answer")
	defer cancel()
	page, err := api.History(ctx, q)
	if err != nil {
		return err
	}
	var lines []byte
	for i := range page.Messages {
		lines = append(page.Messages[i].AppendJSON(lines), '\n')
	}
	if _, err := sys.stdout.Write(lines); err != nil {
		return err
	}
	if page.More {
		on := "--after"
		if q.Back {
			on = "--before"
		}
		fmt.Fprintf(sys.stderr, "allspark: history: there is more: %s %d\n", on, page.Next)
	}
	return nil
}
