package session

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// maxSpans bounds the stays remembered of one membership. Entries of older
// stays that a device never fetched are lost to it.
const maxSpans = 64

// attempts bounds how often an operation starts over because somebody else
// changed the session or membership first; the pauses before grow up to maxPause.
const (
	attempts = 30
	maxPause = 250 * time.Millisecond
)

// session reads a session, with a change of settings that was begun completed.
func (s *Sessions) session(ctx context.Context, id envelope.SessionID) (Session, error) {
	if !envelope.ValidID(string(id)) {
		return Session{}, errNoID
	}
	return again(ctx, func() (Session, error) {
		ses, err := s.store.Session(ctx, id)
		if err == nil && ses.Op != "" {
			ses, err = s.apply(ctx, ses)
		}
		return ses, err
	})
}

// rest reads a membership, with a change that was begun completed. It is of
// version 0 when there is none.
func (s *Sessions) rest(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return again(ctx, func() (Member, error) {
		m, err := s.member(ctx, id, node)
		if err == nil && m.Version > 0 && !m.atRest() {
			m, err = s.complete(ctx, m)
		}
		return m, err
	})
}

// settle brings a membership to rest and then lets change say what it should
// become; if that is a new intent, the intent is written, its entry appended,
// and the outcome written.
//
// The order makes each step repeatable by anyone: the entry's id is in the
// intent, so appending it again after a crash returns the same seq.
//
// The session is read after the membership. A device becomes owner by way of
// its membership, so as long as that has not changed, what was read of the
// session is right about whether the device is the owner.
func (s *Sessions) settle(ctx context.Context, id envelope.SessionID, node envelope.NodeID, change func(Session, Member) (Member, bool, error)) (Member, error) {
	if !envelope.ValidID(string(id)) {
		return Member{}, errNoID
	}
	return again(ctx, func() (Member, error) {
		m, err := s.rest(ctx, id, node)
		if err != nil {
			return Member{}, err
		}
		ses, err := s.session(ctx, id)
		if err != nil {
			return Member{}, err
		}
		next, changed, err := change(ses, m)
		if err == nil && !changed && next.Version > 0 {
			s.tell(next) // who has changed it may not have come to that
		}
		if err != nil || !changed {
			return next, err
		}
		next.Version++
		next.Kind = ses.Kind
		if !next.atRest() {
			next.Op = rand.Text()
		}
		err = s.put(ctx, ses, next)
		if m.in() {
			s.tell(next) // whatever has become of it: that it is in may be true no more
		}
		done := next
		if err == nil && !next.atRest() {
			done, err = s.complete(ctx, next)
		}
		s.tellInterrupted(next, err)
		return done, err
	})
}

// tellInterrupted tells of a change that an error may have cut short, as opposed to one that
// was refused or starts over.
func (s *Sessions) tellInterrupted(m Member, err error) {
	if err == nil || errors.Is(err, ErrChanged) || s.interrupted == nil {
		return
	}
	if code := envelope.CodeOf(refuse(err)); code == envelope.Busy || code == envelope.Internal {
		s.interrupted(m.Device, m.Session)
	}
}

// put writes a membership, once there is room for it.
func (s *Sessions) put(ctx context.Context, ses Session, m Member) error {
	if m.State == Joining && ses.MemberLimit > 0 {
		if err := s.admit(ctx, ses, m); err != nil {
			return err
		}
	}
	return s.store.PutMember(ctx, m)
}

// complete carries out an intent. ErrChanged when it is to be looked at again.
func (s *Sessions) complete(ctx context.Context, m Member) (Member, error) {
	if m.State == Changing && m.Next == Owner {
		crowned, err := s.crown(ctx, m)
		if err != nil {
			return Member{}, err
		}
		if !crowned {
			m.State, m.Next, m.Reign = Joined, Ordinary, 0
			m.Version++
			return Member{}, errors.Join(s.store.PutMember(ctx, m), ErrChanged)
		}
	}
	entry := entryOf(m)
	var ses Session
	if m.State == Joining || m.State == Leaving {
		var err error
		if ses, err = s.store.Session(ctx, m.Session); err == nil {
			entry.ShownFrom, err = s.notified(ctx, ses, m)
		}
		if err != nil {
			return Member{}, err
		}
	}
	seq, err := s.append(ctx, m.Session.Address(), &entry)
	if err != nil {
		return Member{}, err
	}
	m.Spans = append([]Span(nil), m.Spans...)
	switch m.State {
	case Joining:
		stay, err := s.begin(ctx, ses, seq)
		if err != nil {
			return Member{}, err
		}
		m.State = Joined
		m.Spans = append(m.Spans, stay)
		m.Spans = m.Spans[max(0, len(m.Spans)-maxSpans):]
	case Leaving:
		m.State = Left
		if m.Next == Outcast {
			m.State = Banned
		}
		if m.Role == Moderator {
			m.Role = Ordinary // a role that is given anew; a reader stays one
		}
		m.Spans[len(m.Spans)-1].Until = seq
	case Changing:
		m.State, m.Role = Joined, min(m.Next, Moderator) // see Member.Role
	case Revealing:
		m.State, m.Revealed = Joined, true
	}
	m.Next, m.Reign = Ordinary, 0
	m.Version++
	asked := s.ask()
	if err := s.store.PutMember(ctx, m); err != nil {
		s.tell(m) // it may have been written all the same
		return Member{}, err
	}
	s.replace(asked, m)
	s.tellOthers(m)
	return m, nil
}

// tell has this server and the others forget what they remember of a membership.
func (s *Sessions) tell(m Member) {
	s.Forget(m.Session, m.Device)
	s.Forget(m.Session, m.Node)
	s.tellOthers(m)
}

// tellOthers has the other servers forget what they remember of a membership.
func (s *Sessions) tellOthers(m Member) {
	if s.changed != nil {
		s.changed(m.Session, m.Device)
	}
}

// again carries out an operation, from its beginning each time that somebody
// else was faster.
func again[T any](ctx context.Context, operation func() (T, error)) (T, error) {
	var none T
	for i := range attempts {
		result, err := operation()
		if !errors.Is(err, ErrChanged) {
			return result, refuse(err)
		}
		if err := pause(ctx, i); err != nil {
			return none, err
		}
	}
	return none, errTooFast
}

// pause waits before an operation starts over, the longer the more often.
func pause(ctx context.Context, attempt int) error {
	longest := min(time.Millisecond<<min(attempt, 10), maxPause)
	select {
	case <-time.After(mathrand.N(longest)):
		return nil
	case <-ctx.Done():
		return envelope.BusyError(500, "gave up waiting", context.Cause(ctx))
	}
}
