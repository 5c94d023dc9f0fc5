package session

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// MayDelete refuses unless the caller may delete what another device has sent
// to a session: whoever may put that device out may, see [Sessions.Kick], also
// when it has gone by itself. It is NotFound for outsiders, else Forbidden.
func (s *Sessions) MayDelete(ctx context.Context, who envelope.Principal, id envelope.SessionID, author envelope.NodeID) error {
	ses, err := s.session(ctx, id)
	if err != nil {
		return err
	}
	by, err := s.acting(ctx, who, ses)
	if err != nil {
		return err
	}
	m, err := s.member(ctx, id, author)
	if err != nil {
		return refuse(err)
	}
	if mayRemove(by.role, ses, m) != nil {
		return errForbidden
	}
	return nil
}
