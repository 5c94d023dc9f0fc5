package node

import (
	"context"
	"slices"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// maxListed bounds a page of sessions, of members and of revocations.
const maxListed = 1000

func pageLimit(asked int) int {
	if asked <= 0 || asked > maxListed {
		return maxListed
	}
	return asked
}

// cut returns the first of what is in order, as many as a page has, and whether
// there are more.
func cut[T any](of []T, asked int) (page []T, more bool) {
	limit := pageLimit(asked)
	return of[:min(len(of), limit)], len(of) > limit
}

// listSessions carries out [gateway.ListSessions].
func (n *Node) listSessions(ctx context.Context, who envelope.Principal, cmd gateway.ListSessions) (gateway.Event, error) {
	if !who.App {
		return nil, errNotApp
	}
	found, err := n.cfg.Sessions.List(ctx, cmd.After, pageLimit(cmd.Limit)+1)
	if err != nil {
		return nil, err
	}
	var reply gateway.Sessions
	found, reply.More = cut(found, cmd.Limit)
	for _, ses := range found {
		reply.Of = append(reply.Of, describe(ses, nil, who.Node))
		reply.Next = ses.ID
	}
	return reply, nil
}

// pageOfMembers leaves those of a session's members that were asked for.
func pageOfMembers(info gateway.SessionInfo, cmd gateway.GetSession) gateway.SessionInfo {
	slices.SortFunc(info.Members, func(a, b gateway.MemberInfo) int { return strings.Compare(string(a.Node), string(b.Node)) })
	if cmd.All {
		return info
	}
	behind, _ := slices.BinarySearchFunc(info.Members, cmd.After, func(m gateway.MemberInfo, after envelope.NodeID) int {
		if m.Node <= after {
			return -1
		}
		return 1
	})
	info.Members, info.More = cut(info.Members[behind:], cmd.Limit)
	if info.More {
		info.Next = info.Members[len(info.Members)-1].Node
	}
	return info
}

// revocations carries out [gateway.GetRevocations].
func (n *Node) revocations(who envelope.Principal, cmd gateway.GetRevocations) (gateway.Event, error) {
	if err := n.mayRevoke(who); err != nil {
		return nil, err
	}
	rows := n.revoker.rows.All()
	for len(rows) > 0 && rows[0].Name() <= cmd.After {
		rows = rows[1:]
	}
	var reply gateway.Revocations
	rows, reply.More = cut(rows, cmd.Limit)
	for _, row := range rows {
		reply.Of = append(reply.Of, gateway.Revoke(row))
		reply.Next = row.Name()
	}
	return reply, nil
}
