package session

import (
	"context"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A membership is trusted for this long after it was read, unless the server
// hears sooner that it has changed: by the log of a session that it follows,
// see [Sessions.Observe], or from another server, see [Sessions.Forget].
const trust = 2 * time.Second

// trustTold is for how long while everything that is told arrives, see
// [Hearing]. It bounds what a change may do that nobody has told, because who made
// it does not know that it has been made.
const trustTold = 30 * time.Second

// Hearing says since when, without a break, and up to when everything has arrived
// here that other servers tell of memberships and masters.
type Hearing func() (since, upto time.Time)

// Hear has what was read trusted for longer while everything that is told arrives.
// It must be called before anything else.
func (s *Sessions) Hear(h Hearing) { s.hearing = h }

// trusted reports whether what was read at a time still counts: what has changed
// more than trust ago is known to have.
func (s *Sessions) trusted(read time.Time) bool {
	now := time.Now()
	switch age := now.Sub(read); {
	case age <= trust:
		return true
	case age > trustTold || s.hearing == nil:
		return false
	}
	since, upto := s.hearing()
	return !read.Before(since) && now.Sub(upto) <= trust
}

// maxCached bounds the memberships remembered.
const maxCached = 100_000

type memberKey struct {
	session envelope.SessionID
	node    envelope.NodeID
}

// standing is what is remembered of who is in a session: under the device, and
// under the alias if it is in by that.
type standing struct {
	read   time.Time       // when the store was asked
	self   envelope.NodeID // the name by which it is in
	device envelope.NodeID
	hidden bool // whose alias it is is not to be known
	writes bool // it may send
	game   bool // the session is one
}

// Resolve returns the address whose log a message goes to, once the sender's
// right to write there is sure: NotFound for who is not in the session,
// Forbidden for who only reads. It is here, and nowhere else, that the alias of
// an anonymous sender takes the place of its id, and that what a player sends to a
// game becomes a message for its master; when there is none to take one that is
// not to be stored, the address is zero.
func (s *Sessions) Resolve(ctx context.Context, env *envelope.Envelope) (envelope.Address, error) {
	if env.DestSession == "" {
		return env.Dest(), env.CheckDest()
	}
	sender, err := s.standing(ctx, env.DestSession, env.SrcNode)
	if err == nil && !sender.writes && !sender.game {
		err = errReader
	}
	if err == nil && env.DestNode != "" {
		err = s.present(ctx, env.DestSession, env.DestNode)
	}
	addr := env.Dest()
	if err == nil && sender.game {
		addr, err = s.direct(ctx, env, sender)
	}
	if err != nil {
		return envelope.Address{}, err
	}
	if env.SrcNode = sender.self; sender.hidden {
		env.SrcClient = ""
	}
	return addr, nil
}

// present refuses unless somebody is in a session by that name.
func (s *Sessions) present(ctx context.Context, id envelope.SessionID, name envelope.NodeID) error {
	of, err := s.standing(ctx, id, name)
	if err == nil && of.self != name {
		err = errOutside // it is there by an alias, which is not to be seen
	}
	return err
}

// NameOf returns the name by which a device is in a session, and whether whose
// it is is not to be known; NotFound unless it is in.
func (s *Sessions) NameOf(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (name envelope.NodeID, hidden bool, err error) {
	of, err := s.standing(ctx, id, device)
	return of.self, of.hidden, err
}

// IsMember reports whether a device is in a session, which need not exist.
func (s *Sessions) IsMember(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (bool, error) {
	_, err := s.standing(ctx, id, device)
	if envelope.CodeOf(err) == envelope.NotFound {
		return false, nil
	}
	return err == nil, err
}

// Observe learns from an entry of a session's log what has changed in it.
func (s *Sessions) Observe(env *envelope.Envelope) {
	if node := concerns(env); node != "" {
		s.Forget(env.DestSession, node)
	} else if env.HasType && (env.Type == envelope.TypeMaster || env.Type == envelope.TypeSettings) {
		s.Forget(env.DestSession, "")
	}
}

// Forget drops what is remembered of a membership, because it has changed, or
// with node "" what holds for the session.
func (s *Sessions) Forget(id envelope.SessionID, node envelope.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node == "" {
		s.rulings.Remove(id)
	}
	if known, ok := s.cached.Get(memberKey{id, node}); ok {
		s.cached.Remove(memberKey{id, known.device})
		s.cached.Remove(memberKey{id, known.self})
	}
	s.news++
}

// standing returns how a device, or who has an alias, is in a session; NotFound
// unless it is.
func (s *Sessions) standing(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (standing, error) {
	key := memberKey{id, node}
	now := time.Now()
	s.mu.Lock()
	known, ok := s.cached.Get(key)
	news := s.news
	s.mu.Unlock()
	if ok && s.trusted(known.read) {
		return known, nil
	}
	m, err := s.store.Member(ctx, id, node)
	if err == nil && !m.in() && m.Alias != "" {
		m, err = s.store.Member(ctx, id, m.Alias)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return standing{}, refuse(err)
	}
	if err != nil || !m.in() {
		// Not remembered: whoever joins now, at any server, may write at once.
		return standing{}, errOutside
	}
	is := standing{read: now, self: m.Node, device: m.Device, hidden: m.Hidden(), writes: m.mayWrite(), game: m.Kind == Game}
	if !is.writes {
		return is, nil // nor that, for the same reason
	}
	s.mu.Lock()
	if s.news == news { // else what was read may be older than what the log says
		s.cached.Add(memberKey{m.Session, is.device}, is)
		if is.self != is.device {
			s.cached.Add(memberKey{m.Session, is.self}, is)
		}
	}
	s.mu.Unlock()
	return is, nil
}
