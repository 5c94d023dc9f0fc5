package session

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// SeesMembers reports whether the caller may know who else is in a session,
// which need not exist.
func (s *Sessions) SeesMembers(ctx context.Context, who envelope.Principal, id envelope.SessionID) (bool, error) {
	ses, err := s.session(ctx, id)
	var by actor
	if err == nil {
		by, err = s.acting(ctx, who, ses)
	}
	if envelope.CodeOf(err) == envelope.NotFound {
		return false, nil
	}
	return err == nil && (!ses.MembersHidden || by.role >= Moderator), err
}
