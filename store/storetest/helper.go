package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// patience is how long a test waits for an answer before it calls it lost.
const patience = 60 * time.Second

// message returns an envelope as a node would hand it to a store.
func message(src envelope.NodeID, id, payload string) *envelope.Envelope {
	return &envelope.Envelope{
		ID:        id,
		SrcNode:   src,
		SrcClient: envelope.ClientID(src) + "-user",
		Timestamp: 1_700_000_000_000,
		Body:      []byte(`"payload":"` + payload + `"`),
	}
}

// call is one Append on its way.
type call struct {
	env   *envelope.Envelope
	times atomic.Int32 // how often done was called
	ended chan struct{}
	seq   uint64 // valid once ended is closed
	err   error
}

// start hands env to the store; also, when given, runs within done.
func start(store Store, log envelope.Address, env *envelope.Envelope, also ...func(*call)) *call {
	c := &call{env: env, ended: make(chan struct{})}
	store.Append(log, env, func(seq uint64, err error) {
		if c.times.Add(1) > 1 {
			return // seen by whoever checks times
		}
		c.seq, c.err = seq, err
		for _, f := range also {
			f(c)
		}
		close(c.ended)
	})
	return c
}

// wait returns the outcome of an Append.
func (c *call) wait() (uint64, error) {
	select {
	case <-c.ended:
		return c.seq, c.err
	case <-time.After(patience):
		return 0, errors.New("done was never called")
	}
}

// appendN appends n messages of alice, m1 to mn, one second apart, and returns
// them as they must be read.
func (s *suite) appendN(log envelope.Address, n int) []envelope.Envelope {
	s.Helper()
	var all []envelope.Envelope
	for i := range n {
		env := numbered(i + 1)
		all = append(all, stored(env, s.append(log, env)))
	}
	return all
}

// numbered returns message i of alice, sent i seconds after the first second.
func numbered(i int) *envelope.Envelope {
	env := message(alice, fmt.Sprint("m", i), strings.Repeat("x", i))
	env.Timestamp += 1000 * int64(i)
	return env
}

// append appends and returns the seq; the store must take the message.
func (s *suite) append(log envelope.Address, env *envelope.Envelope) uint64 {
	s.Helper()
	seq, err := start(s.store, log, env).wait()
	s.noError(err)
	return seq
}

// appendTo is append for goroutines of a test: it repeats what was Busy, as
// the contract allows for a message with an id.
func appendTo(store Store, log envelope.Address, env *envelope.Envelope) (uint64, error) {
	deadline := time.Now().Add(patience)
	for {
		seq, err := start(store, log, env).wait()
		if envelope.CodeOf(err) != envelope.Busy || env.ID == "" || time.Now().After(deadline) {
			return seq, err
		}
	}
}

// read reads a whole log from the beginning, page by page.
func (s *suite) read(store Store, log envelope.Address) []envelope.Envelope {
	s.Helper()
	return s.readTrimmed(store, log, 1)
}

// readTrimmed reads a whole log from the beginning, which must be at floor.
func (s *suite) readTrimmed(store Store, log envelope.Address, floor uint64) []envelope.Envelope {
	s.Helper()
	var all []envelope.Envelope
	after := uint64(0)
	for {
		page, err := store.Read(s.Context(), log, after, 64, 1<<20)
		s.noError(err)
		if len(page) == 0 {
			return all
		}
		s.contiguous(page, max(after, floor-1))
		all = append(all, page...)
		after = all[len(all)-1].Seq
	}
}

// contiguous fails unless page holds the entries right after after.
func (s *suite) contiguous(page []envelope.Envelope, after uint64) {
	s.Helper()
	if err := gapIn(page, after); err != nil {
		s.Fatal(err)
	}
}

func gapIn(page []envelope.Envelope, after uint64) error {
	for i := range page {
		if want := after + uint64(i) + 1; page[i].Seq != want {
			return fmt.Errorf("entry %d of the page after %d has seq %d, want %d", i, after, page[i].Seq, want)
		}
	}
	return nil
}

// stored returns env as it must be read back.
func stored(env *envelope.Envelope, seq uint64) envelope.Envelope {
	e := *env
	e.Seq = seq
	return e
}

// same compares envelopes; no body and an empty one are the same.
func same(a, b envelope.Envelope) bool {
	if len(a.Body) == 0 && len(b.Body) == 0 {
		a.Body, b.Body = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// isError fails unless err is want.
func (s *suite) isError(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: error is %v, want %v", what, err, want)
	}
}

// sorted returns rows in the order of their printed form, nil when there are
// none: stores return sets in any order.
func sorted[T any](rows []T) []T {
	if len(rows) == 0 {
		return nil
	}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b T) int {
		return strings.Compare(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b))
	})
	return rows
}

// race runs f in n goroutines that start together and returns their errors.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	gate := make(chan struct{})
	ended := make(chan struct{})
	for i := range n {
		go func() {
			<-gate
			errs[i] = f(i)
			ended <- struct{}{}
		}()
	}
	close(gate)
	for range n {
		<-ended
	}
	return errs
}

// oneWinner fails unless exactly one of errs is nil and all others are loss.
// It returns the index of the winner.
func (s *suite) oneWinner(errs []error, loss error) int {
	s.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			s.Fatalf("both %d and %d won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, loss):
			s.Fatalf("%d: error is %v, want %v", i, err, loss)
		}
	}
	if winner < 0 {
		s.Fatal("nobody won")
	}
	return winner
}

// fromStart asks Heads for whatever there is in some logs.
func fromStart(logs ...envelope.Address) map[envelope.Address]uint64 {
	from := make(map[envelope.Address]uint64, len(logs))
	for _, log := range logs {
		from[log] = 0
	}
	return from
}
