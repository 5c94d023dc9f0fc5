package session

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// SeesMembers reports whether the caller may know who else is in a session,
// which need not exist.
func (s *Sessions) SeesMembers(ctx context.Context, who envelope.Principal, id envelope.SessionID) (bool, error) {
	return s.whether(ctx, who, id, func(by actor, ses Session) bool {
		return !ses.MembersHidden || by.role >= Moderator
	})
}

// whether reports what is asked about the caller in a session, and false for
// outsiders and of a session that does not exist.
func (s *Sessions) whether(ctx context.Context, who envelope.Principal, id envelope.SessionID, is func(actor, Session) bool) (bool, error) {
	ses, err := s.session(ctx, id)
	var by actor
	if err == nil {
		by, err = s.acting(ctx, who, ses)
	}
	if envelope.CodeOf(err) == envelope.NotFound {
		return false, nil
	}
	return err == nil && is(by, ses), err
}
