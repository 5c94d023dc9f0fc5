package storetest

import (
	"fmt"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// full fails unless the log refuses another message with Quota.
func (s *suite) full(log envelope.Address) {
	s.Helper()
	_, err := start(s.store, log, message(alice, "one too many", "-")).wait()
	s.equal("code for a full log", envelope.CodeOf(err), envelope.Quota)
	s.finds(log, "one too many", inbox.Found{})
}

func quotaOfEntries(s *suite) {
	log := envelope.ClientID(bob).Address()
	want := s.appendN(log, quotaEntries)
	s.full(log)
	s.holds(s.store, log, want)
	for _, e := range want { // what is stored is answered
		s.recognised(log, e)
	}
	for i := range 3 {
		s.trim(log, uint64(i+2))
		for _, e := range want {
			s.recognised(log, e)
		}
		next := numbered(len(want) + 1)
		want = append(want, stored(next, s.append(log, next)))
		s.full(log)
		s.holds(s.store, log, want[i+1:])
	}
	s.trim(log, 1000)
	for range quotaEntries - 1 {
		next := numbered(len(want) + 1)
		want = append(want, stored(next, s.append(log, next)))
	}
	s.full(log)
}

func quotaOfBytes(s *suite) {
	log := envelope.ClientID(bob).Address()
	// A message larger than the quota is taken when nothing else is there.
	want := []envelope.Envelope{stored(numbered(2*quotaBytes), s.append(log, numbered(2*quotaBytes)))}
	s.full(log)
	s.recognised(log, want[0])
	s.holds(s.store, log, want)

	other := envelope.ClientID(alice).Address()
	want = nil
	for i := range 4 { // of about 1200 bytes each, with what an entry takes beside
		want = append(want, stored(numbered(1000+i), s.append(other, numbered(1000+i))))
	}
	_, err := start(s.store, other, numbered(1004)).wait()
	s.equal("code for a large message", envelope.CodeOf(err), envelope.Quota)
	s.holds(s.store, other, want)
	s.trim(other, 2)
	want = append(want[1:], stored(numbered(1004), s.append(other, numbered(1004))))
	s.holds(s.store, other, want)
	_, err = start(s.store, other, numbered(1005)).wait()
	s.equal("code for the next", envelope.CodeOf(err), envelope.Quota)
}

// quotaInOrder sends without waiting. What is refused leaves no hole, and is
// answered in its turn.
func quotaInOrder(s *suite) {
	log := envelope.ClientID(bob).Address()
	ended := make(chan *call, 4*quotaEntries)
	var calls []*call
	for i := range 2 * quotaEntries {
		calls = append(calls, start(s.store, log, numbered(i+1), func(c *call) { ended <- c }))
		if i%2 == 1 { // repeated at once
			calls = append(calls, start(s.store, log, numbered(i), func(c *call) { ended <- c }))
		}
	}
	for i, c := range calls {
		seq, err := c.wait()
		if <-ended != c {
			s.Fatalf("done was not called in order, at %d", i)
		}
		var n int
		_, _ = fmt.Sscanf(c.env.ID, "m%d", &n)
		if n <= quotaEntries {
			s.noError(err)
			s.equal("seq of "+c.env.ID, seq, uint64(n))
		} else {
			s.equal("code for "+c.env.ID, envelope.CodeOf(err), envelope.Quota)
		}
	}
	s.equal("entries", len(s.read(s.store, log)), quotaEntries)
}

func quotaOfKind(s *suite) {
	for _, log := range []envelope.Address{bob.Address(), envelope.SessionID(bob).Address()} {
		s.equal("entries", len(s.appendN(log, quotaEntries+5)), quotaEntries+5)
	}
}

// quotaOfNotes fills a log that takes the server's own notes and deletions all
// the same.
func quotaOfNotes(s *suite) {
	log := envelope.ClientID(bob).Address()
	want := s.appendN(log, quotaEntries)
	for i, kind := range []int64{envelope.TypeJoined, envelope.TypeLeft} {
		s.full(log)
		note := message(alice, fmt.Sprint("note", i), "-")
		note.HasType, note.Type = true, kind
		want = append(want, stored(note, s.append(log, note)))
	}
	s.full(log)
	deletion := message(alice, "deletion", "")
	deletion.Body, deletion.Deletes = nil, 1
	want = append(want, stored(deletion, s.append(log, deletion)))
	edit := message(alice, "edit", "-")
	edit.Edits = 1
	_, err := start(s.store, log, edit).wait()
	s.equal("code for an edit", envelope.CodeOf(err), envelope.Quota)
	own := message(alice, "type of an app", "-")
	own.HasType, own.Type = true, 1
	_, err = start(s.store, log, own).wait()
	s.equal("code for a type of an app", envelope.CodeOf(err), envelope.Quota)
	s.holds(s.store, log, want)
}
