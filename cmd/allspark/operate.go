package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// operate is what commands need that show operators something as a table.
type operate struct {
	remote
	JSON    bool          `name:"json" help:"Print JSON."`
	Timeout time.Duration `default:"10s" help:"How long to try; 0 without end."`
}

// show makes a call and prints the answer: as JSON, or the rows that table makes
// of it, the first of which names the columns.
func show[T any](ctx context.Context, sys *system, o *operate, call func(context.Context, *client.API) (T, error), table func(T) [][]any) error {
	api, err := o.api(sys)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, o.Timeout, "no answer")
	defer cancel()
	answer, err := call(ctx, api)
	if err != nil {
		return err
	}
	if o.JSON {
		return json.NewEncoder(sys.stdout).Encode(answer)
	}
	w := tabwriter.NewWriter(sys.stdout, 0, 0, 2, ' ', 0)
	for _, row := range table(answer) {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = fmt.Sprint(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// yes is how a table says what is so.
func yes(so bool) string {
	if so {
		return "yes"
	}
	return "no"
}

// at is how a table tells a time.
func at(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

// list is how a table shows several servers.
func list(ids []envelope.ServerID) string {
	text := make([]string, len(ids))
	for i, id := range ids {
		text[i] = string(id)
	}
	return strings.Join(text, ",")
}

// edgesCmd shows where somebody can be reached.
type edgesCmd struct {
	operate
	Address string `arg:"" help:"node:ID, client:ID or session:ID."`
}

// Run prints a row for each server with an edge.
func (c *edgesCmd) Run(ctx context.Context, sys *system) error {
	of, err := envelope.ParseAddress(c.Address)
	if err != nil {
		return usageError(err.Error())
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (client.Edges, error) {
		return api.Edges(ctx, of)
	}, func(e client.Edges) [][]any {
		rows := [][]any{{"ADDRESS", "SERVER", "BOOT", "ALIVE", "LAST SEEN"}}
		for _, edge := range e.Edges {
			rows = append(rows, []any{e.Address, edge.Server, edge.Boot, yes(edge.Alive), at(e.LastSeen)})
		}
		if len(e.Edges) == 0 {
			rows = append(rows, []any{e.Address, "", "", "", at(e.LastSeen)})
		}
		return rows
	})
}

// sessionsCmd shows sessions and who is in them.
type sessionsCmd struct {
	operate
	Sessions []envelope.SessionID `arg:"" optional:"" name:"session" help:"Which. Default: all there are, without who is in them."`
}

// Run prints a row for each member, or for each session there is.
func (c *sessionsCmd) Run(ctx context.Context, sys *system) error {
	if len(c.Sessions) == 0 {
		return c.all(ctx, sys)
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (of []client.Session, err error) {
		for _, id := range c.Sessions {
			s, err := api.Session(ctx, id)
			for page := s; err == nil && page.More; {
				if page, err = api.SessionMembers(ctx, id, page.Next, 0); err == nil {
					s.Members, s.Next, s.More = append(s.Members, page.Members...), "", false
				}
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
			of = append(of, s)
		}
		return of, nil
	}, func(of []client.Session) [][]any {
		rows := [][]any{{"SESSION", "KIND", "CREATED", "MEMBER", "CLIENT", "ROLE", "SINCE"}}
		for _, s := range of {
			kind := kindOf(s)
			for _, m := range s.Members {
				rows = append(rows, []any{s.ID, kind, at(s.CreatedMS), m.Node, m.Client, m.Role, m.Since})
			}
			if len(s.Members) == 0 {
				rows = append(rows, []any{s.ID, kind, at(s.CreatedMS), "", "", "", ""})
			}
		}
		return rows
	})
}

// all prints a row for each session there is.
func (c *sessionsCmd) all(ctx context.Context, sys *system) error {
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (all []client.Session, err error) {
		for page := (client.SessionsPage{More: true}); page.More; {
			if page, err = api.Sessions(ctx, page.Next, 0); err != nil {
				return nil, err
			}
			all = append(all, page.Sessions...)
		}
		return all, nil
	}, func(all []client.Session) [][]any {
		rows := [][]any{{"SESSION", "KIND", "CREATED", "OWNER", "MASTER"}}
		for _, s := range all {
			rows = append(rows, []any{s.ID, kindOf(s), at(s.CreatedMS), s.Owner, s.Master})
		}
		return rows
	})
}

func kindOf(s client.Session) string {
	if s.Kind == nil {
		return ""
	}
	return *s.Kind
}

// inboxCmd shows what waits for a device.
type inboxCmd struct {
	operate
	Node envelope.NodeID `arg:"" help:"The device."`
}

// waiting is how far a device is behind in a log.
type waiting struct {
	client.Cursor
	Head    uint64 `json:"head"`
	Waiting uint64 `json:"waiting"`
}

// Run prints a row for each log that the device has a position in, and for its own.
func (c *inboxCmd) Run(ctx context.Context, sys *system) error {
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]waiting, error) {
		return inboxOf(ctx, api, c.Node)
	}, func(logs []waiting) [][]any {
		rows := [][]any{{"LOG", "HEAD", "DELIVERED", "READ", "WAITING"}}
		for _, l := range logs {
			rows = append(rows, []any{l.Log, l.Head, l.Delivered, l.Read, l.Waiting})
		}
		return rows
	})
}

func inboxOf(ctx context.Context, api *client.API, node envelope.NodeID) (logs []waiting, err error) {
	own := node.Address().String()
	found := false
	q := client.CursorsQuery{Node: node}
	for more := true; more; {
		page, err := api.Cursors(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, cursor := range page.Cursors {
			found = found || cursor.Log == own
			logs = append(logs, waiting{Cursor: cursor})
		}
		q.After, more = page.Next, page.More
	}
	if !found {
		logs = append(logs, waiting{Cursor: client.Cursor{Log: own}})
	}
	for i := range logs {
		l := &logs[i]
		log, err := envelope.ParseAddress(l.Log)
		if err != nil {
			return nil, err
		}
		page, err := api.History(ctx, client.HistoryQuery{Log: log, After: l.Delivered, Limit: 1})
		if err != nil {
			return nil, err
		}
		l.Head = page.Head
		if first := max(l.Delivered+1, page.Floor); page.Head >= first {
			l.Waiting = page.Head - first + 1
		}
	}
	return logs, nil
}

// traceCmd shows what has become of a message.
type traceCmd struct {
	operate
	To        envelope.NodeID    `xor:"device" placeholder:"NODE" help:"The device that it was sent to."`
	ToClient  envelope.ClientID  `xor:"device,session" placeholder:"CLIENT" help:"The user that it was sent to."`
	ToSession envelope.SessionID `xor:"session" placeholder:"SESSION" help:"The session that it was sent to."`
	From      envelope.NodeID    `placeholder:"NODE" help:"Who sent it. Default: whose the auth key is."`
	ID        string             `arg:"" name:"id" help:"The message's id."`
}

// Run prints a row for each reader.
func (c *traceCmd) Run(ctx context.Context, sys *system) error {
	e := envelope.Envelope{ID: c.ID, SrcNode: c.From, DestNode: c.To, DestClient: c.ToClient, DestSession: c.ToSession}
	if err := e.CheckDest(); err != nil {
		return usageError("give one of --to, --to-client and --to-session")
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (client.Traced, error) {
		return api.Trace(ctx, e)
	}, func(t client.Traced) [][]any {
		rows := [][]any{{"LOG", "SEQ", "ACCEPTED", "READER", "SERVER", "WRITTEN", "DELIVERED", "READ"}}
		for _, r := range t.Readers {
			written := ""
			if r.Server != "" { // else nobody has looked
				written = yes(r.Written)
			}
			rows = append(rows, []any{t.Log, t.Seq, at(t.Accepted), r.Node, r.Server, written, yes(r.Delivered), yes(r.Read)})
		}
		if len(t.Readers) == 0 {
			rows = append(rows, []any{t.Log, t.Seq, at(t.Accepted), "", list(t.Servers), "", "", ""})
		}
		return rows
	})
}

// disconnectCmd ends connections.
type disconnectCmd struct {
	operate
	Node   envelope.NodeID   `xor:"who" group:"One of:" placeholder:"NODE" help:"The device."`
	Client envelope.ClientID `xor:"who" group:"One of:" placeholder:"CLIENT" help:"All devices of the user."`
	Code   envelope.Code     `default:"going_away" enum:"going_away,unauthorized,forbidden" help:"going_away: it may come back; unauthorized: with a new validation token; forbidden: not."`
	Reason string            `help:"What it is told."`
}

// Run prints the servers where there was a connection.
func (c *disconnectCmd) Run(ctx context.Context, sys *system) error {
	if c.Node == "" && c.Client == "" {
		return usageError("give --node or --client")
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) ([]envelope.ServerID, error) {
		return api.Disconnect(ctx, client.Disconnection{Node: c.Node, Client: c.Client, Code: c.Code, Reason: c.Reason})
	}, func(servers []envelope.ServerID) [][]any {
		rows := [][]any{{"SERVER"}}
		for _, s := range servers {
			rows = append(rows, []any{s})
		}
		return rows
	})
}
