package node

import (
	"context"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// In a game the master hears what the others send, and they hear the master.
// What is stored of the others stands in the session's log like everything, and
// is passed over by readers that are not the master. So numbers, cursors and the
// history are those of any session, and who becomes master finds what the one
// before has been sent.
//
// Who is master changes by an entry of the log. A reader that passes it knows
// from then on, in the log's order; where it begins to read, it asks.

// meant reports whether an entry is for the device: always, but in a game.
func (s *stays) meant(env *envelope.Envelope) bool { return !env.ForMaster || s.master }

// crown learns from an entry of a session's log whether the device is the master
// of the game from then on.
func (f *follow) crown(env *envelope.Envelope, who envelope.Principal) {
	if f.log.Kind != envelope.KindSession || env.Type != envelope.TypeMaster {
		return
	}
	if name, ok := session.NewMaster(env); ok {
		f.crowned(name != "" && (name == who.Node || name == f.alias))
	}
}

// masterOf returns the logs of those of a device's sessions that are games of
// which it is the master. It is asked when the heads of the logs are known: a
// change that has not come to the session's row yet is completed by asking, so
// none up to those heads is missed.
func (n *Node) masterOf(ctx context.Context, device envelope.NodeID, members []session.Member) (map[envelope.Address]bool, error) {
	var is map[envelope.Address]bool
	for _, m := range members {
		in, err := n.standing(ctx, device, m)
		if err != nil {
			return nil, err
		}
		if m.Kind == session.Game && in.open() {
			if is == nil {
				is = make(map[envelope.Address]bool)
			}
			is[m.Session.Address()] = in.master
		}
	}
	return is, nil
}

// standing returns the stays of a membership and, of a game, whether the device
// is the master now.
func (n *Node) standing(ctx context.Context, device envelope.NodeID, m session.Member) (stays, error) {
	in := staysOf(m)
	if m.Kind != session.Game || !in.open() {
		return in, nil
	}
	var err error
	in.master, err = n.sessions.IsMaster(ctx, m.Session, device)
	return in, err
}

// plays is masterOf for the connection's device, which follows the logs now: the
// games are looked after here from then on.
func (c *conn) plays(ctx context.Context, members []session.Member) (map[envelope.Address]bool, error) {
	master, err := c.n.masterOf(ctx, c.who.Node, members)
	for log := range master {
		c.n.masters.watch(envelope.SessionID(log.ID))
	}
	return master, err
}

// meantFor returns those of the members of a session whom an entry of its log is
// for: all, but in a game of what a player has sent the master.
func (n *Node) meantFor(ctx context.Context, log envelope.Address, seq uint64, members []session.Member) ([]session.Member, error) {
	if !slices.ContainsFunc(members, func(m session.Member) bool { return m.Kind == session.Game }) {
		return members, nil
	}
	read, err := n.inbox.Read(ctx, log, seq-1, 1, 1)
	if err != nil || len(read) == 0 || read[0].Seq != seq || !read[0].ForMaster {
		return members, err
	}
	master, err := n.sessions.Master(ctx, envelope.SessionID(log.ID))
	return slices.DeleteFunc(members, func(m session.Member) bool { return m.Node != master }), err
}
