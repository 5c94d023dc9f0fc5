package storetest

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func eachEntry(s *suite) {
	log, other := envelope.SessionID("each").Address(), bob.Address()
	all := s.appendN(log, 9)
	s.appendN(other, 12)
	large := message(alice, "large", strings.Repeat("x", 1000))
	all = append(all, stored(large, s.append(log, large)))

	of := func(seqs ...uint64) (entries []envelope.Envelope) {
		for _, seq := range seqs {
			entries = append(entries, all[seq-1])
		}
		return entries
	}
	check := func(want []envelope.Envelope, maxBytes int, seqs ...uint64) {
		s.Helper()
		asked := slices.Clone(seqs)
		got, err := s.store.ReadEach(s.Context(), log, seqs, maxBytes)
		s.noError(err)
		s.sameLog(got, want)
		s.equal("what was asked for", seqs, asked)
	}
	check(of(2, 3, 7), 1<<20, 7, 2, 3)
	check(of(1, 10), 1<<20, 1, 0, 10, 11, 300, math.MaxUint64)
	check(nil, 1<<20, 11)
	check(nil, 1<<20)
	check(of(10), 10, 10)          // one, however large
	check(of(1, 9), 200, 10, 9, 1) // what is left out is higher
	check(of(4), 0, 9, 4)

	got, err := s.store.ReadEach(s.Context(), envelope.SessionID("nobody").Address(), []uint64{1, 2}, 1<<20)
	s.noError(err)
	s.equal("entries of no log", len(got), 0)

	s.noError(s.store.Trim(s.Context(), log, 5, time.Now().Add(-100*365*24*time.Hour)))
	check(of(5, 8), 1<<20, 1, 4, 5, 8)
	check(nil, 1<<20, 4)
	if s.Reopen != nil {
		s.reopen()
		check(of(5, 8), 1<<20, 1, 4, 5, 8)
	}
}
