package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// sessionCmd groups the calls about one session. Each prints the answer as JSON.
type sessionCmd struct {
	Create   sessionCreateCmd   `cmd:"" help:"Make a session, as its owner and first member."`
	Show     sessionShowCmd     `cmd:"" help:"Print a session and its members."`
	Set      sessionSetCmd      `cmd:"" help:"Change settings."`
	Join     sessionJoinCmd     `cmd:"" help:"Become a member, or accept an invitation."`
	Leave    sessionLeaveCmd    `cmd:"" help:"Be a member no more."`
	Reveal   sessionRevealCmd   `cmd:"" help:"Tell the session whose your alias is."`
	Decline  sessionDeclineCmd  `cmd:"" help:"Refuse an invitation."`
	Invite   sessionInviteCmd   `cmd:"" help:"Offer a device to join."`
	Role     sessionRoleCmd     `cmd:"" help:"Give a member another role."`
	Kick     sessionKickCmd     `cmd:"" help:"End a membership, or take an invitation back."`
	Ban      sessionBanCmd      `cmd:"" help:"End a membership for good."`
	Unban    sessionUnbanCmd    `cmd:"" help:"Let a device come back."`
	Transfer sessionTransferCmd `cmd:"" help:"Make a member the owner."`
	Master   sessionMasterCmd   `cmd:"" help:"Make a member the master of a game."`
}

// sessionCall is what all of them need.
type sessionCall struct {
	remote
	Timeout time.Duration `default:"10s" help:"How long to try; 0 without end."`
}

// print makes a call and prints the answer.
func (c *sessionCall) print(ctx context.Context, sys *system, call func(context.Context, *client.API) (any, error)) error {
	api, err := c.api(sys)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c.Timeout, "no answer")
	defer cancel()
	answer, err := call(ctx, api)
	if err != nil {
		return err
	}
	return json.NewEncoder(sys.stdout).Encode(answer)
}

// joinFlags say by what name somebody joins.
type joinFlags struct {
	Anonymous bool   `help:"Join by an alias: the one you have there, or else a random one."`
	Alias     string `placeholder:"NAME" help:"Join by this alias."`
}

func (f *joinFlags) as() []client.JoinOption {
	if f.Anonymous || f.Alias != "" {
		return []client.JoinOption{client.Anonymously(f.Alias)}
	}
	return nil
}

const settingsHelp = `Settings as JSON, such as {"anyone_can_join":false,"member_limit":8}.`

// settings reads settings as strictly as the server does.
func settings(text string) (s envelope.Settings, err error) {
	if text != "" && envelope.UnmarshalStrict([]byte(text), &s) != nil {
		return s, usageError("not a JSON object of settings: " + text)
	}
	return s, nil
}

type sessionCreateCmd struct {
	sessionCall
	joinFlags
	Settings string             `placeholder:"JSON" help:"${settings}"`
	Session  envelope.SessionID `arg:"" optional:"" help:"Default: a random one."`
}

// Run makes a session.
func (c *sessionCreateCmd) Run(ctx context.Context, sys *system) error {
	s, err := settings(c.Settings)
	if err != nil {
		return err
	}
	return c.print(ctx, sys, func(ctx context.Context, api *client.API) (any, error) {
		return api.CreateSession(ctx, c.Session, s, c.as()...)
	})
}

type sessionSetCmd struct {
	sessionCall
	Session  envelope.SessionID `arg:""`
	Settings string             `arg:"" help:"${settings}"`
}

// Run changes settings.
func (c *sessionSetCmd) Run(ctx context.Context, sys *system) error {
	change, err := settings(c.Settings)
	if err != nil {
		return err
	}
	return c.print(ctx, sys, func(ctx context.Context, api *client.API) (any, error) {
		return api.UpdateSession(ctx, c.Session, change)
	})
}

type sessionJoinCmd struct {
	ownCall
	joinFlags
}

// Run joins.
func (c *sessionJoinCmd) Run(ctx context.Context, sys *system) error {
	return c.print(ctx, sys, func(ctx context.Context, api *client.API) (any, error) {
		return api.JoinSession(ctx, c.Session, c.as()...)
	})
}

// ownCall is a call about the caller itself.
type ownCall struct {
	sessionCall
	Session envelope.SessionID `arg:""`
}

// own makes such a call, which is a method of [client.API].
func own[T any](ctx context.Context, sys *system, c *ownCall, call func(*client.API, context.Context, envelope.SessionID) (T, error)) error {
	return c.print(ctx, sys, func(ctx context.Context, api *client.API) (any, error) {
		return call(api, ctx, c.Session)
	})
}

type (
	sessionShowCmd    struct{ ownCall }
	sessionLeaveCmd   struct{ ownCall }
	sessionRevealCmd  struct{ ownCall }
	sessionDeclineCmd struct{ ownCall }
)

// Run prints the session.
func (c *sessionShowCmd) Run(ctx context.Context, sys *system) error {
	return own(ctx, sys, &c.ownCall, (*client.API).Session)
}

// Run leaves.
func (c *sessionLeaveCmd) Run(ctx context.Context, sys *system) error {
	return own(ctx, sys, &c.ownCall, (*client.API).LeaveSession)
}

// Run ends the caller's anonymity.
func (c *sessionRevealCmd) Run(ctx context.Context, sys *system) error {
	return own(ctx, sys, &c.ownCall, (*client.API).RevealAnonymity)
}

// Run declines.
func (c *sessionDeclineCmd) Run(ctx context.Context, sys *system) error {
	return own(ctx, sys, &c.ownCall, (*client.API).DeclineInvitation)
}

// memberCall is a call about another device.
type memberCall struct {
	sessionCall
	Session envelope.SessionID `arg:""`
	Node    envelope.NodeID    `arg:"" help:"The id of the device, or its alias SESSION~NAME."`
}

func (c *memberCall) act(ctx context.Context, sys *system, call func(*client.API, context.Context, envelope.SessionID, envelope.NodeID) (client.Standing, error)) error {
	return c.print(ctx, sys, func(ctx context.Context, api *client.API) (any, error) {
		return call(api, ctx, c.Session, c.Node)
	})
}

type (
	sessionKickCmd     struct{ memberCall }
	sessionBanCmd      struct{ memberCall }
	sessionUnbanCmd    struct{ memberCall }
	sessionTransferCmd struct{ memberCall }
	sessionMasterCmd   struct{ memberCall }
	sessionInviteCmd   struct {
		memberCall
		Role string `default:"member" enum:"moderator,member,reader" help:"What it will be: moderator, member or reader."`
	}
	sessionRoleCmd struct {
		memberCall
		Role string `arg:"" enum:"moderator,member,reader" help:"moderator, member or reader."`
	}
)

// Run kicks.
func (c *sessionKickCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, (*client.API).Kick)
}

// Run bans.
func (c *sessionBanCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, (*client.API).Ban)
}

// Run ends a ban.
func (c *sessionUnbanCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, (*client.API).Unban)
}

// Run makes a member the owner.
func (c *sessionTransferCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, (*client.API).TransferSession)
}

// Run makes a member the master of a game.
func (c *sessionMasterCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, (*client.API).AppointMaster)
}

// Run invites.
func (c *sessionInviteCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, func(api *client.API, ctx context.Context, id envelope.SessionID, node envelope.NodeID) (client.Standing, error) {
		return api.Invite(ctx, id, node, c.Role)
	})
}

// Run gives a member a role.
func (c *sessionRoleCmd) Run(ctx context.Context, sys *system) error {
	return c.act(ctx, sys, func(api *client.API, ctx context.Context, id envelope.SessionID, node envelope.NodeID) (client.Standing, error) {
		return api.SetRole(ctx, id, node, c.Role)
	})
}
