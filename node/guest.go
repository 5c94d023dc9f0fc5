package node

import (
	"context"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

var (
	errGuest     = envelope.Errorf(envelope.Forbidden, "that needs an account: a guest joins sessions, speaks and reads there, and leaves")
	errGuestOnly = envelope.Errorf(envelope.Forbidden, "this guest joins one session only")
)

// mayGuest refuses what somebody without an account may not do, see mayDo.
//
// A guest connects, joins sessions, by its id or an alias, speaks and reads
// there, and decides about its own membership. What is not named is refused, so
// that a new command is for accounts until somebody says otherwise.
func mayGuest(who envelope.Principal, cmd gateway.Command) error {
	switch {
	case !who.Guest:
		return nil
	case who.App: // which no key says
		return errGuest
	}
	switch cmd := cmd.(type) {
	case gateway.Locate, gateway.Unsubscribe, gateway.Refresh:
	case gateway.Hello:
		return mayFollow(who, cmd.Topics)
	case gateway.Subscribe:
		return mayFollow(who, cmd.Topics)
	case gateway.History:
		if isTopic(cmd.Log) { // which anybody may read
			return mayFollow(who, []envelope.SessionID{envelope.SessionID(cmd.Log.ID)})
		}
	case gateway.GetHeader:
		if cmd.ID.IsTopic() { // likewise
			return mayFollow(who, []envelope.SessionID{cmd.ID})
		}
	case gateway.Acknowledge, gateway.MarkRead, gateway.GetSession:
	case gateway.FetchPending:
		if cmd.PushToken != "" { // as with PutPushToken
			return errGuest
		}
	case gateway.LeaveSession, gateway.RevealAnonymity, gateway.SetHeader: // the last as a game's master
	case gateway.JoinSession:
		if who.Only != "" && cmd.ID != who.Only {
			return errGuestOnly
		}
	case gateway.ChangeMember:
		if cmd.Action != gateway.Decline { // which is its own
			return errGuest
		}
	case gateway.Send:
		if cmd.Envelope.DestSession == "" {
			return errGuest
		}
	default:
		return errGuest
	}
	return nil
}

// guestGrace is how long after its end an identity still counts, because the
// clocks of servers differ.
const guestGrace = time.Minute

// retireGuests has those leave a session whose identities have ended. Nobody can
// speak for them any more; they would be in it, and have their seats, for ever.
func (n *Node) retireGuests(ctx context.Context, id envelope.SessionID) error {
	ended, err := n.sessions.Ended(ctx, id, time.Now().Add(-guestGrace))
	if err != nil {
		return err
	}
	var errs []error
	for _, guest := range ended {
		_, err := n.do(ctx, guest, gateway.LeaveSession{ID: id})
		if envelope.CodeOf(err) != envelope.Conflict { // else somebody has made it the owner
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
