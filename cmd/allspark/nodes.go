package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// nodesCmd shows the servers.
type nodesCmd struct {
	operate
	Links bool `help:"Show the links between servers instead, from both ends."`
}

// Run prints a row for each living server, or for each end of a link.
func (c *nodesCmd) Run(ctx context.Context, sys *system) error {
	table := serverTable
	if c.Links {
		table = linkTable
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]client.Server, error) {
		return api.Mesh(ctx)
	}, table)
}

// serverTable has "?" for what a server has not said.
func serverTable(servers []client.Server) [][]any {
	rows := [][]any{{"SERVER", "ZONE", "LOAD", "MAX", "DRAINING", "SEEN", "ANSWER", "CLOCK", "STORE", "WAITING", "BEHIND", "LINKS", "URL"}}
	for _, s := range servers {
		row := []any{s.ID, s.Zone, s.Load, s.MaxLoad, yes(s.Draining), millis(s.AgeMS)}
		if h := s.Health; h != nil {
			row = append(row, micros(h.RoundTripUS), fmt.Sprintf("%+dms", h.ClockAheadMS), micros(h.StoreWriteUS), h.Waiting, h.Behind)
		} else {
			row = append(row, "?", "?", "?", "?", "?")
		}
		rows = append(rows, append(row, list(s.Links), s.URL))
	}
	return rows
}

func linkTable(servers []client.Server) [][]any {
	rows := [][]any{{"FROM", "TO", "ROUND TRIP", "QUEUED", "BYTES"}}
	for _, s := range servers {
		if s.Health == nil {
			rows = append(rows, []any{s.ID, "?", "?", "?", "?"})
			continue
		}
		for _, l := range s.Health.Links {
			rows = append(rows, []any{s.ID, l.Server, micros(l.RoundTripUS), l.QueuedRecords, l.QueuedBytes})
		}
	}
	return rows
}

// micros is how a table shows microseconds: with three digits or so.
func micros(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}

func millis(ms int64) string { return micros(1000 * ms) }

// drainCmd has a server leave the mesh.
type drainCmd struct {
	remote
	ID      envelope.ServerID `arg:"" name:"server-id" help:"The server, by the name that allspark nodes shows."`
	Wait    bool              `default:"true" negatable:"" help:"Wait until it has left, and show how many clients it still has."`
	JSON    bool              `name:"json" help:"Print JSON, an object for each line."`
	Timeout time.Duration     `default:"5m" help:"How long to wait; 0 without end."`
}

// drainPoll is how often drain asks how far a server is.
const drainPoll = 500 * time.Millisecond

// draining is what drain prints as JSON.
type draining struct {
	Server      envelope.ServerID `json:"server"`
	Connections int               `json:"connections"`
	Left        bool              `json:"left"`
}

// print prints how far the server is.
func (c *drainCmd) print(sys *system, d draining) {
	switch {
	case c.JSON:
		_ = json.NewEncoder(sys.stdout).Encode(d)
	case d.Left:
		fmt.Fprintln(sys.stdout, d.Server, "has left")
	default:
		fmt.Fprintf(sys.stdout, "%s drains, %d connections\n", d.Server, d.Connections)
	}
}

// Run drains, and prints a line whenever the number of clients has changed.
func (c *drainCmd) Run(ctx context.Context, sys *system) error {
	api, err := c.api(sys)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c.Timeout, "it has not left")
	defer cancel()
	servers, err := api.Mesh(ctx)
	if err != nil {
		return err
	}
	asked := find(servers, c.ID).Answers // nobody answers when it has left
	boot, err := api.Drain(ctx, c.ID)
	if err != nil || !c.Wait {
		return err
	}
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for last := -1; ; {
		servers, err := api.Mesh(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s := find(servers, c.ID)
		if err == nil && s.Boot != boot || asked && refused(err) {
			c.print(sys, draining{Server: c.ID, Left: true})
			return nil
		}
		if err == nil && s.Load != last {
			c.print(sys, draining{Server: c.ID, Connections: s.Load})
			last = s.Load
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// refused reports whether there is nobody at the other end.
func refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// find returns a server by its name; the zero one when it is not there.
func find(servers []client.Server, id envelope.ServerID) client.Server {
	for _, s := range servers {
		if s.ID == id {
			return s
		}
	}
	return client.Server{}
}
