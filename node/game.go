package node

import (
	"context"

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
		f.master = name != "" && (name == who.Node || name == f.alias)
	}
}

// masterOf returns the logs of those of a device's sessions that are games of
// which it is the master. It is asked when the logs are followed and their heads
// are known: a change that has not come to the session's row yet is completed by
// asking, so none up to those heads is missed.
func (n *Node) masterOf(ctx context.Context, device envelope.NodeID, members []session.Member) (map[envelope.Address]bool, error) {
	var is map[envelope.Address]bool
	for _, m := range members {
		if m.Kind != session.Game {
			continue
		}
		n.masters.watch(m.Session)
		master, err := n.sessions.IsMaster(ctx, m.Session, device)
		if err != nil {
			return nil, err
		}
		if master && is == nil {
			is = make(map[envelope.Address]bool)
		}
		if master {
			is[m.Session.Address()] = true
		}
	}
	return is, nil
}
