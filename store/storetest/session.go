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
	one := session.Session{ID: "room.1", Owner: alice, Settings: session.Settings{AnyoneCanJoin: true}, Created: 1_700_000_000_123, Token: "t1"}
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

func listSessions(s *suite) {
	ctx := s.Context()
	list := func(after envelope.SessionID, limit int) (ids []envelope.SessionID) {
		some, err := s.store.List(ctx, after, limit)
		s.noError(err)
		for _, ses := range some {
			ids = append(ids, ses.ID)
			s.session(ses)
		}
		return ids
	}
	s.equal("of nothing", len(list("", 9)), 0)
	ids := []envelope.SessionID{"10", "9", "Room", "room", "room-2", "room.1", "room2", "topic:news"} // in order
	for _, i := range []int{4, 0, 7, 2, 6, 1, 5, 3} {
		s.noError(s.store.Create(ctx, session.Session{
			ID: ids[i], Owner: alice, Created: int64(i) + 1, Token: "t", Version: 1, Settings: session.Settings{MemberLimit: i},
		}))
		s.noError(s.store.PutMember(ctx, session.Member{Session: ids[i], Node: alice, Device: alice, State: session.Joined, Version: 1}))
	}
	s.equal("all", fmt.Sprint(list("", 100)), fmt.Sprint(ids))
	s.equal("the first", fmt.Sprint(list("", 3)), fmt.Sprint(ids[:3]))
	s.equal("behind the last", len(list("topic:news", 3)), 0)
	s.equal("behind what there is not", fmt.Sprint(list("room-3", 2)), fmt.Sprint(ids[5:7]))
	for i, id := range ids {
		s.equal(fmt.Sprint("behind ", id), fmt.Sprint(list(id, 2)), fmt.Sprint(ids[i+1:min(i+3, len(ids))]))
	}
	changed := session.Session{ID: "room", Owner: bob, Created: 4, Token: "t", Version: 2}
	s.noError(s.store.UpdateSession(ctx, changed))
	some, err := s.store.List(ctx, "Room", 1)
	s.noError(err)
	s.equal("one that was changed", fmt.Sprint(some), fmt.Sprint([]session.Session{changed}))
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

func (s *suite) session(want session.Session) {
	s.Helper()
	got, err := s.store.Session(s.Context(), want.ID)
	s.noError(err)
	s.equal("session", got, want)
}

func sessionVersions(s *suite) {
	ctx := s.Context()
	ses := session.Session{ID: "room", Owner: alice, Created: 5, Token: "t", Version: 1}
	for _, v := range []uint64{0, 1, 2} {
		ses.Version = v
		s.isError(fmt.Sprint("version ", v, " of nothing"), s.store.UpdateSession(ctx, ses), session.ErrChanged)
	}
	_, err := s.store.Session(ctx, ses.ID)
	s.isError("Session of nothing", err, session.ErrNotFound)

	ses.Version = 1
	s.noError(s.store.Create(ctx, ses))
	other := ses
	other.ID, other.Token = "room.1", "t2"
	s.noError(s.store.Create(ctx, other))
	for v, change := range []func(*session.Session){
		func(ses *session.Session) {
			ses.Op, ses.By = "op1", alice
			ses.Next = session.Settings{AnyoneCanJoin: true, MemberLimit: 7, MembersHidden: true}
		},
		func(ses *session.Session) {
			ses.Op, ses.By, ses.Settings, ses.Next = "", "", ses.Next, session.Settings{}
		},
		func(ses *session.Session) { ses.Owner, ses.Former, ses.Reign = bob, alice, 1<<40 },
		func(ses *session.Session) {
			ses.Admitted, ses.AdmittedVersion, ses.MostSeats, ses.Paid = bob, 1<<40, 100_000, 1_700_000_000_123
		},
		func(ses *session.Session) {
			ses.Master, ses.MasterTerm, ses.MasterOp, ses.NextMaster = envelope.AliasOf("room", "zorro"), 1<<40, session.MasterLost, bob
		},
		func(ses *session.Session) {
			ses.Settings = session.Settings{
				Kind: session.Topic, NamesOnly: true, Successors: session.Nobody, NotifyLast: 3, FromHeader: true,
				KeepCount: 4, KeepSeconds: 5, OwnerOnly: true,
			}
		},
		func(ses *session.Session) { ses.Settings = session.Settings{} },
	} {
		before := ses
		change(&ses)
		for _, wrong := range []uint64{0, before.Version, before.Version + 2} {
			ses.Version = wrong
			s.isError(fmt.Sprint("version ", wrong, " over ", before.Version), s.store.UpdateSession(ctx, ses), session.ErrChanged)
			s.session(before)
		}
		ses.Version = uint64(v + 2)
		s.noError(s.store.UpdateSession(ctx, ses))
		s.session(ses)
	}
	s.session(other)
	s.isError("Create again", s.store.Create(ctx, ses), session.ErrExists)
}

func sessionRace(s *suite) { s.raceSessions(s.store, s.store) }

// raceSessions lets eight goroutines write each version, by turns through
// either store.
func (s *suite) raceSessions(stores ...Store) {
	s.noError(s.store.Create(s.Context(), session.Session{ID: "room", Owner: alice, Token: "t", Version: 1}))
	for version := uint64(2); version <= 8; version++ {
		update := func(i int) session.Session {
			return session.Session{ID: "room", Owner: alice, Token: "t", Op: fmt.Sprint("op", i), Version: version}
		}
		winner := s.oneWinner(race(8, func(i int) error {
			return stores[i%len(stores)].UpdateSession(s.Context(), update(i))
		}), session.ErrChanged)
		s.session(update(winner))
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
	m := session.Member{Session: "room", Node: bob, Device: bob, Client: "bob", State: session.Joining, Op: "op1"}
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
		func(m *session.Member) {
			m.Spans = []session.Span{{From: 5, Until: 1 << 40}, {From: 1<<40 + 7, Since: 1<<40 - 9, Header: 1<<40 - 10}}
		},
		func(m *session.Member) { m.Spans = nil },
		func(m *session.Member) {
			m.State, m.Next, m.Reign, m.By = session.Changing, session.Owner, 1<<40, alice
		},
		func(m *session.Member) { m.State, m.Role, m.Next, m.Reign = session.Joined, session.Moderator, 0, 0 },
		func(m *session.Member) { m.State, m.By, m.Paid = session.Banned, "", 1_700_000_000_123 },
		func(m *session.Member) { m.Alias = envelope.AliasOf("room", "zorro") },
		func(m *session.Member) { m.Revealed = true },
		func(m *session.Member) { m.Kind = session.Game },
		func(m *session.Member) { m.Given = true },
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
			return session.Member{Session: "room", Node: bob, Device: bob, State: session.Joined, Op: fmt.Sprint("op", i), Version: version}
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
				Session: id, Node: node, Device: node, Client: envelope.ClientID(node), State: session.State(1 + (i+j)%4),
				Op: "op", Spans: []session.Span{{From: uint64(i + 1), Until: uint64(j)}}, Version: 1,
			}
			s.noError(s.store.PutMember(ctx, m))
			if i == 1 {
				m.State, m.Version = session.Left, 2
				s.noError(s.store.PutMember(ctx, m))
			}
			bySession[id] = append(bySession[id], m)
			byNode[node] = append(byNode[node], m)
			if j%2 == 0 {
				continue
			}
			m.Node, m.Version, m.Revealed = envelope.AliasOf(id, "z"+string(node)), 1, i == 2 // found by its device all the same
			s.noError(s.store.PutMember(ctx, m))
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
