package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// changeMember carries out what somebody does to the membership of a device.
func (n *Node) changeMember(ctx context.Context, who envelope.Principal, cmd gateway.ChangeMember) (gateway.Event, error) {
	role, err := session.ParseRole(cmd.Role)
	if err != nil {
		return nil, err
	}
	var m session.Member
	switch cmd.Action {
	case gateway.Invite:
		m, err = n.sessions.Invite(ctx, who, cmd.ID, cmd.Node, role)
	case gateway.Decline:
		m, err = n.sessions.Decline(ctx, who, cmd.ID)
	case gateway.Kick:
		m, err = n.sessions.Kick(ctx, who, cmd.ID, cmd.Node)
	case gateway.Ban:
		m, err = n.sessions.Ban(ctx, who, cmd.ID, cmd.Node)
	case gateway.Unban:
		m, err = n.sessions.Unban(ctx, who, cmd.ID, cmd.Node)
	case gateway.SetRole:
		m, err = n.sessions.SetRole(ctx, who, cmd.ID, cmd.Node, role)
	case gateway.Transfer:
		m, err = n.sessions.Transfer(ctx, who, cmd.ID, cmd.Node)
	case gateway.Appoint:
		m, err = n.sessions.Appoint(ctx, who, cmd.ID, cmd.Node)
	case gateway.Add:
		if who.App { // others are refused
			err = n.sessions.AwaitParting(ctx, cmd.ID, cmd.Node, session.As(cmd.As))
		}
		if err != nil {
			return nil, err
		}
		m, err = n.sessions.Add(ctx, who, cmd.ID, envelope.Principal{Node: cmd.Node, Client: cmd.Client}, role, session.As(cmd.As))
	default:
		err = envelope.Errorf(envelope.BadRequest, "no such action")
	}
	if err != nil {
		return nil, err
	}
	switch cmd.Action {
	case gateway.Kick, gateway.Ban, gateway.Add:
		n.moved(m.Device, m.Session)
		n.succession(ctx, m)
	}
	if cmd.Action == gateway.Kick || cmd.Action == gateway.Ban {
		n.waker.left(ctx, m)
	}
	info := describeMember(m, m.Role)
	if cmd.Action == gateway.Transfer {
		info.Role = session.Owner.String()
	}
	return info, nil
}

// describe tells a device of a session and of those of its members that it may see.
func describe(ses session.Session, members []session.Member, to envelope.NodeID) gateway.SessionInfo {
	info := gateway.SessionInfo{
		ID: ses.ID, Owner: ses.Owner, Master: ses.Master, Settings: ses.Wire(), Created: time.UnixMilli(ses.Created),
	}
	for _, m := range members {
		of := describeMember(m, ses.RoleOf(m))
		if m.Device == to {
			info.Own = of
		}
		if m.State != session.Invited {
			info.Members = append(info.Members, of)
		}
	}
	return info
}

func describeMember(m session.Member, role session.Role) gateway.MemberInfo {
	info := gateway.MemberInfo{Node: m.Node, State: m.State.String(), Role: role.String()}
	if !m.Hidden() {
		info.Client, info.Device = m.Client, m.Device
	}
	if last := len(m.Spans) - 1; last >= 0 {
		info.Since, info.Until = m.Spans[last].From, m.Spans[last].Until
	}
	return info
}
