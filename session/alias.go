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
	errReads      = envelope.Errorf(envelope.Forbidden, "you only read in this session, and join it by the same name")
	errNamesOnly  = envelope.Errorf(envelope.Forbidden, "nobody joins this session anonymously")
)

// randomAlias returns the name of a server-made alias: 65 random bits.
func randomAlias() string { return strings.ToLower(rand.Text()[:13]) }

// alias returns a device's alias in a session and makes it hold one if it does
// not yet. The app gives one only to a device that has none, or got it from the
// app: it does not hear whose the others are by asking for them.
func (s *Sessions) alias(ctx context.Context, of envelope.Principal, id envelope.SessionID, name string, given bool) (envelope.NodeID, error) {
	if name != "" && (!envelope.ValidID(name) || len(name) > envelope.MaxAliasName) {
		return "", errAliasName
	}
	return again(ctx, func() (envelope.NodeID, error) {
		named, err := s.rest(ctx, id, of.Node)
		if err != nil {
			return "", err
		}
		if named.Alias != "" {
			if given {
				held, err := s.member(ctx, id, named.Alias)
				if err != nil {
					return "", err
				}
				if held.Hidden() && !held.Given {
					return "", errOtherName
				}
			}
			if name != "" && named.Alias != envelope.AliasOf(id, name) {
				return "", errAliasKept
			}
			return named.Alias, nil
		}
		alias := envelope.AliasOf(id, cmp.Or(name, randomAlias()))
		held, err := s.store.Member(ctx, id, alias)
		switch {
		case errors.Is(err, ErrNotFound):
			held = Member{Session: id, Node: alias, Device: of.Node, Client: of.Client, State: Left, Given: given, Version: 1}
			err = s.store.PutMember(ctx, held)
		case err == nil && (held.Device != of.Node || given && !held.Given):
			err = errAliasTaken
		}
		if err != nil {
			return "", err
		}
		if named.Version == 0 {
			named.Client = of.Client // and no State: it is not to look like one who once was here
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
	m, err := s.rest(ctx, id, named.Alias)
	if err == nil && !m.in() {
		_, err = roleAs(ses, named, m, who)
	}
	if err != nil {
		return Member{}, err
	}
	alias, err := s.alias(ctx, who, id, name, false)
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
		role, err := roleAs(ses, named, m, who)
		if err != nil {
			return m, false, err
		}
		m.Role, m.Client, m.State, m.By = role, who.Client, Joining, ""
		if err := spend(&m.Paid, who); err != nil {
			return m, false, err
		}
		return m, true, s.fence(ctx, named)
	})
}

// roleAs returns the role in which a device joins by its alias m, which is
// zero but for the session while it has none.
func roleAs(ses Session, named, m Member, who envelope.Principal) (Role, error) {
	// An invitation stays with the name, where others see that it was not
	// accepted; so it does not bring back an alias that was put out.
	invited := named.State == Invited && m.By == ""
	switch {
	case named.seated():
		return 0, errByName
	case m.State == Banned, named.State == Banned:
		return 0, errOutside
	case m.Node != "" && ses.Owner == m.Node:
		return Moderator, nil
	case !ses.AnyoneCanJoin && !who.App && !invited:
		return 0, errOutside
	case ses.NamesOnly:
		return 0, errNamesOnly
	case m.Role == Reader, invited && named.Role == Reader && !ses.AnyoneCanJoin:
		return Reader, nil
	case named.Role == Reader: // an anonymous reader where others write would be known by it
		return 0, errReads
	}
	return Ordinary, nil // a moderator would be known by being one
}

// fence writes a device's other membership anew, so that nothing that was made
// of it before can be written. Of two joins at once, by name and by alias, each
// could find the device out by the other. So each fences the other row between
// reading its own and writing it: one of them finds its own changed, and starts
// over.
func (s *Sessions) fence(ctx context.Context, other Member) error {
	if other.Version == 0 {
		return nil
	}
	other.Version++
	return s.store.PutMember(ctx, other)
}

// Reveal ends the anonymity of the caller's alias in a session, which an entry
// tells everybody. It keeps the alias, and what it has sent under it. For who
// is in by name there is nothing to do. The membership returned has the role as
// it is, also that of the owner.
func (s *Sessions) Reveal(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Member, error) {
	m, err := s.own(ctx, id, who.Node)
	if err != nil {
		return Member{}, err
	}
	var ses Session
	m, err = s.settle(ctx, id, m.Node, func(as Session, m Member) (Member, bool, error) {
		ses = as
		switch {
		case !m.in():
			return m, false, errOutside
		case m.Revealed || m.Node == m.Device:
			return m, false, nil
		}
		m.State, m.By = Revealing, ""
		return m, true, nil
	})
	m.Role = ses.RoleOf(m)
	return m, err
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
