package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func pagesOfMany(s *suite) {
	from := make(map[envelope.Address]uint64)
	logs := make([]envelope.Address, 12)
	for i := range logs { // log i has i entries, and is read behind the first
		logs[i] = envelope.SessionID(fmt.Sprint("many-", i)).Address()
		for n := range i {
			s.append(logs[i], message(alice, fmt.Sprintf("m%d", n), strings.Repeat("x", 50)))
		}
		from[logs[i]] = 1
	}
	nobody := envelope.SessionID("many-nobody").Address()
	from[nobody], from[logs[3]] = 0, 1<<62

	pages, err := s.store.ReadMany(s.Context(), from, 4, 1<<20)
	s.noError(err)
	for i, log := range logs {
		want := min(max(i-1, 0), 4)
		if i == 3 {
			want = 0
		}
		s.equal(fmt.Sprintf("entries of %v", log), len(pages[log]), want)
		s.contiguous(pages[log], 1)
	}
	s.equal("logs", len(pages), 9)

	// What does not fit is left out, of whatever log, but not everything.
	pages, err = s.store.ReadMany(s.Context(), from, 100, 200)
	s.noError(err)
	total := 0
	for _, page := range pages {
		total += len(page)
		s.contiguous(page, 1)
	}
	if total < 1 || total > 8 {
		s.Errorf("%d entries within 200 bytes", total)
	}

	// Of a log that was trimmed there is nothing, or what is left, and of the others all.
	s.noError(s.store.Trim(s.Context(), logs[11], 6, time.Now().Add(-time.Hour)))
	pages, err = s.store.ReadMany(s.Context(), from, 10, 1<<20)
	s.noError(err)
	if page := pages[logs[11]]; len(page) > 0 {
		s.contiguous(page, 5)
	}
	s.equal("entries of one that was not", len(pages[logs[10]]), 9)

	pages, err = s.store.ReadMany(s.Context(), nil, 10, 1<<20)
	s.noError(err)
	s.equal("logs of none", len(pages), 0)
}
