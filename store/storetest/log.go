package storetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

const (
	alice = envelope.NodeID("alice-phone")
	bob   = envelope.NodeID("bob.phone:1@home")
)

func numbers(s *suite) {
	log := bob.Address()
	page, err := s.store.Read(s.Context(), log, 0, 10, 1<<20)
	s.noError(err)
	s.equal("entries of an empty log", len(page), 0)

	var want []envelope.Envelope
	for i := range 20 {
		env := message(alice, fmt.Sprint("m", i), fmt.Sprint(i))
		env.Seq = 99 // to be ignored and left alone
		seq := s.append(log, env)
		s.equal("seq", seq, uint64(i+1))
		s.equal("Seq of the envelope handed in", env.Seq, uint64(99))
		want = append(want, stored(env, seq))
	}
	s.equal("the log", s.read(s.store, log), want)
}

func addresses(s *suite) {
	logs := []envelope.Address{
		envelope.NodeID("x").Address(),
		envelope.ClientID("x").Address(),
		envelope.SessionID("x").Address(),
		envelope.NodeID("x.").Address(),
		envelope.NodeID("x.1").Address(),
		envelope.NodeID("x:1").Address(),
		envelope.NodeID("x@1").Address(),
		envelope.NodeID("node:x").Address(),
		envelope.NodeID("X").Address(),
		envelope.NodeID("-").Address(),
		envelope.NodeID(".").Address(),
		envelope.NodeID(strings.Repeat("x", envelope.MaxIDLen)).Address(),
		envelope.NodeID(strings.Repeat("x", envelope.MaxIDLen-1)).Address(),
	}
	for round := range 2 {
		for _, log := range logs {
			seq := s.append(log, message(alice, fmt.Sprint("m", round), log.String()))
			s.equal("seq in "+log.String(), seq, uint64(round+1))
		}
	}
	for _, log := range logs {
		all := s.read(s.store, log)
		s.equal("entries of "+log.String(), len(all), 2)
		for _, e := range all {
			s.equal("body in "+log.String(), string(e.Body), `"payload":"`+log.String()+`"`)
		}
	}
}

func order(s *suite) {
	logs := []envelope.Address{alice.Address(), bob.Address(), envelope.SessionID("room").Address()}
	var mu sync.Mutex
	answered := map[envelope.Address][]*call{}
	sent := map[envelope.Address][]*call{}
	for i := range 60 {
		for _, log := range logs {
			env := message(alice, fmt.Sprint("m", i), fmt.Sprint(i))
			sent[log] = append(sent[log], start(s.store, log, env, func(c *call) {
				mu.Lock()
				answered[log] = append(answered[log], c)
				mu.Unlock()
			}))
		}
	}
	for _, log := range logs {
		for i, c := range sent[log] {
			seq, err := c.wait()
			s.noError(err)
			s.equal("seq", seq, uint64(i+1))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, log := range logs {
		for i, c := range answered[log] {
			if c != sent[log][i] {
				s.Fatalf("%v: done was called for %q in place %d", log, c.env.ID, i)
			}
			s.equal("calls of done", c.times.Load(), int32(1))
		}
	}
}

func dedupe(s *suite) {
	log := bob.Address()
	s.append(log, message(alice, "before", "-"))
	first := message(alice, "m", "hi")
	s.equal("seq", s.append(log, first), uint64(2))
	s.append(log, message(alice, "after", "-"))

	again := message(alice, "m", "hi")
	again.Timestamp += 5000 // what the server sets is no part of the digest
	again.SrcClient = "renamed"
	s.equal("seq of the repetition", s.append(log, again), uint64(2))

	for name, other := range map[string]func(*envelope.Envelope){
		"body":    func(e *envelope.Envelope) { e.Body = []byte(`"payload":"ho"`) },
		"spacing": func(e *envelope.Envelope) { e.Body = []byte(`"payload": "hi"`) },
		"type":    func(e *envelope.Envelope) { e.HasType = true },
		"ttl":     func(e *envelope.Envelope) { e.TTL = 1 },
	} {
		env := message(alice, "m", "hi")
		other(env)
		_, err := start(s.store, log, env).wait()
		s.equal("code for another "+name, envelope.CodeOf(err), envelope.Conflict)
	}

	s.equal("seq of the next", s.append(log, message(alice, "next", "-")), uint64(4))
	all := s.read(s.store, log)
	s.equal("entries", len(all), 4)
	s.equal("the entry", all[1], stored(first, 2))
}

func dedupeInFlight(s *suite) {
	log := bob.Address()
	var calls []*call
	for range 3 {
		calls = append(calls,
			start(s.store, log, message(alice, "m", "hi")),
			start(s.store, log, message(alice, "m", "ho")))
	}
	last := start(s.store, log, message(alice, "n", "-"))
	for i, c := range calls {
		seq, err := c.wait()
		if i%2 == 0 {
			s.noError(err)
			s.equal("seq", seq, uint64(1))
		} else {
			s.equal("code", envelope.CodeOf(err), envelope.Conflict)
		}
	}
	seq, err := last.wait()
	s.noError(err)
	s.equal("seq of the next", seq, uint64(2))
	s.equal("entries", len(s.read(s.store, log)), 2)
}

func noID(s *suite) {
	log := bob.Address()
	for i := range 5 {
		s.equal("seq", s.append(log, message(alice, "", "hi")), uint64(i+1))
	}
	s.equal("entries", len(s.read(s.store, log)), 5)
}

func idScope(s *suite) {
	log, other := bob.Address(), envelope.ClientID(bob).Address()
	s.equal("seq", s.append(log, message(alice, "m", "1")), uint64(1))
	s.equal("seq from another sender", s.append(log, message(bob, "m", "2")), uint64(2))
	s.equal("seq in another log", s.append(other, message(alice, "m", "3")), uint64(1))
	s.equal("seq of a server's message", s.append(log, message("", "m", "4")), uint64(3))
	// Names that run into each other must not be taken for one another.
	s.equal("seq", s.append(log, message("a", "b.c", "5")), uint64(4))
	s.equal("seq", s.append(log, message("a.b", "c", "6")), uint64(5))
	s.equal("seq", s.append(log, message("a:b", "c", "7")), uint64(6))
	s.equal("seq", s.append(log, message("a", "b:c", "8")), uint64(7))
}

func fields(s *suite) {
	log := envelope.SessionID("room").Address()
	full := envelope.Envelope{
		ID: "m.1:2@3_4-5", DestNode: bob, DestSession: "room",
		SrcNode: alice, SrcClient: "alice", Timestamp: 1_700_000_000_123,
		Type: 7, HasType: true, TTL: 3600, Receipt: true, Key: "k",
		Body: []byte(`"payload":"hi"`),
	}
	var want []envelope.Envelope
	for i, change := range []func(*envelope.Envelope){
		func(*envelope.Envelope) {},
		func(e *envelope.Envelope) { e.Type, e.HasType = 0, true },
		func(e *envelope.Envelope) { e.Type, e.HasType = 0, false },
		func(e *envelope.Envelope) { e.Type = -1 << 63 },
		func(e *envelope.Envelope) { e.Type = 1<<63 - 1 },
		func(e *envelope.Envelope) { e.Type = envelope.TypeJoined },
		func(e *envelope.Envelope) { e.DestNode = "" },
		func(e *envelope.Envelope) { e.DestNode, e.DestSession, e.DestClient = "", "", "bob" },
		func(e *envelope.Envelope) { e.DestSession = "" },
		func(e *envelope.Envelope) { e.SrcNode, e.SrcClient = "", "" },
		func(e *envelope.Envelope) { e.Timestamp = 0 },
		func(e *envelope.Envelope) { e.Receipt = false },
		func(e *envelope.Envelope) { e.TTL = envelope.MaxTTL },
		func(e *envelope.Envelope) { e.Class = envelope.Latest },
		func(e *envelope.Envelope) { e.Body = nil },
		func(e *envelope.Envelope) { *e = envelope.Envelope{} },
	} {
		env := full
		change(&env)
		if env.ID != "" {
			env.ID = fmt.Sprint(env.ID, i)
		}
		want = append(want, stored(&env, s.append(log, &env)))
	}
	s.sameLog(s.read(s.store, log), want)
}

func bodies(s *suite) {
	log := bob.Address()
	var want []envelope.Envelope
	for i, body := range []string{
		`"payload":"hi"`,
		"\"payload\" :\t\"hi\" ,\r\n  \"payload1\": [ 1 , 2.50 , -0e+1 ]",
		`"payload":"\u0041\u00e9\ud83d\ude00\/\b\\\""`,
		`"payload":"Aé😀` + "\u2028\u2029" + `<>&'$.\u0000"`,
		`"$set":{"a.b":1},"":null,"_id":1,"payload":12345678901234567890.000000000000000001`,
		`"payload":"` + strings.Repeat("0123456789abcdef", 4096) + `"`,
		`"payload":"` + string(make([]byte, 3)) + `"`, // a store does not look inside
		"\"payload\":\"\xff\xfe\x80\"",
	} {
		env := message(alice, fmt.Sprint("m", i), "")
		env.Body = []byte(body)
		want = append(want, stored(env, s.append(log, env)))
	}
	s.sameLog(s.read(s.store, log), want)
}

// sameLog compares logs entry by entry.
func (s *suite) sameLog(got, want []envelope.Envelope) {
	s.Helper()
	s.equal("number of entries", len(got), len(want))
	for i := range got {
		if !same(got[i], want[i]) {
			s.Errorf("entry %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func pagesByLimit(s *suite) {
	log := bob.Address()
	for i := range 10 {
		s.append(log, message(alice, fmt.Sprint("m", i), fmt.Sprint(i)))
	}
	for _, test := range []struct {
		after uint64
		limit int
		want  int
	}{
		{0, 1, 1},
		{0, 3, 3},
		{0, 10, 10},
		{0, 100, 10},
		{7, 3, 3},
		{8, 3, 2},
		{9, 3, 1},
		{10, 3, 0},
		{11, 3, 0},
		{1 << 62, 3, 0},
		{1<<64 - 1, 3, 0},
	} {
		page, err := s.store.Read(s.Context(), log, test.after, test.limit, 1<<20)
		s.noError(err)
		s.equal(fmt.Sprintf("entries after %d, limit %d", test.after, test.limit), len(page), test.want)
		s.contiguous(page, test.after)
	}
}

func pagesByBytes(s *suite) {
	log := bob.Address()
	const size = 1000
	for i := range 10 {
		env := message(alice, fmt.Sprint("m", i), "")
		env.Body = []byte(`"payload":"` + strings.Repeat("x", size-12) + `"`)
		s.append(log, env)
	}
	for _, maxBytes := range []int{1, size - 1, size, 3*size + size/2, 10 * size, 1 << 20} {
		var got int
		for got < 10 {
			page, err := s.store.Read(s.Context(), log, uint64(got), 100, maxBytes)
			s.noError(err)
			if len(page) == 0 {
				s.Fatalf("no entry after %d within %d bytes", got, maxBytes)
			}
			s.contiguous(page, uint64(got))
			// "About": up to one entry more than fits.
			if sum := len(page) * size; sum > maxBytes+size {
				s.Fatalf("a page of %d bytes for %d", sum, maxBytes)
			}
			got += len(page)
		}
	}
	page, err := s.store.Read(s.Context(), log, 0, 100, 1<<20)
	s.noError(err)
	s.equal("entries within plenty of bytes", len(page), 10)
}

func pageIsOwned(s *suite) {
	log := bob.Address()
	for i := range 4 {
		s.append(log, message(alice, fmt.Sprint("m", i), fmt.Sprint(i)))
	}
	first, err := s.store.Read(s.Context(), log, 0, 2, 1<<20)
	s.noError(err)
	before := fmt.Sprintf("%+v", first)
	for range 3 {
		next, err := s.store.Read(s.Context(), log, 2, 2, 1<<20)
		s.noError(err)
		for i := range next {
			clear(next[i].Body)
		}
	}
	s.equal("the page after others were read", fmt.Sprintf("%+v", first), before)
	again, err := s.store.Read(s.Context(), log, 2, 1, 1<<20)
	s.noError(err)
	s.equal("body", string(again[0].Body), `"payload":"2"`)
}

func heads(s *suite) {
	logs := []envelope.Address{
		bob.Address(), envelope.ClientID(bob).Address(), envelope.SessionID("room").Address(), alice.Address(),
	}
	want := map[envelope.Address]uint64{}
	for n, log := range logs[:3] {
		for i := range n + 1 {
			s.append(log, message(alice, fmt.Sprint("m", i), "-"))
		}
		want[log] = uint64(n + 1)
	}
	got, err := s.store.Heads(s.Context(), fromStart(logs...))
	s.noError(err)
	s.equal("heads", got, want)

	got, err = s.store.Heads(s.Context(), fromStart(logs[0]))
	s.noError(err)
	s.equal("heads of one log", got, map[envelope.Address]uint64{logs[0]: 1})

	from := make(map[envelope.Address]uint64)
	for log, head := range want {
		from[log] = head // its last entry is enough
	}
	got, err = s.store.Heads(s.Context(), from)
	s.noError(err)
	s.equal("heads from the last entries", got, want)
	from[logs[0]] = want[logs[0]] + 1
	delete(want, logs[0])
	got, err = s.store.Heads(s.Context(), from)
	s.noError(err)
	s.equal("heads when one log has nothing new", got, want)

	got, err = s.store.Heads(s.Context(), nil)
	s.noError(err)
	s.equal("heads of no log", len(got), 0)
}

func closeAnswers(s *suite) {
	var calls []*call
	for i := range 50 {
		calls = append(calls, start(s.store, bob.Address(), message(alice, fmt.Sprint("m", i), "-")))
	}
	s.ended[s.store] = true
	s.noError(s.store.Close())
	refused := false
	for i, c := range calls {
		select {
		case <-c.ended:
		default:
			s.Fatalf("append %d was not answered when Close returned", i)
		}
		switch {
		case c.err == nil && refused:
			s.Fatalf("append %d was taken behind one that was not", i)
		case c.err == nil:
			s.equal("seq", c.seq, uint64(i+1))
		default:
			refused = true
			s.equal("code", envelope.CodeOf(c.err), envelope.Busy)
		}
		s.equal("calls of done", c.times.Load(), int32(1))
	}
	_, err := start(s.store, bob.Address(), message(alice, "late", "-")).wait()
	s.equal("code after Close", envelope.CodeOf(err), envelope.Busy)
}

func epoch(s *suite) {
	first, err := s.store.Epoch(s.Context())
	s.noError(err)
	if len(first) < 8 {
		s.Fatalf("epoch %q is too short to be random", first)
	}
	again, err := s.store.Epoch(s.Context())
	s.noError(err)
	s.equal("epoch", again, first)
}

func find(s *suite) {
	ctx := s.Context()
	log := bob.Address()
	want := s.appendN(log, 5)
	s.append(log, message(alice, "", "no id"))
	s.append(envelope.ClientID(bob).Address(), message(alice, "elsewhere", "-"))
	// A repetition does not move what is known.
	again := numbered(2)
	again.Timestamp += 9000
	s.append(log, again)
	for _, e := range want {
		s.finds(log, e.ID, inbox.Found{Seq: e.Seq, Timestamp: e.Timestamp})
	}
	for _, id := range []string{"m", "m6", "m11", "elsewhere", ""} {
		s.finds(log, id, inbox.Found{})
	}
	s.finds(alice.Address(), "m1", inbox.Found{})
	found, err := s.store.Find(ctx, log, bob, "m1")
	s.noError(err)
	s.equal("what another device sent", found, inbox.Found{})
}

// finds compares what is known of a message that alice sent.
func (s *suite) finds(log envelope.Address, id string, want inbox.Found) {
	s.Helper()
	got, err := s.store.Find(s.Context(), log, alice, id)
	s.noError(err)
	s.equal("what is known of "+id, got, want)
}

func logsByPages(s *suite) {
	none, err := s.store.Logs(s.Context(), envelope.Address{}, 10)
	s.noError(err)
	s.equal("logs of an empty store", len(none), 0)
	var want []envelope.Address
	for i := range 4 {
		id := fmt.Sprint("x", i)
		for _, log := range []envelope.Address{
			envelope.NodeID(id).Address(), envelope.ClientID(id).Address(), envelope.SessionID(id).Address(), envelope.NodeID(id + ".1").Address(),
			{Kind: envelope.KindHook, ID: id},
		} {
			for n := range i + 1 {
				s.append(log, message(alice, fmt.Sprint("m", n), "-"))
			}
			want = append(want, log)
		}
	}
	for _, limit := range []int{1, 3, 16, 100} {
		s.equal(fmt.Sprint("logs in pages of ", limit), sorted(s.allLogs(limit)), sorted(want))
	}
}

// allLogs returns all logs, page by page.
func (s *suite) allLogs(limit int) []envelope.Address {
	s.Helper()
	var all []envelope.Address
	last := envelope.Address{}
	for {
		page, err := s.store.Logs(s.Context(), last, limit)
		s.noError(err)
		if len(page) > limit {
			s.Fatalf("a page of %d logs, limit %d", len(page), limit)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		last = page[len(page)-1]
	}
}
