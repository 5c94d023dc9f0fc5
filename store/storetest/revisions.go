package storetest

import (
	"math"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// revising returns message i of alice, which edits or deletes an earlier one.
func revising(i int, edits, deletes uint64) *envelope.Envelope {
	env := numbered(i)
	env.Edits, env.Deletes = edits, deletes
	return env
}

// revisionsOf returns what revises a range of a log.
func (s *suite) revisionsOf(store Store, log envelope.Address, first, last uint64) []inbox.Revision {
	s.Helper()
	found, err := store.Revisions(s.Context(), map[envelope.Address][]inbox.Range{log: {{First: first, Last: last}}})
	s.noError(err)
	if all, there := found[log]; there != (len(all) > 0) || len(found) > 1 {
		s.Fatalf("revisions of one log: %v", found)
	}
	return found[log]
}

func revisions(s *suite) {
	log, other := envelope.SessionID("room").Address(), bob.Address()
	want := s.appendN(log, 5)
	for _, env := range []*envelope.Envelope{
		revising(6, 2, 0), revising(7, 5, 0), revising(8, 2, 0), revising(9, 0, 2), revising(10, 0, 1), revising(11, 300, 0), revising(12, 2, 0),
	} {
		want = append(want, stored(env, s.append(log, env)))
		s.equal("seq of a repetition", s.append(log, env), uint64(len(want)))
	}
	s.append(other, revising(1, 2, 0))
	s.sameLog(s.read(s.store, log), want)

	of := []inbox.Revision{{Of: 1, Seq: 10, Deletes: true}, {Of: 2, Seq: 6}, {Of: 2, Seq: 8}, {Of: 2, Seq: 9, Deletes: true}, {Of: 2, Seq: 12}, {Of: 5, Seq: 7}, {Of: 300, Seq: 11}}
	for _, test := range []struct {
		first, last uint64
		want        []inbox.Revision
	}{
		{0, math.MaxUint64, of},
		{1, 300, of},
		{1, 299, of[:6]},
		{1, 1, of[:1]},
		{2, 2, of[1:5]},
		{2, 5, of[1:6]},
		{3, 4, nil},
		{5, 4, nil},
		{6, 12, nil},
		{301, math.MaxUint64, nil},
	} {
		s.equal("revisions", s.revisionsOf(s.store, log, test.first, test.last), test.want)
	}

	nobody := envelope.SessionID("nobody").Address()
	found, err := s.store.Revisions(s.Context(), map[envelope.Address][]inbox.Range{
		log: {{First: 5, Last: 9}, {First: 1, Last: 1}}, other: {{First: 1, Last: 9}}, nobody: {{First: 1, Last: 9}},
	})
	s.noError(err)
	found[log] = sorted(found[log])
	s.equal("revisions of several logs", found, map[envelope.Address][]inbox.Revision{log: {of[0], of[5]}, other: {{Of: 2, Seq: 1}}})
	found, err = s.store.Revisions(s.Context(), nil)
	s.noError(err)
	s.equal("logs of none", len(found), 0)

	// They go when they are trimmed, and not when what they revise is.
	s.noError(s.store.Trim(s.Context(), log, 6, time.Now().AddDate(100, 0, 0)))
	s.equal("what revised what is gone", s.revisionsOf(s.store, log, 1, 300), of)
	s.noError(s.store.Trim(s.Context(), log, 10, time.Now().AddDate(100, 0, 0)))
	left := []inbox.Revision{of[0], of[4], of[6]}
	s.equal("what is left", s.revisionsOf(s.store, log, 1, 300), left)
	if s.Reopen != nil {
		s.reopen()
		s.equal("what is left, opened anew", s.revisionsOf(s.store, log, 1, 300), left)
	}
}
