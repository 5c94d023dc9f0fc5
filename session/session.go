package session

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// AppendFunc appends an entry to a log and returns its seq; a repeat with the
// same source and id returns the first one.
type AppendFunc func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error)

// A membership is trusted for this long after it was read. The log overrules
// it sooner on a server that follows the session, see [Sessions.Observe].
const trust = 2 * time.Second

// maxCached bounds the memberships remembered.
const maxCached = 100_000

// maxSpans bounds the stays remembered of one membership. Entries of older
// stays that a device never fetched are lost to it.
const maxSpans = 64

// attempts bounds how often an operation starts over because somebody else
// changed the membership first.
const attempts = 20

// Sessions decides who belongs to which session. Its methods are safe for
// concurrent use; their errors are [*envelope.Error], and those about a session
// that does not exist and one that the caller may not see are the same.
type Sessions struct {
	store  Store
	append AppendFunc

	mu     sync.Mutex
	cached *simplelru.LRU[memberKey, time.Time] // guarded by mu; until when a membership is trusted
}

type memberKey struct {
	session envelope.SessionID
	node    envelope.NodeID
}

// New returns Sessions over a store whose entries go through append.
func New(store Store, append AppendFunc) *Sessions {
	cached, err := simplelru.NewLRU[memberKey, time.Time](maxCached, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &Sessions{store: store, append: append, cached: cached}
}

// Create makes a session with the caller as owner and first member. Repeated
// by its owner it returns the session that is there; for others Conflict.
func (s *Sessions) Create(ctx context.Context, who envelope.Principal, id envelope.SessionID, anyoneCanJoin bool) (Session, error) {
	if id == "" {
		id = envelope.SessionID(rand.Text())
	} else if !envelope.ValidID(string(id)) {
		return Session{}, envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
	}
	made := Session{
		ID: id, Owner: who.Node, AnyoneCanJoin: anyoneCanJoin,
		Created: time.Now().UnixMilli(), Token: rand.Text(),
	}
	if err := s.store.Create(ctx, made); errors.Is(err, ErrExists) {
		there, err := s.store.Session(ctx, id)
		if err != nil {
			return Session{}, refuse(err)
		}
		if there.Owner != who.Node || there.AnyoneCanJoin != anyoneCanJoin {
			return Session{}, envelope.Errorf(envelope.Conflict, "a session with that id exists")
		}
		made = there
	} else if err != nil {
		return Session{}, refuse(err)
	}
	_, err := s.Join(ctx, who, id)
	return made, err
}

// Join makes the caller a member and returns the membership, also when it is
// one already.
func (s *Sessions) Join(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	ses, err := s.session(ctx, id)
	if err != nil {
		return Member{}, err
	}
	return s.settle(ctx, ses.ID, who.Node, func(m Member) (Member, bool, error) {
		if m.State == Joined {
			return m, false, nil
		}
		if !ses.AnyoneCanJoin && ses.Owner != who.Node {
			return m, false, refuse(ErrNotFound)
		}
		m.Client, m.State = who.Client, Joining
		return m, true, nil
	})
}

// Leave ends the caller's membership and returns it, also when it has ended
// already.
func (s *Sessions) Leave(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	if _, err := s.session(ctx, id); err != nil {
		return Member{}, err
	}
	return s.settle(ctx, id, who.Node, func(m Member) (Member, bool, error) {
		switch m.State {
		case Left:
			return m, false, nil
		case Joined:
			m.State = Leaving
			return m, true, nil
		}
		return m, false, refuse(ErrNotFound) // never a member
	})
}

// Get returns a session and its present members to one of them.
func (s *Sessions) Get(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Session, []Member, error) {
	ses, err := s.session(ctx, id)
	if err != nil {
		return Session{}, nil, err
	}
	all, err := s.store.Members(ctx, id)
	if err != nil {
		return Session{}, nil, refuse(err)
	}
	members, allowed := all[:0], false
	for _, m := range all {
		if m.State == Joined || m.State == Leaving {
			members = append(members, m)
			allowed = allowed || m.Node == who.Node
		}
	}
	if !allowed {
		return Session{}, nil, refuse(ErrNotFound)
	}
	return ses, members, nil
}

// Of returns the memberships of a device that give it something to read, ended
// ones included, with every change that a crash interrupted completed.
func (s *Sessions) Of(ctx context.Context, node envelope.NodeID) ([]Member, error) {
	all, err := s.store.Memberships(ctx, node)
	if err != nil {
		return nil, refuse(err)
	}
	readable := all[:0]
	for _, m := range all {
		if m.State == Joining || m.State == Leaving {
			m, err = s.Stays(ctx, m.Session, node)
			if err != nil {
				return nil, err
			}
		}
		if len(m.Spans) > 0 {
			readable = append(readable, m)
		}
	}
	return readable, nil
}

// Stays returns a device's membership of a session, in whatever state and with
// a change that a crash interrupted completed. It has no Spans if the device
// never was a member, or there is no such session.
func (s *Sessions) Stays(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	return s.settle(ctx, id, node, func(m Member) (Member, bool, error) { return m, false, nil })
}

// Resolve returns the address whose log a message goes to, once the sender's
// right to write there is sure.
func (s *Sessions) Resolve(ctx context.Context, env *envelope.Envelope) (envelope.Address, error) {
	if env.DestSession != "" {
		if err := s.mustBeMember(ctx, env.DestSession, env.SrcNode); err != nil {
			return envelope.Address{}, err
		}
		if env.DestNode != "" {
			if err := s.mustBeMember(ctx, env.DestSession, env.DestNode); err != nil {
				return envelope.Address{}, err
			}
		}
	}
	return env.Dest(), nil
}

// Observe learns from an entry of a session's log who came or went.
func (s *Sessions) Observe(env *envelope.Envelope) {
	if !env.HasType || env.DestSession == "" {
		return
	}
	switch env.Type {
	case envelope.TypeJoined, envelope.TypeLeft:
		s.mu.Lock()
		s.cached.Remove(memberKey{env.DestSession, env.SrcNode})
		s.mu.Unlock()
	}
}

func (s *Sessions) session(ctx context.Context, id envelope.SessionID) (Session, error) {
	if !envelope.ValidID(string(id)) {
		return Session{}, envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
	}
	ses, err := s.store.Session(ctx, id)
	return ses, refuse(err)
}

// IsMember reports whether a device is in a session, which need not exist.
func (s *Sessions) IsMember(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (bool, error) {
	err := s.mustBeMember(ctx, id, node)
	if envelope.CodeOf(err) == envelope.NotFound {
		return false, nil
	}
	return err == nil, err
}

// mustBeMember refuses with NotFound unless the device is in the session.
func (s *Sessions) mustBeMember(ctx context.Context, id envelope.SessionID, node envelope.NodeID) error {
	key := memberKey{id, node}
	now := time.Now()
	s.mu.Lock()
	until, ok := s.cached.Get(key)
	s.mu.Unlock()
	if !ok || now.After(until) {
		m, err := s.store.Member(ctx, id, node)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return refuse(err)
		}
		if err != nil || m.State != Joined {
			// Not remembered: whoever joins now, at any server, may write at once.
			return refuse(ErrNotFound)
		}
		s.mu.Lock()
		s.cached.Add(key, now.Add(trust))
		s.mu.Unlock()
	}
	return nil
}

// settle brings a membership to rest and then lets change say what it should
// become; if that is a new intent, the intent is written, its entry appended,
// and the outcome written.
//
// The order makes each step repeatable by anyone: the entry's id is in the
// intent, so appending it again after a crash returns the same seq.
func (s *Sessions) settle(ctx context.Context, id envelope.SessionID, node envelope.NodeID, change func(Member) (Member, bool, error)) (Member, error) {
	for range attempts {
		m, err := s.store.Member(ctx, id, node)
		if errors.Is(err, ErrNotFound) {
			m = Member{Session: id, Node: node}
		} else if err != nil {
			return Member{}, refuse(err)
		}
		if m.State != Joining && m.State != Leaving {
			next, changed, err := change(m)
			if err != nil || !changed {
				return next, err
			}
			next.Op = rand.Text()
			next.Version++
			if err := s.store.PutMember(ctx, next); errors.Is(err, ErrChanged) {
				continue
			} else if err != nil {
				return Member{}, refuse(err)
			}
			m = next
		}
		if m, err = s.complete(ctx, m); err == nil {
			// Once more, for a change that came to a half-done intent.
			next, changed, err := change(m)
			if !changed {
				return next, err
			}
		} else if !errors.Is(err, ErrChanged) {
			return Member{}, refuse(err)
		}
	}
	return Member{}, envelope.BusyError(500, "the membership is changing too fast", nil)
}

// complete carries out an intent.
func (s *Sessions) complete(ctx context.Context, m Member) (Member, error) {
	entry := envelope.Envelope{
		ID: m.Op, DestSession: m.Session, SrcNode: m.Node, SrcClient: m.Client,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: envelope.TypeJoined,
	}
	if m.State == Leaving {
		entry.Type = envelope.TypeLeft
	}
	seq, err := s.append(ctx, m.Session.Address(), &entry)
	if err != nil {
		return Member{}, err
	}
	spans := append([]Span(nil), m.Spans...)
	if m.State == Joining {
		m.State = Joined
		spans = append(spans, Span{From: seq})
		spans = spans[max(0, len(spans)-maxSpans):]
	} else {
		m.State = Left
		spans[len(spans)-1].Until = seq
	}
	m.Spans = spans
	m.Version++
	if err := s.store.PutMember(ctx, m); err != nil {
		return Member{}, err
	}
	s.mu.Lock()
	s.cached.Remove(memberKey{m.Session, m.Node})
	s.mu.Unlock()
	return m, nil
}

// refuse turns a store's error into one for the client.
func refuse(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return &envelope.Error{Code: envelope.NotFound, Detail: "no such session, or not yours to see", Cause: err}
	}
	return envelope.AsError(err)
}
