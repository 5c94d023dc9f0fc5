package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/hook"
)

// hooksCmd is about the events that the app's backend is told.
type hooksCmd struct {
	State  hooksStateCmd  `cmd:"" default:"withargs" help:"Show how far the receivers of events have got."`
	Replay hooksReplayCmd `cmd:"" help:"Have events sent to a receiver again."`
}

// hooksStateCmd shows how far the receivers have got.
type hooksStateCmd struct{ operate }

// Run prints a row for each partition of each receiver.
func (c *hooksStateCmd) Run(ctx context.Context, sys *system) error {
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]client.HookReceiver, error) {
		return api.Hooks(ctx)
	}, func(receivers []client.HookReceiver) [][]any {
		rows := [][]any{{"RECEIVER", "PARTITION", "SERVER", "POSITION", "HEAD", "LAG", "FAILING SINCE", "PAUSED UNTIL", "REASON"}}
		for _, r := range receivers {
			for _, p := range r.Partitions {
				rows = append(rows, []any{
					r.Name, p.Partition, p.Server, p.Position, p.Head, p.Lag, at(p.FailingSince), at(p.PausedUntil), p.Reason,
				})
			}
			if len(r.Partitions) == 0 {
				rows = append(rows, []any{r.Name, "", "", "", "", "", "", "", ""})
			}
		}
		return rows
	})
}

// hooksReplayCmd has events sent again.
type hooksReplayCmd struct {
	operate
	Receiver  string `placeholder:"NAME" help:"To whom. Default: the only one there is."`
	Partition []int  `xor:"which" group:"One of:" placeholder:"N" help:"Events of that partition; may be given several times."`
	All       bool   `xor:"which" group:"One of:" help:"Events of all partitions."`
	After     uint64 `placeholder:"SEQ" help:"Those behind that seq. Default: all that are kept."`
}

// Run prints a row for each partition.
func (c *hooksReplayCmd) Run(ctx context.Context, sys *system) error {
	if len(c.Partition) == 0 && !c.All {
		return usageError("give --partition or --all")
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]client.HookReplay, error) {
		partitions := c.Partition
		if c.All {
			for p := range hook.Partitions {
				partitions = append(partitions, p)
			}
		}
		var asked []client.HookReplay
		for _, p := range partitions {
			replay := client.HookReplay{ID: rand.Text(), Receiver: c.Receiver, Partition: p, After: c.After}
			if err := api.ReplayHooks(ctx, replay); err != nil {
				return nil, fmt.Errorf("partition %d: %w", p, err)
			}
			asked = append(asked, replay)
		}
		return asked, nil
	}, func(asked []client.HookReplay) [][]any {
		rows := [][]any{{"PARTITION", "AFTER"}}
		for _, r := range asked {
			rows = append(rows, []any{r.Partition, r.After})
		}
		return rows
	})
}
