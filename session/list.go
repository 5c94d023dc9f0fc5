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

// SeesReaders is [Sessions.SeesMembers] for who has sent to the session by a
// name, as far as it is remembered: whoever hears who reads sees who is there.
// That the sender is the app it does not know.
func (s *Sessions) SeesReaders(ctx context.Context, name envelope.NodeID, id envelope.SessionID) (bool, error) {
	is, err := s.ruling(ctx, id)
	if err != nil || !is.membersHidden {
		return err == nil, err
	}
	return s.SeesMembers(ctx, envelope.Principal{Node: name}, id)
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
