package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// headers fails unless those sessions have exactly those headers.
func (s *suite) headers(ids []envelope.SessionID, want ...session.Header) {
	s.Helper()
	got, err := s.store.Headers(s.Context(), ids)
	s.noError(err)
	s.equal("headers", plainHeaders(got), plainHeaders(want))
}

// plainHeaders makes no document and an empty one the same.
func plainHeaders(headers []session.Header) []session.Header {
	all := slices.Clone(headers)
	for i := range all {
		h := &all[i]
		h.Payload, h.Next = append([]byte(nil), h.Payload...), append([]byte(nil), h.Next...)
	}
	return sorted(all)
}

func headerVersions(s *suite) {
	ctx := s.Context()
	ids := []envelope.SessionID{"room", "room.1", "roo"}
	h := session.Header{Session: "room", NextBy: alice, Next: []byte(`{"a":"<\u00e9>"}`), Op: "op1"}
	s.headers(nil)
	s.headers(ids)
	for _, v := range []uint64{0, 2, 3} {
		h.Version = v
		s.isError(fmt.Sprint("version ", v, " of nothing"), s.store.PutHeader(ctx, h), session.ErrChanged)
	}
	s.headers(ids)
	h.Version = 1
	s.noError(s.store.PutHeader(ctx, h))
	other := session.Header{Session: "room.1", Seq: 7, By: bob, Payload: []byte("null"), Version: 1}
	s.noError(s.store.PutHeader(ctx, other))
	for v, change := range []func(*session.Header){
		func(h *session.Header) {
			h.Seq, h.By, h.Payload, h.NextBy, h.Next, h.Op = 1<<40, h.NextBy, h.Next, "", nil, ""
		},
		func(h *session.Header) { h.Paid = 1_700_000_000_123 },
		func(h *session.Header) {
			h.Op, h.NextBy, h.Next = "op2", envelope.AliasOf("room", "zorro"), []byte(`"`+strings.Repeat("x", 64<<10)+`"`)
		},
	} {
		before := h
		change(&h)
		for _, wrong := range []uint64{0, 1, before.Version, before.Version + 2} {
			h.Version = wrong
			s.isError(fmt.Sprint("version ", wrong, " over ", before.Version), s.store.PutHeader(ctx, h), session.ErrChanged)
			s.headers(ids, before, other)
		}
		h.Version = uint64(v + 2)
		s.noError(s.store.PutHeader(ctx, h))
		s.headers(ids, h, other)
	}
	s.headers(ids[:1], h)
	s.headers(ids[2:])
}

func headerRace(s *suite) { s.raceHeaders(s.store, s.store) }

func secondHeaderRace(s *suite) { s.raceHeaders(s.store, s.second()) }

// raceHeaders lets eight goroutines write each version, by turns through
// either store.
func (s *suite) raceHeaders(stores ...Store) {
	for version := uint64(1); version <= 8; version++ {
		put := func(i int) session.Header {
			return session.Header{Session: "room", Op: fmt.Sprint("op", i), Next: []byte("1"), Version: version}
		}
		winner := s.oneWinner(race(8, func(i int) error {
			return stores[i%len(stores)].PutHeader(s.Context(), put(i))
		}), session.ErrChanged)
		s.headers([]envelope.SessionID{"room"}, put(winner))
	}
}
