package mongo_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// load is a number of senders that append to one log, each through one store
// and each waiting for its ack before the next message. What was Busy is sent
// again with the same id.
type load struct {
	log     envelope.Address
	senders int
	each    int // messages per sender

	mu   sync.Mutex
	acks map[uint64]string // guarded by mu: which message each seq was acknowledged for
	busy int               // guarded by mu: how many refusals there were
}

func name(src envelope.NodeID, id string) string { return string(src) + "/" + id }

func message(src envelope.NodeID, id string) *envelope.Envelope {
	return &envelope.Envelope{ID: id, SrcNode: src, Timestamp: 1, Body: []byte(`"payload":"` + name(src, id) + `"`)}
}

// at returns the message as one of that time, in Unix milliseconds.
func at(env *envelope.Envelope, time int64) *envelope.Envelope {
	env.Timestamp = time
	return env
}

type outcome struct {
	seq uint64
	err error
}

func appendOne(s inbox.Store, log envelope.Address, env *envelope.Envelope) outcome {
	answer := make(chan outcome, 1)
	s.Append(log, env, func(seq uint64, err error) { answer <- outcome{seq, err} })
	return <-answer
}

// run sends everything and returns when it is acknowledged.
func (l *load) run(t *testing.T, stores ...inbox.Store) {
	t.Helper()
	l.acks = map[uint64]string{}
	var senders sync.WaitGroup
	for i := range l.senders {
		senders.Go(func() {
			src := envelope.NodeID(fmt.Sprint("sender", i))
			for n := range l.each {
				if err := l.send(t, stores[i%len(stores)], message(src, fmt.Sprint(n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
}

func (l *load) send(t *testing.T, s inbox.Store, env *envelope.Envelope) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && t.Context().Err() == nil; {
		o := appendOne(s, l.log, env)
		l.mu.Lock()
		switch {
		case o.err == nil && l.acks[o.seq] != "":
			o.err = fmt.Errorf("seq %d was acknowledged for %s and for %s", o.seq, l.acks[o.seq], name(env.SrcNode, env.ID))
		case o.err == nil:
			l.acks[o.seq] = name(env.SrcNode, env.ID)
		case envelope.CodeOf(o.err) == envelope.Busy:
			l.busy++
			l.mu.Unlock()
			// It would be refused again at once while the breaker is open.
			pause(t, min(time.Duration(envelope.AsError(o.err).RetryMS)*time.Millisecond, 50*time.Millisecond))
			continue
		}
		l.mu.Unlock()
		return o.err
	}
	return fmt.Errorf("%s was never acknowledged", name(env.SrcNode, env.ID))
}

func pause(t testing.TB, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// check fails unless the log holds every message once, each sender's in order,
// under the seqs that were acknowledged.
func (l *load) check(t *testing.T, s inbox.Store) {
	t.Helper()
	next := map[envelope.NodeID]int{}
	after := uint64(0)
	for {
		page, err := s.Read(t.Context(), l.log, after, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			after++
			if e.Seq != after {
				t.Fatalf("seq %d follows %d", e.Seq, after-1)
			}
			if e.ID != fmt.Sprint(next[e.SrcNode]) {
				t.Fatalf("seq %d: %s sent %s, want %d", e.Seq, e.SrcNode, e.ID, next[e.SrcNode])
			}
			next[e.SrcNode]++
			if l.acks[e.Seq] != name(e.SrcNode, e.ID) {
				t.Fatalf("seq %d is %s, was acknowledged for %q", e.Seq, name(e.SrcNode, e.ID), l.acks[e.Seq])
			}
		}
	}
	if want := uint64(l.senders * l.each); after != want {
		t.Fatalf("the log has %d entries, want %d", after, want)
	}
}
