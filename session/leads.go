package session

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// Leads reports whether the caller is the owner of a session, one of its
// moderators or a game's master, or the app. The session need not exist.
func (s *Sessions) Leads(ctx context.Context, who envelope.Principal, id envelope.SessionID) (bool, error) {
	return s.whether(ctx, who, id, actor.leads)
}

func (by actor) leads(ses Session) bool { return by.role >= Moderator || by.name == ses.Master }
