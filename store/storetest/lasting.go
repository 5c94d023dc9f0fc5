package storetest

import (
	"fmt"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// reopened writes something of every kind, closes, opens, and compares. A
// clean Close keeps everything; what survives less is for a store's own tests.
func reopened(s *suite) {
	if s.Reopen == nil {
		s.Skip("nothing is known of what survives this store")
	}
	ctx := s.Context()
	log := bob.Address()
	epoch, err := s.store.Epoch(ctx)
	s.noError(err)
	first := message(alice, "m0", "0")
	want := []envelope.Envelope{stored(first, s.append(log, first))}
	room := session.Session{ID: "room", Owner: alice, Settings: session.Settings{AnyoneCanJoin: true}, Created: 5, Token: "t"}
	s.noError(s.store.Create(ctx, room))
	member := session.Member{
		Session: "room", Node: bob, Device: bob, Client: "bob", State: session.Joined, Op: "op", Spans: []session.Span{{From: 1}}, Version: 1,
	}
	s.noError(s.store.PutMember(ctx, member))
	header := session.Header{Session: "room", Seq: 4, By: alice, Payload: []byte(`{"a":1}`), Version: 1}
	s.noError(s.store.PutHeader(ctx, header))
	revocation := auth.Revocation{Client: "bob", Before: 7, Expires: 1 << 50}
	s.noError(s.store.PutRevocation(ctx, revocation))
	cursor := inbox.Cursor{Node: bob, Log: log, Delivered: 3, Read: 2}
	s.noError(s.store.Advance(ctx, []inbox.Cursor{cursor}))
	record := graph.Record{ID: "server", Boot: "boot", Beat: 7}
	s.noError(s.store.Claim(ctx, record, ""))
	edge := graph.Edge{Addr: log, Server: "server", Boot: "boot", Gen: 3, Conn: "conn"}
	s.noError(s.store.PutEdges(ctx, []graph.Edge{edge}))

	for round := range 3 {
		s.reopen()
		got, err := s.store.Epoch(ctx)
		s.noError(err)
		s.equal("epoch", got, epoch)
		s.sameLog(s.read(s.store, log), want)
		s.equal("seq of a repeated id", s.append(log, message(alice, "m0", "0")), uint64(1))
		_, err = start(s.store, log, message(alice, "m0", "other")).wait()
		s.equal("code of a conflict", envelope.CodeOf(err), envelope.Conflict)
		next := message(alice, fmt.Sprint("m", round+1), "-")
		want = append(want, stored(next, s.append(log, next)))
		s.equal("seq of the next", want[len(want)-1].Seq, uint64(round+2))
		heads, err := s.store.Heads(ctx, fromStart(log))
		s.noError(err)
		s.equal("heads", heads, map[envelope.Address]uint64{log: uint64(round + 2)})

		stored, err := s.store.Session(ctx, "room")
		s.noError(err)
		s.equal("session", stored, room)
		s.isError("Create again", s.store.Create(ctx, room), session.ErrExists)
		s.member(member)
		member.Version++
		s.noError(s.store.PutMember(ctx, member))
		s.headers([]envelope.SessionID{"room"}, header)
		s.revocations(s.store, 0, revocation)
		s.cursors(bob, cursor)
		s.servers(record)
		record.Beat++
		s.noError(s.store.Renew(ctx, record))
		s.edges(log, edge)
	}
}

func secondAppends(s *suite) {
	stores := []Store{s.store, s.second()}
	var a acks
	log := envelope.SessionID("room").Address()
	s.noErrors(race(8, func(i int) error { return a.sendAll(stores[i%2], log, sender(i), 15) }))
	for _, store := range stores {
		a.hold(s, store, 120)
	}

	// One id over both stores, at once and later.
	seqs := make([]uint64, 8)
	s.noErrors(race(8, func(i int) (err error) {
		seqs[i], err = appendTo(stores[i%2], log, message(alice, "m", "hi"))
		return err
	}))
	for i, seq := range seqs {
		s.equal("seq of the repeated id", seq, uint64(121))
		_, err := appendTo(stores[i%2], log, message(alice, "m", "ho"))
		s.equal("code", envelope.CodeOf(err), envelope.Conflict)
	}
}

func secondSees(s *suite) {
	ctx := s.Context()
	first, second := s.store, s.second()
	log := bob.Address()
	epochs := make([]string, 2)
	for i, store := range []Store{first, second} {
		var err error
		epochs[i], err = store.Epoch(ctx)
		s.noError(err)
	}
	s.equal("epoch of the second", epochs[1], epochs[0])
	for i := range 10 {
		from, to := first, second
		if i%2 == 1 {
			from, to = second, first
		}
		seq, err := appendTo(from, log, message(alice, fmt.Sprint("m", i), "-"))
		s.noError(err)
		s.equal("seq", seq, uint64(i+1))
		s.equal("entries at the other", len(s.read(to, log)), i+1)
		cursor := inbox.Cursor{Node: bob, Log: log, Delivered: uint64(i + 1)}
		s.noError(from.Advance(ctx, []inbox.Cursor{cursor}))
		edge := graph.Edge{Addr: log, Server: "server", Boot: "boot", Gen: uint64(i + 1)}
		s.noError(from.PutEdges(ctx, []graph.Edge{edge}))
		s.store = to
		s.cursors(bob, cursor)
		s.edges(log, edge)
	}
}

func secondRace(s *suite) { s.raceMembers(s.store, s.second()) }

func secondSessionRace(s *suite) { s.raceSessions(s.store, s.second()) }
