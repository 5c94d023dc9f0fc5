package storetest

import (
	"fmt"

	"github.com/allsparkrt/allspark/auth"
)

// revocations fails unless exactly those are in a store, and returns their version.
func (s *suite) revocations(store Store, known uint64, want ...auth.Revocation) uint64 {
	s.Helper()
	got, version, err := store.Revocations(s.Context(), known)
	s.noError(err)
	s.equal("revocations", sorted(got), sorted(want))
	if version == 0 {
		s.Fatal("the version is 0")
	}
	return version
}

func revocationsCover(s *suite) {
	ctx := s.Context()
	none := s.revocations(s.store, 0)
	s.equal("version of nothing", s.revocations(s.store, none), none)

	rows := []auth.Revocation{
		{JTI: "x", Expires: 500},
		{Client: "x", Before: 10, Expires: 500},
		{Node: "x", Before: 10, Expires: 600},
		{Before: 1_700_000_000_123, Expires: 700},
		{Client: "x.1", Before: 10, Expires: 500},
	}
	version := none
	for i, r := range rows {
		s.noError(s.store.PutRevocation(ctx, r))
		now := s.revocations(s.store, version, rows[:i+1]...)
		if now == version {
			s.Fatal("another row, and the same version")
		}
		version = now
		s.equal("version", s.revocations(s.store, version), version)
	}
	for _, put := range []auth.Revocation{
		{Client: "x", Before: 9, Expires: 400},
		{Client: "x", Before: 20, Expires: 450},
		{Client: "x", Before: 15, Expires: 550},
	} {
		s.noError(s.store.PutRevocation(ctx, put))
		rows[1].Cover(put)
		s.revocations(s.store, 0, rows...)
	}

	s.noError(s.store.DropRevocations(ctx, 500))
	s.revocations(s.store, 0, rows...)
	s.noError(s.store.DropRevocations(ctx, 501))
	s.revocations(s.store, 0, rows[1], rows[2], rows[3])
	s.noError(s.store.DropRevocations(ctx, 1<<60))
	s.revocations(s.store, 0)
	s.noError(s.store.PutRevocation(ctx, rows[0]))
	s.revocations(s.store, version, rows[0])
}

func revocationRace(s *suite) { s.raceRevocations(s.store, s.store) }

// secondRevokes lets two stores write rows about the same; each sees, by the
// version, that there is something new.
func secondRevokes(s *suite) { s.raceRevocations(s.store, s.second()) }

func (s *suite) raceRevocations(stores ...Store) {
	version := s.revocations(stores[1], 0)
	var want []auth.Revocation
	for round := range int64(4) {
		before := func(i int) int64 { return 100*round + int64(i) + 1 }
		for _, err := range race(8, func(i int) error {
			store := stores[i%len(stores)]
			if err := store.PutRevocation(s.Context(), auth.Revocation{JTI: fmt.Sprint(round, "-", i), Expires: 5}); err != nil {
				return err
			}
			return store.PutRevocation(s.Context(), auth.Revocation{Client: "x", Before: before(i), Expires: 1000 - before(i)})
		}) {
			s.noError(err)
		}
		for i := range 8 {
			want = append(want, auth.Revocation{JTI: fmt.Sprint(round, "-", i), Expires: 5})
		}
		all := append([]auth.Revocation{{Client: "x", Before: before(7), Expires: 999}}, want...)
		for _, store := range stores {
			s.revocations(store, version, all...)
		}
		version = s.revocations(stores[1], 0, all...)
	}
}
