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
	m, err := s.act(ctx, who, id, node, func(by actor, _ Session, m Member) (Member, bool, error) {
		switch {
		case by.role < Moderator, role == Moderator && by.role != Owner:
			return m, false, errForbidden
		case m.in():
			return m, false, nil
		case m.State == Banned:
			return m, false, errBanned
		case m.Node != m.Device: // who is to hear of it by what name?
			return m, false, errNotIn
		case m.State == Invited:
			changed := m.Role != role
			m.Role = role
			return m, changed, nil
		}
		m.State, m.Role, m.By, m.Op = Invited, role, by.name, rand.Text()
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
	return s.act(ctx, who, id, node, func(by actor, ses Session, m Member) (Member, bool, error) {
		if err := mayRemove(by.role, ses, m); err != nil {
			return m, false, err
		}
		switch {
		case m.in():
			m.State, m.By, m.Next = Leaving, by.name, Ordinary
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
	return s.act(ctx, who, id, node, func(by actor, ses Session, m Member) (Member, bool, error) {
		if err := mayRemove(by.role, ses, m); err != nil || m.State == Banned {
			return m, false, err
		}
		if m.in() {
			m.State, m.By, m.Next = Leaving, by.name, Outcast
		} else {
			m.State, m.By = Banned, by.name
		}
		return m, true, nil
	})
}

// Unban lets a device join and be invited again.
func (s *Sessions) Unban(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by actor, _ Session, m Member) (Member, bool, error) {
		if by.role < Moderator {
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
	return s.act(ctx, who, id, node, func(by actor, ses Session, m Member) (Member, bool, error) {
		switch {
		case by.role < Moderator, by.role == Moderator && (role == Moderator || m.Role == Moderator):
			return m, false, errForbidden
		case !m.in():
			return m, false, errNotIn
		case ses.Owner == node:
			return m, false, errIsOwner
		case m.Role == role:
			return m, false, nil
		}
		m.State, m.Next, m.By = Changing, role, by.name
		return m, true, spend(&m.Paid, who)
	})
}

// Transfer makes a member the owner. Who was it before is a moderator then.
func (s *Sessions) Transfer(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.act(ctx, who, id, node, func(by actor, ses Session, m Member) (Member, bool, error) {
		switch {
		case ses.Owner == node && (by.role == Owner || ses.Former == by.name):
			return m, false, nil
		case by.role != Owner:
			return m, false, errForbidden
		case !m.in():
			return m, false, errNotIn
		}
		m.State, m.Next, m.Reign, m.By = Changing, Owner, ses.Reign, by.name
		return m, true, spend(&m.Paid, who)
	})
}

// Add makes a device a member without asking it, which a message in its own
// log tells it. Only the app may.
func (s *Sessions) Add(ctx context.Context, who envelope.Principal, id envelope.SessionID, device envelope.Principal, role Role, as As) (Member, error) {
	node := device.Node
	if !envelope.ValidID(string(node)) {
		return Member{}, envelope.Errorf(envelope.BadRequest, "node_id is not the id of a device")
	}
	if as.Anonymous && who.App {
		ses, err := s.session(ctx, id)
		if err == nil && ses.NamesOnly {
			err = errNamesOnly
		}
		if err == nil {
			node, err = s.alias(ctx, device, id, as.Name, true)
		}
		if err != nil {
			return Member{}, err
		}
	}
	m, err := s.act(ctx, who, id, node, func(_ actor, ses Session, m Member) (Member, bool, error) {
		if !who.App {
			return m, false, errForbidden
		}
		if m.in() {
			return m, false, nil
		}
		other, err := s.rest(ctx, id, m.other())
		if err != nil {
			return m, false, err
		}
		switch {
		case m.State == Banned, m.Node != m.Device && other.State == Banned:
			return m, false, errBanned // what has become of an alias, the app does not hear
		case other.seated():
			return m, false, errOtherName
		case ses.Owner == m.Node:
			role = Moderator
		}
		m.State, m.Role, m.Client, m.By = Joining, role, device.Client, who.Node
		return m, true, s.fence(ctx, other)
	})
	if err == nil && m.State == Joined && m.By != "" {
		told := addition(m)
		_, err = s.append(ctx, m.Node.Address(), &told)
	}
	return m, err
}

// Update changes settings, which only the owner may, and returns the session.
// A limit holds for those who ask to join after it was set; nobody has to go.
func (s *Sessions) Update(ctx context.Context, who envelope.Principal, id envelope.SessionID, change envelope.Settings) (Session, error) {
	return again(ctx, func() (Session, error) {
		ses, err := s.session(ctx, id)
		if err != nil {
			return Session{}, err
		}
		by, err := s.acting(ctx, who, ses)
		if err != nil {
			return Session{}, err
		}
		if by.role != Owner {
			return Session{}, errForbidden
		}
		next, err := ses.With(change)
		if err == nil && next.Kind != ses.Kind {
			err = envelope.Errorf(envelope.BadRequest, "the kind of a session does not change")
		}
		if err != nil || next == ses.Settings {
			return ses, err
		}
		if err := spend(&ses.Paid, who); err != nil {
			return Session{}, err
		}
		ses.Op, ses.By, ses.Next = rand.Text(), by.name, next
		ses.Version++
		if err = s.store.UpdateSession(ctx, ses); err == nil {
			ses, err = s.apply(ctx, ses)
		}
		return ses, err
	})
}

// apply completes a change of settings or of the master: its entry first, then
// the outcome.
func (s *Sessions) apply(ctx context.Context, ses Session) (Session, error) {
	handover := ses.MasterOp != 0
	entry := settingsEntry(ses)
	if handover {
		entry = masterEntry(ses)
	}
	if _, err := s.append(ctx, ses.ID.Address(), &entry); err != nil {
		return Session{}, err
	}
	if handover {
		ses.Master, ses.MasterOp, ses.NextMaster = ses.NextMaster, 0, ""
		ses.MasterTerm++
	} else {
		ses.Settings, ses.Next, ses.MostSeats = ses.Next, Settings{}, 0
	}
	ses.Op, ses.By = "", ""
	ses.Version++
	if err := s.store.UpdateSession(ctx, ses); err != nil {
		return Session{}, err
	}
	s.Forget(ses.ID, "")
	if handover && s.changed != nil {
		s.changed(ses.ID, "")
	}
	return ses, nil
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

// actor is who acts on others in a session: the name it has there, and its role.
type actor struct {
	name envelope.NodeID
	role Role
}

// act settles the membership of another device as change says, which is told
// who the caller is. The membership returned has the role as it is, also that of
// the owner.
func (s *Sessions) act(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID, change func(by actor, ses Session, m Member) (Member, bool, error)) (Member, error) {
	if err := checkName(id, node); err != nil {
		return Member{}, err
	}
	var ses Session
	m, err := s.settle(ctx, id, node, func(as Session, m Member) (Member, bool, error) {
		ses = as
		by, err := s.acting(ctx, who, ses)
		if err == nil && m.Device == "" {
			err = errNotIn // nobody has that alias
		}
		if err != nil {
			return m, false, err
		}
		return change(by, ses, m)
	})
	m.Alias = "" // which is the device's own to know
	m.Role = ses.RoleOf(m)
	return m, err
}

// checkName refuses what cannot be a name in a session.
func checkName(id envelope.SessionID, node envelope.NodeID) error {
	if in, _, alias := node.Alias(); alias && in != id || !envelope.ValidNode(string(node)) {
		return envelope.Errorf(envelope.BadRequest, "node_id is not the id of a device, nor an alias in the session")
	}
	return nil
}

// acting returns as whom the caller acts; NotFound for outsiders.
func (s *Sessions) acting(ctx context.Context, who envelope.Principal, ses Session) (actor, error) {
	if who.App {
		return actor{who.Node, Owner}, nil
	}
	m, err := s.own(ctx, ses.ID, who.Node)
	if err != nil {
		return actor{}, err
	}
	if !m.in() {
		return actor{}, errOutside
	}
	return actor{m.Node, ses.RoleOf(m)}, nil
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
	if node == "" {
		return Member{Session: id}, nil
	}
	m, err := s.store.Member(ctx, id, node)
	if errors.Is(err, ErrNotFound) {
		m = Member{Session: id, Node: node, Device: node}
		if _, _, alias := node.Alias(); alias {
			m.Device = ""
		}
		return m, nil
	}
	return m, err
}

var (
	errForbidden = envelope.Errorf(envelope.Forbidden, "not in your role")
	errNotIn     = envelope.Errorf(envelope.NotFound, "that device is not in the session")
	errOtherName = envelope.Errorf(envelope.Conflict, "that device is in the session by another name")
	errBanned    = envelope.Errorf(envelope.Conflict, "that device is banned")
)
