package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// A device's membership by an alias is a row of its own beside the one by its
// name. Whatever others do to the one neither shows in the other nor changes it:
// who invites, bans or writes to a device by its id learns nothing of an alias
// that it may have. Only the device itself meets both, when it joins.
//
// The row by name says which alias is the device's; the alias is taken by
// creating its row, so it has one holder for ever.

// As says by what name somebody joins.
type As struct {
	Anonymous bool   // by an alias
	Name      string // of the alias; "": the one it has, or else a random one
}

var (
	errAliasName  = envelope.Errorf(envelope.BadRequest, "an alias has the form of an id and at most %d characters", envelope.MaxAliasName)
	errAliasTaken = envelope.Errorf(envelope.Conflict, "that alias is in use")
	errAliasKept  = envelope.Errorf(envelope.Conflict, "you have another alias in this session, and keep it")
	errByName     = envelope.Errorf(envelope.Conflict, "you are in this session by your name")
	errByAlias    = envelope.Errorf(envelope.Conflict, "you are in this session by your alias")
	errNamesOnly  = envelope.Errorf(envelope.Forbidden, "nobody joins this session anonymously")
)

// randomAlias returns the name of a server-made alias: 65 random bits.
func randomAlias() string { return strings.ToLower(rand.Text()[:13]) }

// alias returns a device's alias in a session and makes it hold one if it does
// not yet.
func (s *Sessions) alias(ctx context.Context, of envelope.Principal, id envelope.SessionID, name string) (envelope.NodeID, error) {
	if name != "" && (!envelope.ValidID(name) || len(name) > envelope.MaxAliasName) {
		return "", errAliasName
	}
	return again(ctx, func() (envelope.NodeID, error) {
		named, err := s.rest(ctx, id, of.Node)
		if err != nil {
			return "", err
		}
		if named.Alias != "" {
			if name != "" && named.Alias != envelope.AliasOf(id, name) {
				return "", errAliasKept
			}
			return named.Alias, nil
		}
		alias := envelope.AliasOf(id, cmp.Or(name, randomAlias()))
		held, err := s.store.Member(ctx, id, alias)
		switch {
		case errors.Is(err, ErrNotFound):
			held = Member{Session: id, Node: alias, Device: of.Node, Client: of.Client, State: Left, Version: 1}
			err = s.store.PutMember(ctx, held)
		case err == nil && held.Device != of.Node:
			err = errAliasTaken
		}
		if err != nil {
			return "", err
		}
		if named.Version == 0 {
			named.State, named.Client = Left, of.Client
		}
		named.Alias = alias
		named.Version++
		return alias, s.store.PutMember(ctx, named)
	})
}

// joinAnonymously is Join by an alias.
func (s *Sessions) joinAnonymously(ctx context.Context, who envelope.Principal, id envelope.SessionID, name string) (Member, error) {
	ses, err := s.session(ctx, id)
	if err != nil {
		return Member{}, err
	}
	// Before an alias is taken: others may see who holds one.
	named, err := s.rest(ctx, id, who.Node)
	if err != nil {
		return Member{}, err
	}
	if err := mayJoinAs(ses, named, Member{Node: named.Alias}, who); err != nil {
		return Member{}, err
	}
	alias, err := s.alias(ctx, who, id, name)
	if err != nil {
		return Member{}, err
	}
	return s.settle(ctx, id, alias, func(ses Session, m Member) (Member, bool, error) {
		if m.in() {
			return m, false, nil
		}
		named, err := s.rest(ctx, id, who.Node)
		if err != nil {
			return m, false, err
		}
		if err := mayJoinAs(ses, named, m, who); err != nil {
			return m, false, err
		}
		switch {
		case ses.Owner == m.Node:
			m.Role = Moderator
		case named.State == Invited && named.Role == Reader:
			m.Role = Reader
		case m.Role != Reader:
			m.Role = Ordinary // a moderator would be known by being one
		}
		m.Client, m.State, m.By = who.Client, Joining, ""
		return m, true, spend(&m.Paid, who)
	})
}

// mayJoinAs refuses a device that may not join by its alias m.
func mayJoinAs(ses Session, named, m Member, who envelope.Principal) error {
	switch {
	case m.State == Banned, named.State == Banned:
		return errOutside
	case m.Node != "" && ses.Owner == m.Node:
	case !ses.AnyoneCanJoin && !who.App && named.State != Invited && !named.seated():
		return errOutside
	case ses.NamesOnly:
		return errNamesOnly
	}
	if named.seated() {
		return errByName
	}
	return nil
}

// mayJoinNamed refuses a device that is in by its alias, or was banned as that.
func (s *Sessions) mayJoinNamed(ctx context.Context, named Member) error {
	if named.Alias == "" {
		return nil
	}
	m, err := s.rest(ctx, named.Session, named.Alias)
	switch {
	case err != nil:
		return err
	case m.seated():
		return errByAlias
	case m.State == Banned:
		return errOutside
	}
	return nil
}

// Reveal ends the anonymity of the caller's alias in a session, which an entry
// tells everybody. It keeps the alias, and what it has sent under it. For who
// is in by name there is nothing to do.
func (s *Sessions) Reveal(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	m, err := s.own(ctx, id, who.Node)
	if err != nil {
		return Member{}, err
	}
	return s.settle(ctx, id, m.Node, func(_ Session, m Member) (Member, bool, error) {
		switch {
		case !m.in():
			return m, false, errOutside
		case m.Revealed || m.Node == m.Device:
			return m, false, nil
		}
		m.State, m.By = Revealing, ""
		return m, true, nil
	})
}

// own returns the membership by which a device is in a session, or else the
// one by which it was in last.
func (s *Sessions) own(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (Member, error) {
	if !envelope.ValidID(string(id)) {
		return Member{}, errNoID
	}
	named, err := s.rest(ctx, id, device)
	if err != nil || named.Alias == "" {
		return named, err
	}
	m, err := s.rest(ctx, id, named.Alias)
	if err == nil && (named.in() || !m.in() && lastEnd(named) >= lastEnd(m)) {
		return named, nil
	}
	return m, err
}

func lastEnd(m Member) uint64 {
	if len(m.Spans) == 0 {
		return 0
	}
	return m.Spans[len(m.Spans)-1].Until
}

// joint returns one membership that stands for both of a device: as own would
// return it, with the stays of both and the alias.
func joint(named, m Member) Member {
	both := named
	if !named.in() && (m.in() || lastEnd(m) > lastEnd(named)) {
		both = m
	}
	both.Alias = m.Node
	both.Spans = slices.Concat(named.Spans, m.Spans)
	for i := range m.Spans {
		both.Spans[len(named.Spans)+i].ByAlias = true
	}
	slices.SortFunc(both.Spans, func(a, b Span) int {
		if (a.Until == 0) != (b.Until == 0) {
			return cmp.Compare(b.Until, a.Until) // the open one is the last
		}
		return cmp.Compare(a.From, b.From)
	})
	return both
}

// other returns the name of the device's other membership, if it has any.
func (m *Member) other() envelope.NodeID {
	if m.Node != m.Device {
		return m.Device
	}
	return m.Alias
}

// Hidden reports whether only the device itself may know whose membership it is.
func (m *Member) Hidden() bool { return m.Node != m.Device && !m.Revealed }
