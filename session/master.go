package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A game has a master, named by [Session.Master]: what the others send to the
// session is for the master alone, what it sends is for all. Who becomes master
// is decided by the session's row, one version after the other, and noted in the
// log like a change of settings: intent, entry, outcome.
//
// Without a master, what is sent waits in the log: whoever becomes it finds it
// in the history.

// Handover is why a game gets another master.
type Handover uint8

// The reasons.
const (
	MasterTransferred Handover = iota + 1 // who may has asked for it
	MasterLeft                            // the one before is not in the session any more
	MasterLost                            // the one before has not been connected for long
)

// String returns the reason as the note in the log gives it.
func (h Handover) String() string {
	switch h {
	case MasterTransferred:
		return "transferred"
	case MasterLeft:
		return "left"
	case MasterLost:
		return "lost"
	}
	return ""
}

var (
	errNoGame  = envelope.Errorf(envelope.Conflict, "only a game has a master")
	errPlayers = envelope.Errorf(envelope.Forbidden, "in a game, members speak to the master only")
)

// ruling is what is remembered of what holds for a session.
type ruling struct {
	until         time.Time // when this is not trusted any more
	master        envelope.NodeID
	membersHidden bool
}

// CreateFor is [Sessions.Create] of a game that has another master than its owner,
// from when that one joins on; until then what is sent to it waits. With empty it
// is [Sessions.CreateEmpty].
func (s *Sessions) CreateFor(ctx context.Context, who envelope.Principal, id envelope.SessionID, settings Settings, as As, master envelope.NodeID, empty bool) (Session, error) {
	switch {
	case settings.Kind != Game:
		return Session{}, envelope.Errorf(envelope.BadRequest, "only a game has a master")
	case !envelope.ValidID(string(master)):
		return Session{}, envelope.Errorf(envelope.BadRequest, "the master has not the form of an id")
	case empty && !who.App:
		return Session{}, errForbidden
	case master == who.Node && !empty:
		return s.Create(ctx, who, id, settings, as) // by whatever name
	case empty:
		return s.found(ctx, who, id, settings, As{}, true, master)
	}
	made, err := s.found(ctx, who, id, settings, as, false, master)
	if err == nil {
		_, err = s.Join(ctx, who, made.ID, as)
	}
	return made, err
}

// Appoint makes a member the master of a game, which the owner and the master
// itself may do. Who is master already stays it. The membership returned has the
// role as it is, also that of the owner.
func (s *Sessions) Appoint(ctx context.Context, who envelope.Principal, id envelope.SessionID, node envelope.NodeID) (Member, error) {
	if err := checkName(id, node); err != nil {
		return Member{}, err
	}
	return again(ctx, func() (Member, error) {
		ses, err := s.session(ctx, id)
		if err != nil {
			return Member{}, err
		}
		by, err := s.acting(ctx, who, ses)
		if err != nil {
			return Member{}, err
		}
		m, err := s.rest(ctx, id, node)
		m.Role = ses.RoleOf(m)
		switch {
		case err != nil:
			return Member{}, err
		case ses.Kind != Game:
			return Member{}, errNoGame
		case ses.Master == node && m.in():
			return m, nil
		case by.role != Owner && by.name != ses.Master:
			return Member{}, errForbidden
		case !m.in():
			return Member{}, errNotIn
		}
		if err := spend(&ses.Paid, who); err != nil {
			return Member{}, err
		}
		_, err = s.handOver(ctx, ses, node, MasterTransferred, by.name)
		return m, err
	})
}

// Succeed gives a game a new master when it needs one, and returns it as it is
// then: when its master has left, or is lost, which the caller says by the term
// of that master; 0: it is not. connected reports which members are connected
// now. Who follows is the first of [Sessions.heirs] who is; after a master that
// has left it may be one who is not, and if there is none the game has no master.
// A lost one stays it until somebody else can.
func (s *Sessions) Succeed(ctx context.Context, id envelope.SessionID, lost uint64, connected func(context.Context, []envelope.NodeID) (map[envelope.NodeID]bool, error)) (Session, error) {
	return again(ctx, func() (Session, error) {
		ses, err := s.session(ctx, id)
		if err != nil || ses.Kind != Game {
			return ses, err
		}
		m, err := s.rest(ctx, id, ses.Master)
		why := MasterLeft
		switch {
		case err != nil:
			return Session{}, err
		case ses.MasterTerm == 0: // the first is for who has made the game to name, and may be yet to come
			if m.in() {
				ses.MasterTerm++
				ses.Version++
				err = s.store.UpdateSession(ctx, ses)
			}
			return ses, err
		case m.in() && ses.MasterTerm != lost:
			return ses, nil
		case m.in():
			why = MasterLost
		}
		heirs, err := s.heirs(ctx, ses)
		if err != nil {
			return Session{}, err
		}
		here, err := connected(ctx, append(heirs, ses.Master))
		if err != nil {
			return Session{}, err
		}
		next := slices.IndexFunc(heirs, func(name envelope.NodeID) bool { return here[name] })
		switch {
		case why == MasterLost && (here[ses.Master] || next < 0):
			return ses, nil
		case next >= 0:
			return s.handOver(ctx, ses, heirs[next], why, "")
		case len(heirs) > 0:
			return s.handOver(ctx, ses, heirs[0], why, "")
		case ses.Master != "":
			return s.handOver(ctx, ses, "", why, "")
		}
		return ses, nil
	})
}

// heirs returns who may become master of a game after the one it has: the
// owner, moderators and others who may write, of each those who have been in
// longest first.
func (s *Sessions) heirs(ctx context.Context, ses Session) ([]envelope.NodeID, error) {
	if ses.Successors == Nobody {
		return nil, nil
	}
	members, err := s.store.Members(ctx, ses.ID)
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m Member) bool {
		few := ses.Successors == ModeratorsOnly && ses.RoleOf(m) < Moderator
		return few || !m.mayWrite() || m.Node == ses.Master || len(m.Spans) == 0
	})
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(ses.RoleOf(b), ses.RoleOf(a)), cmp.Compare(a.Spans[len(a.Spans)-1].From, b.Spans[len(b.Spans)-1].From))
	})
	names := make([]envelope.NodeID, len(members), len(members)+1)
	for i, m := range members {
		names[i] = m.Node
	}
	return names, nil
}

// handOver makes somebody the master, or nobody.
func (s *Sessions) handOver(ctx context.Context, ses Session, to envelope.NodeID, why Handover, by envelope.NodeID) (Session, error) {
	ses.Op, ses.By, ses.MasterOp, ses.NextMaster = rand.Text(), by, why, to
	ses.Version++
	if err := s.store.UpdateSession(ctx, ses); err != nil {
		return Session{}, err
	}
	return s.apply(ctx, ses)
}

// masterEntry returns the entry of a session's change of master. Nobody has sent
// one that comes by itself, so that nobody takes it for its own.
func masterEntry(ses Session) envelope.Envelope {
	return envelope.Envelope{
		ID: ses.Op, DestSession: ses.ID, SrcNode: ses.By,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: envelope.TypeMaster,
		Body: payload(note{By: ses.By, Reason: ses.MasterOp.String(), Node: ses.NextMaster}),
	}
}

// NewMaster returns who is master of a game from an entry of its log on, if the
// entry says that; "" means nobody.
func NewMaster(env *envelope.Envelope) (name envelope.NodeID, ok bool) {
	if !env.HasType || env.Type != envelope.TypeMaster {
		return "", false
	}
	said, ok := noteIn(env)
	return said.Node, ok
}

// Master returns who is master of a game now: a name, and "" when it has none
// or is no game.
func (s *Sessions) Master(ctx context.Context, id envelope.SessionID) (envelope.NodeID, error) {
	ses, err := s.session(ctx, id)
	return ses.Master, err
}

// IsMaster reports whether a device is the master of a game now.
func (s *Sessions) IsMaster(ctx context.Context, id envelope.SessionID, device envelope.NodeID) (bool, error) {
	name, err := s.Master(ctx, id)
	if err != nil || name == "" {
		return false, err
	}
	m, err := s.own(ctx, id, device)
	return m.in() && m.Node == name, err
}

// master is Master as far as it is remembered.
func (s *Sessions) master(ctx context.Context, id envelope.SessionID) (envelope.NodeID, error) {
	is, err := s.ruling(ctx, id)
	return is.master, err
}

// ruling returns what holds for a session, as far as it is remembered.
func (s *Sessions) ruling(ctx context.Context, id envelope.SessionID) (ruling, error) {
	s.mu.Lock()
	known, ok := s.rulings.Get(id)
	news := *s.news.of(id, "")
	s.mu.Unlock()
	now := time.Now()
	if ok && !now.After(known.until) {
		return known, nil
	}
	ses, err := s.session(ctx, id)
	if err != nil {
		return ruling{}, err
	}
	is := ruling{now.Add(trust), ses.Master, ses.MembersHidden}
	s.mu.Lock()
	defer s.mu.Unlock()
	if *s.news.of(id, "") == news { // else what was read may be older than what the log says
		s.rulings.Add(ses.ID, is)
	}
	return is, nil
}

// direct returns where a member's message to a game goes: a master's to all, or
// to the member it names; another's to the master, through the log if it is
// stored. It is the zero address when there is no master to take what is not.
func (s *Sessions) direct(ctx context.Context, env *envelope.Envelope, sender standing) (envelope.Address, error) {
	master, err := s.master(ctx, env.DestSession)
	switch {
	case err != nil:
		return envelope.Address{}, err
	case sender.self == master: // also when it is a reader
		return env.Dest(), nil
	case !sender.writes:
		return envelope.Address{}, errReader
	case env.DestNode != "" && env.DestNode != master:
		return envelope.Address{}, errPlayers
	case env.DestNode != "":
		return env.Dest(), nil
	}
	env.ForMaster = true
	if env.Class == envelope.Durable {
		return env.Dest(), nil
	}
	if master != "" {
		err = s.present(ctx, env.DestSession, master)
	}
	if master == "" || envelope.CodeOf(err) == envelope.NotFound {
		return envelope.Address{}, nil
	}
	return master.Address(), err
}
