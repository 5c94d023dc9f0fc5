package main

import (
	"context"
	"fmt"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// pushCmd tries push notifications and shows those that were given up.
type pushCmd struct {
	Test   pushTestCmd   `cmd:"" help:"Send a device a notification now, and show what its push services say."`
	Failed pushFailedCmd `cmd:"" help:"Show the notifications that were given up, the last of each device; with --retry or --forget, do so."`
}

type pushTestCmd struct {
	operate
	Node  envelope.NodeID `placeholder:"NODE" help:"The device. Default: whose the auth key is."`
	Title string          `help:"Title of the notification. Default, without a body: Test."`
	Body  string          `help:"Its text."`
}

// Run prints a row for each push token, and fails unless one was taken.
func (c *pushTestCmd) Run(ctx context.Context, sys *system) error {
	sent := false
	err := show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]client.PushTry, error) {
		tokens, err := api.TestPush(ctx, client.PushTest{Node: c.Node, Title: c.Title, Body: c.Body})
		for _, t := range tokens {
			sent = sent || t.Sent
		}
		return tokens, err
	}, func(tokens []client.PushTry) [][]any {
		rows := [][]any{{"SERVICE", "TOKEN", "SENT", "REASON", "GONE", "RETRY"}}
		for _, t := range tokens {
			rows = append(rows, []any{t.Service, t.Token, yes(t.Sent), t.Reason, yes(t.Gone), retry(t)})
		}
		return rows
	})
	if err == nil && !sent {
		return fmt.Errorf("no push service has taken it")
	}
	return err
}

// retry says whether, and when, a service may take it.
func retry(t client.PushTry) string {
	if t.RetryMS > 0 {
		return (time.Duration(t.RetryMS) * time.Millisecond).String()
	}
	return yes(t.Retry)
}

type pushFailedCmd struct {
	operate
	Retry  bool              `xor:"do" help:"Tell these devices again."`
	Forget bool              `xor:"do" help:"Take them off the list."`
	Nodes  []envelope.NodeID `arg:"" optional:"" name:"node" help:"Which devices. Default: all on the list."`
}

// Run prints a row for each device.
func (c *pushFailedCmd) Run(ctx context.Context, sys *system) error {
	return show(ctx, sys, &c.operate, c.list, func(failed []client.FailedPush) [][]any {
		rows := [][]any{{"NODE", "AT", "LOG", "SEQ", "SERVICE", "REASON", "ATTEMPTS"}}
		for _, f := range failed {
			rows = append(rows, []any{f.Node, at(f.At), f.Log, f.Seq, f.Service, f.Reason, f.Attempts})
		}
		return rows
	})
}

// list returns what was given up, of the devices asked for, and does what is
// to be done about each.
func (c *pushFailedCmd) list(ctx context.Context, api *client.API) (failed []client.FailedPush, err error) {
	wanted := make(map[envelope.NodeID]bool, len(c.Nodes))
	for _, node := range c.Nodes {
		wanted[node] = true
	}
	after := envelope.NodeID("")
	for more := true; more; {
		page, err := api.FailedPushes(ctx, after, 0)
		if err != nil {
			return nil, err
		}
		for _, f := range page.Failed {
			if len(wanted) > 0 && !wanted[f.Node] {
				continue
			}
			if err := c.settle(ctx, api, f.Node); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Node, err)
			}
			failed = append(failed, f)
		}
		after, more = page.Next, page.More
	}
	return failed, nil
}

func (c *pushFailedCmd) settle(ctx context.Context, api *client.API, node envelope.NodeID) error {
	switch {
	case c.Retry:
		return api.RetryFailedPush(ctx, node)
	case c.Forget:
		return api.ForgetFailedPush(ctx, node)
	}
	return nil
}
