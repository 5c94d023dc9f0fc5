package session

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A membership is trusted for this long after it was read or written, unless the server
// hears sooner that it has changed: by the log of a session that it follows,
// see [Sessions.Observe], or from another server, see [Sessions.Forget].
const trust = 2 * time.Second

// trustTold is for how long while everything that is told arrives, see
// [Hearing]. It bounds what a change may do that nobody has told, because who made
// it does not know that it has been made, and has not found it so by asking again.
const trustTold = 5 * time.Minute

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
	case age < trust:
		return true
	case age > trustTold || s.hearing == nil:
		return false
	}
	since, upto := s.hearing()
	return !read.Before(since) && now.Sub(upto) < trust
}

// maxRulings bounds the sessions, and the topics, of which rules are remembered.
const maxRulings = 100_000

// standing is how somebody is in a session.
type standing struct {
	named
	writes bool   // it may send
	game   bool   // the session is one
	since  uint64 // seq of the entry that let it in
}

// named is by what name somebody is in a session.
type named struct {
	self   envelope.NodeID
	device envelope.NodeID
	hidden bool // whose alias it is is not to be known
}

// standingOf returns how somebody is in a session, of whose membership that is.
func standingOf(m Member) standing {
	of := standing{named{m.Node, m.Device, m.Hidden()}, m.mayWrite(), m.Kind == Game, 0}
	if last := len(m.Spans) - 1; last >= 0 {
		of.since = m.Spans[last].From
	}
	return of
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

// Observe learns from an entry of a session's log what has changed in it. An entry
// that is heard of late, as of who reads the log from where it joined, does not count
// against the stay that is remembered, which began with it or later.
func (s *Sessions) Observe(env *envelope.Envelope) {
	if node := concerns(env); node != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if env.Seq == 0 || env.Seq > s.cached.since(env.DestSession, node) {
			s.cached.forget(env.DestSession, node)
		}
		*s.news.of(env.DestSession, node)++
	} else if env.HasType && (env.Type == envelope.TypeMaster || env.Type == envelope.TypeSettings) {
		s.Forget(env.DestSession, "")
	}
}

// Forget drops what is remembered of a membership, because it has changed, or
// with node "" what holds for the session.
func (s *Sessions) Forget(id envelope.SessionID, node envelope.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(id, node)
}

// forget is Forget; mu is held.
func (s *Sessions) forget(id envelope.SessionID, node envelope.NodeID) {
	if node == "" {
		s.rulings.Remove(id)
	}
	s.cached.forget(id, node)
	*s.news.of(id, node)++
}

// standing returns how a device, or who has an alias, is in a session; NotFound
// unless it is.
func (s *Sessions) standing(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (standing, error) {
	s.mu.Lock()
	known, read, ok := s.cached.get(id, node)
	s.mu.Unlock()
	if ok && s.trusted(read) {
		return known, nil
	}
	asked := s.ask()
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
	s.remember(asked, m)
	return standingOf(m), nil
}

// asked is when the store is asked or written to, and which news there had been by then.
type asked struct {
	at   time.Time
	news news
}

// ask returns what [Sessions.remember] has to know of a question to the store,
// and [Sessions.replace] of a write.
func (s *Sessions) ask() *asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &asked{time.Now(), s.news}
}

// remember remembers a membership that was read after a question was asked, of
// one who may write. Others are not: whoever joins now, or gets the right, at any
// server, may write at once.
func (s *Sessions) remember(asked *asked, m Member) {
	if !m.mayWrite() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news.same(&asked.news, m) { // else what was read may be older than what has been said
		s.cached.put(m.Session, standingOf(m), asked.at)
	}
}

// replace remembers a membership that was written after asked, in place of what
// it was before: who has joined is about to write.
func (s *Sessions) replace(asked *asked, m Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := s.news.same(&asked.news, m)
	s.forget(m.Session, m.Device)
	s.forget(m.Session, m.Node)
	if same && m.mayWrite() {
		s.cached.put(m.Session, standingOf(m), asked.at)
	}
}

// news counts how often a membership has been forgotten, or with no node what
// holds for a session. Many share a count, so that there are few; what is read of
// one while another of them changes is not remembered then.
type news [64]uint32

// newsSeed spreads the memberships over the counts.
var newsSeed = maphash.MakeSeed()

func (n *news) of(id envelope.SessionID, node envelope.NodeID) *uint32 {
	return &n[maphash.Comparable(newsSeed, memberKey{id, node})%uint64(len(n))]
}

// same reports whether a membership has not been forgotten since then.
func (n *news) same(then *news, m Member) bool {
	return *n.of(m.Session, m.Node) == *then.of(m.Session, m.Node) &&
		*n.of(m.Session, m.Device) == *then.of(m.Session, m.Device)
}
