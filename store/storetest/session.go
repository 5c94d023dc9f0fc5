package storetest

import (
	"fmt"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

func createSession(s *suite) {
	ctx := s.Context()
	_, err := s.store.Session(ctx, "room.1")
	s.isError("Session of nothing", err, session.ErrNotFound)
	one := session.Session{ID: "room.1", Owner: alice, AnyoneCanJoin: true, Created: 1_700_000_000_123, Token: "t1"}
	two := session.Session{ID: "room", Owner: bob, Created: 1, Token: "t2"}
	s.noError(s.store.Create(ctx, one))
	s.noError(s.store.Create(ctx, two))
	other := one
	other.Owner, other.Token = bob, "t3"
	s.isError("Create again", s.store.Create(ctx, other), session.ErrExists)
	s.isError("Create the same again", s.store.Create(ctx, one), session.ErrExists)
	for _, want := range []session.Session{one, two} {
		got, err := s.store.Session(ctx, want.ID)
		s.noError(err)
		s.equal("session", got, want)
	}
}

func createRace(s *suite) {
	for round := range 5 {
		id := envelope.SessionID(fmt.Sprint("room", round))
		winner := s.oneWinner(race(8, func(i int) error {
			return s.store.Create(s.Context(), session.Session{ID: id, Owner: alice, Token: fmt.Sprint("t", i)})
		}), session.ErrExists)
		got, err := s.store.Session(s.Context(), id)
		s.noError(err)
		s.equal("token stored", got.Token, fmt.Sprint("t", winner))
	}
}

func (s *suite) member(want session.Member) {
	s.Helper()
	got, err := s.store.Member(s.Context(), want.Session, want.Node)
	s.noError(err)
	s.equal("member", plain(got), plain(want))
}

// plain makes no spans and empty spans the same.
func plain(m session.Member) session.Member {
	if len(m.Spans) == 0 {
		m.Spans = nil
	}
	return m
}

func plainAll(members []session.Member) []session.Member {
	var all []session.Member
	for _, m := range members {
		all = append(all, plain(m))
	}
	return sorted(all)
}

func memberVersions(s *suite) {
	ctx := s.Context()
	m := session.Member{Session: "room", Node: bob, Client: "bob", State: session.Joining, Op: "op1"}
	_, err := s.store.Member(ctx, m.Session, m.Node)
	s.isError("Member of nothing", err, session.ErrNotFound)
	for _, v := range []uint64{0, 2, 3} {
		m.Version = v
		s.isError(fmt.Sprint("version ", v, " of nothing"), s.store.PutMember(ctx, m), session.ErrChanged)
	}
	_, err = s.store.Member(ctx, m.Session, m.Node)
	s.isError("Member of nothing", err, session.ErrNotFound)

	m.Version = 1
	s.noError(s.store.PutMember(ctx, m))
	s.member(m)
	for v, change := range []func(*session.Member){
		func(m *session.Member) { m.State, m.Spans = session.Joined, []session.Span{{From: 5}} },
		func(m *session.Member) { m.State, m.Op = session.Leaving, "op2" },
		func(m *session.Member) { m.State, m.Spans = session.Left, []session.Span{{From: 5, Until: 1 << 40}} },
		func(m *session.Member) { m.State, m.Op, m.Client = session.Joining, "op3", "bob2" },
		func(m *session.Member) { m.Spans = []session.Span{{From: 5, Until: 1 << 40}, {From: 1<<40 + 7}} },
		func(m *session.Member) { m.Spans = nil },
	} {
		before := m
		change(&m)
		for _, wrong := range []uint64{0, 1, before.Version, before.Version + 2} {
			m.Version = wrong
			s.isError(fmt.Sprint("version ", wrong, " over ", before.Version), s.store.PutMember(ctx, m), session.ErrChanged)
			s.member(before)
		}
		m.Version = uint64(v + 2)
		s.noError(s.store.PutMember(ctx, m))
		s.member(m)
	}
}

func memberRace(s *suite) { s.raceMembers(s.store, s.store) }

// raceMembers lets eight goroutines write each version, by turns through
// either store.
func (s *suite) raceMembers(stores ...Store) {
	for version := uint64(1); version <= 10; version++ {
		put := func(i int) session.Member {
			return session.Member{Session: "room", Node: bob, State: session.Joined, Op: fmt.Sprint("op", i), Version: version}
		}
		winner := s.oneWinner(race(8, func(i int) error {
			return stores[i%len(stores)].PutMember(s.Context(), put(i))
		}), session.ErrChanged)
		s.member(put(winner))
	}
}

func memberships(s *suite) {
	ctx := s.Context()
	ids := []envelope.SessionID{"room", "room.1", "r", "room1"}
	nodes := []envelope.NodeID{alice, bob, "b", "bob"}
	bySession := map[envelope.SessionID][]session.Member{}
	byNode := map[envelope.NodeID][]session.Member{}
	for i, id := range ids {
		for j, node := range nodes {
			if (i+j)%4 == 0 {
				continue
			}
			m := session.Member{
				Session: id, Node: node, Client: envelope.ClientID(node), State: session.State(1 + (i+j)%4),
				Op: "op", Spans: []session.Span{{From: uint64(i + 1), Until: uint64(j)}}, Version: 1,
			}
			s.noError(s.store.PutMember(ctx, m))
			if i == 1 {
				m.State, m.Version = session.Left, 2
				s.noError(s.store.PutMember(ctx, m))
			}
			bySession[id] = append(bySession[id], m)
			byNode[node] = append(byNode[node], m)
		}
	}
	for _, id := range append(ids, "roo") {
		got, err := s.store.Members(ctx, id)
		s.noError(err)
		s.equal("members of "+string(id), plainAll(got), plainAll(bySession[id]))
	}
	for _, node := range append(nodes, "bo") {
		got, err := s.store.Memberships(ctx, node)
		s.noError(err)
		s.equal("memberships of "+string(node), plainAll(got), plainAll(byNode[node]))
	}
}
