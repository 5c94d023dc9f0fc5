package storetest

import (
	"fmt"
	"sync"

	"github.com/allsparkrt/allspark/envelope"
)

// acks collects which message each acknowledged (log, seq) is.
type acks struct {
	mu   sync.Mutex
	logs map[envelope.Address]map[uint64]envelope.Envelope
}

// add notes an acknowledgement and reports a (log, seq) given twice.
func (a *acks) add(log envelope.Address, seq uint64, env *envelope.Envelope) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logs == nil {
		a.logs = map[envelope.Address]map[uint64]envelope.Envelope{}
	}
	if a.logs[log] == nil {
		a.logs[log] = map[uint64]envelope.Envelope{}
	}
	if other, ok := a.logs[log][seq]; ok {
		return fmt.Errorf("%v: seq %d was given to %q of %s and to %q of %s", log, seq, other.ID, other.SrcNode, env.ID, env.SrcNode)
	}
	a.logs[log][seq] = stored(env, seq)
	return nil
}

// hold fails unless each log holds exactly what was acknowledged, 1 to n.
func (a *acks) hold(s *suite, store Store, entries int) {
	s.Helper()
	total := 0
	for log, acked := range a.logs {
		all := s.read(store, log)
		s.equal("entries of "+log.String(), len(all), len(acked))
		for _, e := range all {
			if !same(e, acked[e.Seq]) {
				s.Fatalf("%v:\n read %+v\nacked %+v", log, e, acked[e.Seq])
			}
		}
		total += len(all)
	}
	s.equal("entries in all", total, entries)
}

func sender(i int) envelope.NodeID { return envelope.NodeID(fmt.Sprint("sender", i)) }

// sendAll appends n messages one after the other and checks that their seqs rise.
func (a *acks) sendAll(store Store, log envelope.Address, src envelope.NodeID, n int) error {
	last := uint64(0)
	for i := range n {
		env := message(src, fmt.Sprint("m", i), fmt.Sprint(src, " ", i))
		seq, err := appendTo(store, log, env)
		if err != nil {
			return err
		}
		if seq <= last {
			return fmt.Errorf("%s: seq %d after %d", src, seq, last)
		}
		last = seq
		if err := a.add(log, seq, env); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) noErrors(errs []error) {
	s.Helper()
	for _, err := range errs {
		s.noError(err)
	}
}

func oneLog(s *suite) {
	var a acks
	log := envelope.SessionID("room").Address()
	s.noErrors(race(8, func(i int) error { return a.sendAll(s.store, log, sender(i), 25) }))
	a.hold(s, s.store, 200)
}

func manyLogs(s *suite) {
	var a acks
	s.noErrors(race(8, func(i int) error {
		for round := range 5 {
			// Each log has two senders at a time, and changing ones.
			log := envelope.NodeID(fmt.Sprint("log", (i/2+round)%6)).Address()
			src := envelope.NodeID(fmt.Sprintf("sender%d.%d", i, round))
			if err := a.sendAll(s.store, log, src, 5); err != nil {
				return err
			}
		}
		return nil
	}))
	a.hold(s, s.store, 200)
}

func repeatRace(s *suite) {
	log := bob.Address()
	seqs := make([]uint64, 8)
	for round := range 10 {
		id := fmt.Sprint("m", round)
		s.noErrors(race(8, func(i int) (err error) {
			seqs[i], err = appendTo(s.store, log, message(alice, id, "hi"))
			return err
		}))
		for _, seq := range seqs {
			s.equal("seq of "+id, seq, uint64(round+1))
		}
	}
	s.equal("entries", len(s.read(s.store, log)), 10)
}

func prefixes(s *suite) {
	var a acks
	log := envelope.SessionID("room").Address()
	var writers sync.WaitGroup
	errs := make(chan error, 16)
	for i := range 4 {
		writers.Go(func() { errs <- a.sendAll(s.store, log, sender(i), 25) })
	}
	ended := make(chan struct{})
	var readers sync.WaitGroup
	seen := make([]map[uint64]string, 3) // by reader: what each seq was
	for r := range seen {
		seen[r] = map[uint64]string{}
		readers.Go(func() { errs <- s.watch(log, seen[r], ended, r == 0) })
	}
	writers.Wait()
	close(ended)
	readers.Wait()
	close(errs)
	for err := range errs {
		s.noError(err)
	}
	a.hold(s, s.store, 100)
	for _, e := range s.read(s.store, log) {
		for r := range seen {
			if was, ok := seen[r][e.Seq]; ok && was != name(&e) {
				s.Fatalf("seq %d was %s and became %s", e.Seq, was, name(&e))
			}
		}
	}
}

func name(e *envelope.Envelope) string { return string(e.SrcNode) + "/" + e.ID }

// watch reads a log while others append to it, always from the beginning or
// from where it is, and notes what each seq was.
func (s *suite) watch(log envelope.Address, seen map[uint64]string, ended <-chan struct{}, follow bool) error {
	after := uint64(0)
	for last := false; !last; {
		select {
		case <-ended:
			last = true
		default:
		}
		if !follow {
			after = 0
		}
		page, err := s.store.Read(s.Context(), log, after, 300, 1<<20)
		if err != nil {
			return err
		}
		if err := gapIn(page, after); err != nil {
			return err
		}
		for i := range page {
			e := &page[i]
			if was, ok := seen[e.Seq]; ok && was != name(e) {
				return fmt.Errorf("seq %d was %s and became %s", e.Seq, was, name(e))
			}
			seen[e.Seq] = name(e)
		}
		heads, err := s.store.Heads(s.Context(), fromStart(log))
		if err != nil {
			return err
		}
		if n := uint64(len(page)); n > 0 {
			after = page[n-1].Seq
		}
		if heads[log] < after {
			return fmt.Errorf("seq %d was read and then the head was %d", after, heads[log])
		}
	}
	return nil
}
