package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// trim trims a log and keeps all stubs.
func (s *suite) trim(log envelope.Address, floor uint64) {
	s.Helper()
	s.noError(s.store.Trim(s.Context(), log, floor, time.Time{}))
}

// holds fails unless the log holds exactly those entries.
func (s *suite) holds(store Store, log envelope.Address, want []envelope.Envelope) {
	s.Helper()
	x, err := store.Extent(s.Context(), log)
	s.noError(err)
	s.equal("extent of "+log.String(), x, extentOf(want))
	s.sameLog(s.readTrimmed(store, log, x.Floor), want)
}

// extentOf returns the extent of a log with those entries.
func extentOf(entries []envelope.Envelope) inbox.Extent {
	x := inbox.Extent{Floor: 1}
	for i := range entries {
		x.Bytes += inbox.Size(&entries[i])
	}
	if n := len(entries); n > 0 {
		x.Floor, x.Head = entries[0].Seq, entries[n-1].Seq
	}
	return x
}

func extent(s *suite) {
	log := bob.Address()
	s.holds(s.store, log, nil)
	var want []envelope.Envelope
	for i := range 10 {
		env := numbered(100 * i)
		want = append(want, stored(env, s.append(log, env)))
		s.append(log, env) // repeated: counts once
		s.holds(s.store, log, want)
	}
	s.holds(s.store, envelope.ClientID(bob).Address(), nil)
}

func trim(s *suite) {
	log, other := bob.Address(), (bob + "2").Address()
	s.trim(log, 5) // of an empty log
	s.holds(s.store, log, nil)
	want := s.appendN(log, 20)
	others := s.appendN(other, 3)
	for _, step := range []struct{ floor, first uint64 }{{0, 1}, {1, 1}, {2, 2}, {8, 8}, {8, 8}, {3, 8}, {15, 15}} {
		s.trim(log, step.floor)
		s.holds(s.store, log, want[step.first-1:])
		for after := range uint64(21) {
			page, err := s.store.Read(s.Context(), log, after, 3, 1<<20)
			s.noError(err)
			first := max(after+1, step.first)
			s.sameLog(page, want[first-1:min(first+2, 20)])
		}
	}
	heads, err := s.store.Heads(s.Context(), map[envelope.Address]uint64{log: 3, other: 0})
	s.noError(err)
	s.equal("heads", heads, map[envelope.Address]uint64{log: 20, other: 3})
	s.equal("logs", sorted(s.allLogs(10)), sorted([]envelope.Address{log, other}))
	next := numbered(21)
	want = append(want, stored(next, s.append(log, next)))
	s.holds(s.store, log, want[14:])
	s.holds(s.store, other, others)
}

func trimHead(s *suite) {
	log := bob.Address()
	want := s.appendN(log, 5)
	for _, floor := range []uint64{5, 6, 1 << 62, 1<<64 - 1} {
		s.noError(s.store.Trim(s.Context(), log, floor, time.Now().AddDate(100, 0, 0)))
		n := len(want)
		s.holds(s.store, log, want[n-1:])
		// Nothing is forgotten of what has not been removed.
		s.equal("seq of the head's id", s.append(log, numbered(n)), uint64(n))
		next := numbered(n + 1)
		want = append(want, stored(next, s.append(log, next)))
		s.equal("seq of the next", want[n].Seq, uint64(n+1))
		s.holds(s.store, log, want[n-1:])
	}
}

func trimmedIDs(s *suite) {
	log := bob.Address()
	want := s.appendN(log, 10)
	s.append(log, message(alice, "", "no id"))
	s.append(log, message(bob, "m3", "of another sender"))
	s.trim(log, 4)
	s.trim(log, 11)
	for i := range 10 {
		s.recognised(log, want[i])
	}
	s.equal("seq of a new id", s.append(log, numbered(11)), uint64(13))
}

// recognised fails unless a repetition of an entry is, and a conflict with it.
func (s *suite) recognised(log envelope.Address, was envelope.Envelope) {
	s.Helper()
	again := was
	again.Seq, again.Timestamp = 0, was.Timestamp+1_000_000
	s.equal("seq of "+was.ID+" repeated", s.append(log, &again), was.Seq)
	again.Body = []byte(`"payload":"another"`)
	_, err := start(s.store, log, &again).wait()
	s.equal("code of a conflict with "+was.ID, envelope.CodeOf(err), envelope.Conflict)
	found, err := s.store.Find(s.Context(), log, was.SrcNode, was.ID)
	s.noError(err)
	if found.Seq != was.Seq || found.Timestamp != 0 && found.Timestamp != was.Timestamp {
		s.Fatalf("what is known of %s: %+v", was.ID, found)
	}
}

func forget(s *suite) {
	ctx := s.Context()
	log := bob.Address()
	want := s.appendN(log, 20)
	at := func(seq int) time.Time { return time.UnixMilli(want[seq-1].Timestamp) }
	s.noError(s.store.Trim(ctx, log, 8, at(4)))  // 1 to 7 are gone, 1 to 3 forgotten
	s.noError(s.store.Trim(ctx, log, 3, at(2)))  // less than before: nothing
	s.noError(s.store.Trim(ctx, log, 12, at(6))) // 8 to 11 are gone, 4 and 5 forgotten
	s.noError(s.store.Trim(ctx, log, 0, at(9)))  // 6 to 8 forgotten
	s.noError(s.store.Trim(ctx, log, 14, at(20)))
	s.holds(s.store, log, want[13:])
	for i := range 13 {
		s.finds(log, want[i].ID, inbox.Found{})
	}
	for i := 13; i < 20; i++ { // old, but there
		s.recognised(log, want[i])
	}
	s.noError(s.store.Trim(ctx, log, 19, at(17)))
	for i := 16; i < 20; i++ {
		s.recognised(log, want[i])
	}
	for i := range 16 {
		env := numbered(i + 1)
		env.Body = []byte(`"payload":"another"`)
		s.equal("seq of the forgotten "+env.ID, s.append(log, env), uint64(21+i))
	}
}

// forgottenID uses an id again that was forgotten. What is kept from then on
// is of the second message.
func forgottenID(s *suite) {
	ctx := s.Context()
	log := bob.Address()
	want := s.appendN(log, 5)
	s.noError(s.store.Trim(ctx, log, 4, time.UnixMilli(want[1].Timestamp))) // m1 is forgotten
	again := numbered(1)
	again.Timestamp += 60_000
	s.equal("seq", s.append(log, again), uint64(6))
	last := stored(again, 6)
	s.recognised(log, last)
	s.noError(s.store.Trim(ctx, log, 4, time.UnixMilli(want[4].Timestamp)))
	s.recognised(log, last)
	s.append(log, numbered(7))
	s.noError(s.store.Trim(ctx, log, 7, time.UnixMilli(want[4].Timestamp+1)))
	s.recognised(log, last)
	s.noError(s.store.Trim(ctx, log, 7, time.UnixMilli(last.Timestamp+1)))
	s.finds(log, again.ID, inbox.Found{})
}

// trimBeside trims while others append and read. A reader sees no hole but
// the one before the floor, and nothing twice.
func trimBeside(s *suite) {
	var a acks
	log := envelope.SessionID("room").Address()
	errs := make(chan error, 16)
	var writers, others sync.WaitGroup
	for i := range 4 {
		writers.Go(func() { errs <- a.sendAll(s.store, log, sender(i), 25) })
	}
	ended := make(chan struct{})
	for range 2 {
		others.Go(func() { errs <- s.follow(log, ended) })
		others.Go(func() { errs <- s.trimAll(log, 5, ended) })
	}
	writers.Wait()
	close(ended)
	others.Wait()
	close(errs)
	for err := range errs {
		s.noError(err)
	}
	acked := a.logs[log]
	s.equal("acknowledged", len(acked), 100)
	x, err := s.store.Extent(s.Context(), log)
	s.noError(err)
	s.equal("head", x.Head, uint64(100))
	var want []envelope.Envelope
	for seq := x.Floor; seq <= x.Head; seq++ {
		want = append(want, acked[seq])
	}
	s.holds(s.store, log, want)
	for i := range 4 {
		env := message(sender(i), "m0", fmt.Sprint(sender(i), " ", 0))
		seq, err := appendTo(s.store, log, env)
		s.noError(err)
		s.equal("the message of that seq", acked[seq].SrcNode, env.SrcNode)
	}
}

// trimAll trims a log to its last few entries, again and again.
func (s *suite) trimAll(log envelope.Address, keep uint64, ended <-chan struct{}) error {
	for {
		select {
		case <-ended:
			return nil
		default:
		}
		x, err := s.store.Extent(s.Context(), log)
		if err == nil {
			err = s.store.Trim(s.Context(), log, x.Head-min(x.Head, keep), time.Time{})
		}
		if err != nil {
			return err
		}
	}
}

// follow reads a log that is being trimmed to its end, again and again from
// the beginning.
func (s *suite) follow(log envelope.Address, ended <-chan struct{}) error {
	floor := uint64(0)
	for last := false; !last; {
		select {
		case <-ended:
			last = true
		default:
		}
		after := uint64(0)
		for {
			page, err := s.store.Read(s.Context(), log, after, 10, 1<<20)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			if page[0].Seq <= after || after == 0 && page[0].Seq < floor {
				return fmt.Errorf("the page after %d begins at %d; the log began at %d before", after, page[0].Seq, floor)
			}
			if after == 0 {
				floor = page[0].Seq
			}
			if err := gapIn(page, page[0].Seq-1); err != nil {
				return err
			}
			after = page[len(page)-1].Seq
		}
		x, err := s.store.Extent(s.Context(), log)
		if err != nil {
			return err
		}
		if x.Floor < floor || x.Head < after || x.Head > 0 && (x.Floor > x.Head || x.Bytes <= 0) {
			return fmt.Errorf("extent %+v; read from %d to %d", x, floor, after)
		}
	}
	return nil
}

func reopenedTrimmed(s *suite) {
	if s.Reopen == nil {
		s.Skip("nothing is known of what survives this store")
	}
	log := envelope.ClientID(bob).Address() // of a kind with a quota
	want := s.appendN(log, quotaEntries)
	floor := 1
	for range 3 {
		floor += 2
		s.noError(s.store.Trim(s.Context(), log, uint64(floor), time.UnixMilli(want[1].Timestamp)))
		s.reopen()
		s.holds(s.store, log, want[floor-1:])
		s.finds(log, "m1", inbox.Found{})
		s.recognised(log, want[1])
		for range 2 {
			next := numbered(len(want) + 1)
			want = append(want, stored(next, s.append(log, next)))
		}
		s.full(log)
		s.holds(s.store, log, want[floor-1:])
	}
}

func secondTrims(s *suite) {
	stores := []Store{s.store, s.second()}
	log := envelope.ClientID(bob).Address() // of a kind with a quota
	want := s.appendN(log, quotaEntries)
	for i := range 6 {
		from, to := stores[i%2], stores[1-i%2]
		s.noError(from.Trim(s.Context(), log, uint64(i+2), time.Time{}))
		s.holds(to, log, want[i+1:])
		s.store = to
		s.recognised(log, want[i])
		next := numbered(len(want) + 1)
		seq, err := appendTo(to, log, next)
		s.noError(err)
		want = append(want, stored(next, seq))
		s.full(log)
		s.holds(from, log, want[i+1:])
	}
}
