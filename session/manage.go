package session

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
)

// The calls in this file act on other devices. Outsiders are refused with
// NotFound, members without the right with Forbidden, and what the state of
// the other device does not allow with Conflict or, when it is not there, with
// errNotIn. The app may do what the owner may, without being a member. A call
// that finds done what it asks for changes nothing and returns the same.

// Invite offers a device to join in a role, which a message in its own log
// tells it. Nobody is added by that: joining is accepting. The invitation is
// noted before it is told, so a call that fails is to be repeated.
func (s *Sessions) Invite(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID, role Role) (Member, error) {
	m, err := s.act(ctx, who, id, node, func(by Role, _ Session, m Member) (Member, bool, error) {
		switch {
		case by < Moderator, role == Moderator && by != Owner:
			return m, false, errForbidden
		case m.in():
			return m, false, nil
		case m.State == Banned:
			return m, false, errBanned
		case m.State == Invited:
			changed := m.Role != role
			m.Role = role
			return m, changed, nil
		}
		m.State, m.Role, m.By, m.Op = Invited, role, who.Node, rand.Text()
		return m, true, spend(&m.Paid, who)
	})
	if err == nil && m.State == Invited {
		told := invitation(m)
		_, err = s.append(ctx, node.Address(), &told)
	}
	return m, err
}

// Decline refuses an invitation.
func (s *Sessions) Decline(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	return s.settle(ctx, id, who.Node, func(_ Session, m Member) (Member, bool, error) {
		switch {
		case m.State == Declined:
			return m, false, nil
		case m.State == Invited:
			m.State = Declined
			return m, true, nil
		case m.in():
			return m, false, envelope.Errorf(envelope.Conflict, "the invitation has been accepted")
		}
		return m, false, errOutside
	})
}

// Kick ends a device's membership, or takes an invitation back. The device may
// join again as any other.
func (s *Sessions) Kick(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by Role, ses Session, m Member) (Member, bool, error) {
		if err := mayRemove(by, ses, m); err != nil {
			return m, false, err
		}
		switch {
		case m.in():
			m.State, m.By, m.Next = Leaving, who.Node, Ordinary
			return m, true, nil
		case m.State == Invited:
			m.State, m.Role = Left, Ordinary
			return m, true, nil
		case m.State == Left, m.State == Declined, m.State == Banned:
			return m, false, nil
		}
		return m, false, errNotIn
	})
}

// Ban ends a device's membership, if it has one, and keeps it from joining and
// from being invited.
func (s *Sessions) Ban(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by Role, ses Session, m Member) (Member, bool, error) {
		if err := mayRemove(by, ses, m); err != nil || m.State == Banned {
			return m, false, err
		}
		if m.in() {
			m.State, m.By, m.Next = Leaving, who.Node, Outcast
		} else {
			m.State, m.By = Banned, who.Node
		}
		return m, true, nil
	})
}

// Unban lets a device join and be invited again.
func (s *Sessions) Unban(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by Role, _ Session, m Member) (Member, bool, error) {
		if by < Moderator {
			return m, false, errForbidden
		}
		banned := m.State == Banned
		if banned {
			m.State = Left
		}
		return m, banned, nil
	})
}

// SetRole gives a member another role, but the owner's. Only the owner makes
// and unmakes moderators.
func (s *Sessions) SetRole(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID, role Role) (Member, error) {
	return s.act(ctx, who, id, node, func(by Role, ses Session, m Member) (Member, bool, error) {
		switch {
		case by < Moderator, by == Moderator && (role == Moderator || m.Role == Moderator):
			return m, false, errForbidden
		case !m.in():
			return m, false, errNotIn
		case ses.Owner == node:
			return m, false, errIsOwner
		case m.Role == role:
			return m, false, nil
		}
		m.State, m.Next, m.By = Changing, role, who.Node
		return m, true, spend(&m.Paid, who)
	})
}

// Transfer makes a member the owner. Who was it before is a moderator then.
func (s *Sessions) Transfer(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by Role, ses Session, m Member) (Member, bool, error) {
		switch {
		case ses.Owner == node && (by == Owner || ses.Former == who.Node):
			return m, false, nil
		case by != Owner:
			return m, false, errForbidden
		case !m.in():
			return m, false, errNotIn
		}
		m.State, m.Next, m.Reign, m.By = Changing, Owner, ses.Reign, who.Node
		return m, true, spend(&m.Paid, who)
	})
}

// Add makes a device a member without asking it. Only the app may.
func (s *Sessions) Add(ctx context.Context, who envelope.Principal, id envelope.SessionID, device envelope.Principal, role Role) (Member, error) {
	return s.act(ctx, who, id, device.Node, func(_ Role, ses Session, m Member) (Member, bool, error) {
		switch {
		case !who.App:
			return m, false, errForbidden
		case m.in():
			return m, false, nil
		case m.State == Banned:
			return m, false, errBanned
		case ses.Owner == device.Node:
			role = Moderator
		}
		m.State, m.Role, m.Client, m.By = Joining, role, device.Client, who.Node
		return m, true, nil
	})
}

// A SettingsChange says which settings are to be others; nil leaves one as it is.
type SettingsChange struct {
	AnyoneCanJoin *bool
	MemberLimit   *int
	MembersHidden *bool
}

// Update changes settings, which only the owner may, and returns the session.
// A limit holds for those who ask to join after it was set; nobody has to go.
func (s *Sessions) Update(ctx context.Context, who envelope.Principal, id envelope.SessionID, change SettingsChange) (Session, error) {
	return again(ctx, func() (Session, error) {
		ses, err := s.session(ctx, id)
		if err != nil {
			return Session{}, err
		}
		role, err := s.acting(ctx, who, ses)
		if err != nil {
			return Session{}, err
		}
		if role != Owner {
			return Session{}, errForbidden
		}
		next := change.of(ses.Settings)
		if err := next.check(); err != nil || next == ses.Settings {
			return ses, err
		}
		if err := spend(&ses.Paid, who); err != nil {
			return Session{}, err
		}
		ses.Op, ses.By, ses.Next = rand.Text(), who.Node, next
		ses.Version++
		if err = s.store.UpdateSession(ctx, ses); err == nil {
			ses, err = s.apply(ctx, ses)
		}
		return ses, err
	})
}

func (c SettingsChange) of(s Settings) Settings {
	if c.AnyoneCanJoin != nil {
		s.AnyoneCanJoin = *c.AnyoneCanJoin
	}
	if c.MemberLimit != nil {
		s.MemberLimit = *c.MemberLimit
	}
	if c.MembersHidden != nil {
		s.MembersHidden = *c.MembersHidden
	}
	return s
}

// apply completes a change of settings: its entry first, then the outcome.
func (s *Sessions) apply(ctx context.Context, ses Session) (Session, error) {
	entry := settingsEntry(ses)
	if _, err := s.append(ctx, ses.ID.Address(), &entry); err != nil {
		return Session{}, err
	}
	ses.Settings, ses.Next, ses.Op, ses.By = ses.Next, Settings{}, "", ""
	ses.Version++
	return ses, s.store.UpdateSession(ctx, ses)
}

// crown makes a device the owner, and reports false when somebody else has
// become it since that was asked for.
func (s *Sessions) crown(ctx context.Context, m Member) (bool, error) {
	ses, err := s.session(ctx, m.Session)
	if err != nil {
		return false, err
	}
	if ses.Reign != m.Reign {
		return ses.Reign == m.Reign+1 && ses.Owner == m.Node, nil
	}
	ses.Former, ses.Owner = ses.Owner, m.Node
	ses.Reign++
	ses.Version++
	return true, s.store.UpdateSession(ctx, ses)
}

// act settles the membership of another device as change says, which is told
// the role of the caller.
func (s *Sessions) act(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID, change func(by Role, ses Session, m Member) (Member, bool, error)) (Member, error) {
	if !envelope.ValidID(string(node)) {
		return Member{}, envelope.Errorf(envelope.BadRequest, "node_id has not the form of an id")
	}
	return s.settle(ctx, id, node, func(ses Session, m Member) (Member, bool, error) {
		by, err := s.acting(ctx, who, ses)
		if err != nil {
			return m, false, err
		}
		return change(by, ses, m)
	})
}

// acting returns the role in which the caller acts; NotFound for outsiders.
func (s *Sessions) acting(ctx context.Context, who envelope.Principal, ses Session) (Role, error) {
	if who.App {
		return Owner, nil
	}
	m, err := s.rest(ctx, ses.ID, who.Node)
	if err != nil {
		return 0, err
	}
	if !m.in() {
		return 0, errOutside
	}
	return ses.RoleOf(m), nil
}

// mayRemove refuses unless one of that role may put the device out.
func mayRemove(by Role, ses Session, m Member) error {
	switch role := ses.RoleOf(m); {
	case by < Moderator, by == Moderator && role >= Moderator:
		return errForbidden
	case role == Owner:
		return errIsOwner
	}
	return nil
}

func (s *Sessions) member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	m, err := s.store.Member(ctx, id, node)
	if errors.Is(err, ErrNotFound) {
		return Member{Session: id, Node: node}, nil
	}
	return m, err
}

var (
	errForbidden = envelope.Errorf(envelope.Forbidden, "not in your role")
	errNotIn     = envelope.Errorf(envelope.NotFound, "that device is not in the session")
	errBanned    = envelope.Errorf(envelope.Conflict, "that device is banned")
)
