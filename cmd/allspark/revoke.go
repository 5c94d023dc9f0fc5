package main

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// revokeCmd makes auth keys worth nothing. It needs an auth key of the app.
type revokeCmd struct {
	operate

	JTI    string            `name:"jti" xor:"what" group:"One of:" placeholder:"JTI" help:"The auth key of that name (jti)."`
	Client envelope.ClientID `xor:"what" group:"One of:" placeholder:"CLIENT" help:"All auth keys of this user."`
	Node   envelope.NodeID   `xor:"what" group:"One of:" placeholder:"NODE" help:"All auth keys of this device."`
	All    bool              `xor:"what" group:"One of:" help:"Everybody's auth keys, those of the app too."`
	List   bool              `xor:"what" group:"One of:" help:"Revoke nothing, and print what is revoked."`

	Before string `placeholder:"TIME" help:"Only what was issued before that time, such as 2026-01-31T12:00:00Z. Default: now."`
}

// Run revokes, and prints what is revoked.
func (c *revokeCmd) Run(ctx context.Context, sys *system) error {
	what := client.Revocation{JTI: c.JTI, Client: c.Client, Node: c.Node, All: c.All}
	if !c.List && what == (client.Revocation{}) {
		return usageError("give one of --jti, --client, --node, --all and --list")
	}
	if c.Before != "" {
		at, err := time.Parse(time.RFC3339, c.Before)
		if err != nil || c.List || c.JTI != "" {
			return usageError("--before is a time such as 2026-01-31T12:00:00Z, and goes with --client, --node and --all")
		}
		what.Before = at.UnixMilli()
	}
	if c.List {
		return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (all []client.Revocation, err error) {
			for page := (client.RevocationsPage{More: true}); page.More; {
				if page, err = api.Revocations(ctx, page.Next, 0); err != nil {
					return nil, err
				}
				all = append(all, page.Revocations...)
			}
			return all, nil
		}, revocations)
	}
	return show(ctx, sys, &c.operate, func(ctx context.Context, api *client.API) (client.Revocation, error) {
		return api.Revoke(ctx, what)
	}, func(r client.Revocation) [][]any { return revocations([]client.Revocation{r}) })
}

// revocations makes a row of each.
func revocations(of []client.Revocation) [][]any {
	rows := [][]any{{"REVOKED", "ID", "ISSUED BEFORE", "KEPT UNTIL"}}
	for _, r := range of {
		what, id := "all", ""
		switch {
		case r.JTI != "":
			what, id = "jti", r.JTI
		case r.Client != "":
			what, id = "client", string(r.Client)
		case r.Node != "":
			what, id = "node", string(r.Node)
		}
		rows = append(rows, []any{what, id, at(r.Before), at(r.Expires)})
	}
	return rows
}
