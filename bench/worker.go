package main

import (
	"context"
	"fmt"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/remote"
)

// workerCmd is the command line of a process that run starts when it may not have
// as many files as a scenario has connections.
type workerCmd struct {
	File string `arg:"" help:"What to do."`
}

// Run opens connections until the bench that wants them has ended.
func (c *workerCmd) Run(ctx context.Context) error {
	return remote.Serve(ctx, c.File, func(name string) (peer.Target, error) {
		for _, t := range targets(allspark.Options{}) {
			if t.About().Name == name {
				return t, nil
			}
		}
		return nil, fmt.Errorf("no target is called %q", name)
	})
}
