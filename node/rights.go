package node

import (
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

var errRights = envelope.Errorf(envelope.Forbidden, "the credential has no right to that")

// mayDo refuses what the caller's credential is not good for. Every command
// passes here, by whichever way it comes, and nothing behind here knows of
// guests and of rights: what is let through is bound as anybody's.
func mayDo(who envelope.Principal, cmd gateway.Command) error {
	if err := mayGuest(who, cmd); err != nil {
		return err
	}
	return withinRights(who, cmd)
}

// withinRights refuses what is beyond the rights of the credential, see
// [envelope.Rights]. What is not named is refused, so that a new command is
// not for credentials with rights until somebody says which of them it takes.
func withinRights(who envelope.Principal, cmd gateway.Command) error {
	rights := who.Rights
	if rights == nil || who.App {
		return nil
	}
	may := false
	switch cmd := cmd.(type) {
	// About itself, or read by who has a right to it as a member.
	case gateway.Acknowledge, gateway.MarkRead, gateway.FetchPending, gateway.GetCursors, gateway.Trace,
		gateway.PutPushToken, gateway.DropPushToken, gateway.Mute, gateway.TestPush,
		gateway.Locate, gateway.GetPresence, gateway.Unsubscribe, gateway.Refresh, gateway.LeaveSession, gateway.RevealAnonymity:
		may = true
	case gateway.Send:
		to := cmd.Envelope.Dest()
		if in := cmd.Envelope.DestSession; in != "" { // also to somebody there alone
			to = in.Address()
		}
		may = rights.MaySend(to)
	case gateway.SetHeader:
		may = rights.MaySend(cmd.ID.Address())
	case gateway.UpdateSession:
		may = rights.MaySend(cmd.ID.Address())
	case gateway.ChangeMember:
		may = cmd.Action == gateway.Decline || rights.MaySend(cmd.ID.Address())
	case gateway.CreateSession:
		may = rights.MayCreate() && rights.MayJoin(cmd.ID)
	case gateway.JoinSession:
		may = rights.MayJoin(cmd.ID)
	case gateway.Hello:
		return mayFollow(who, cmd.Topics)
	case gateway.Subscribe:
		return mayFollow(who, cmd.Topics)
	case gateway.History:
		may = !isTopic(cmd.Log) || rights.MayJoin(envelope.SessionID(cmd.Log.ID))
	case gateway.GetHeader:
		may = !cmd.ID.IsTopic() || rights.MayJoin(cmd.ID)
	case gateway.GetSession:
		may = !cmd.ID.IsTopic() || rights.MayJoin(cmd.ID)
	}
	if !may {
		return errRights
	}
	return nil
}

// mayFollow refuses topics that the caller may not follow.
func mayFollow(who envelope.Principal, topics []envelope.SessionID) error {
	for _, id := range topics {
		switch {
		case who.Only != "" && id != who.Only:
			return errGuestOnly
		case !who.App && !who.Rights.MayJoin(id):
			return errRights
		}
	}
	return nil
}
