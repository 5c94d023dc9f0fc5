package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// heldUp runs test with a store whose disk is held up in the middle of a
// batch, that of "first" in the room.
func heldUp(t *testing.T, o Options, test func(t *testing.T, s *Store, disk *faultFS, first <-chan outcome, release func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		disk := &faultFS{FS: vfs.NewMem()}
		o.fs = disk
		s := inMemory(t, o)
		release := disk.hold()
		first := send(s, room, "first")
		synctest.Wait()
		test(t, s, disk, first, release)
	})
}

func wantSeq(t *testing.T, what string, done <-chan outcome, seq uint64) {
	t.Helper()
	if o := <-done; o.err != nil || o.seq != seq {
		t.Fatalf("%s: %+v, want seq %d", what, o, seq)
	}
}

// What is made ready while another batch is being written is numbered behind
// it, knows what it repeats, cannot be read, and is answered after it.
func TestAhead(t *testing.T) {
	quotas := inbox.Quotas{envelope.KindNode: {Entries: 1}}
	heldUp(t, Options{Quotas: quotas}, func(t *testing.T, s *Store, _ *faultFS, first <-chan outcome, release func()) {
		var order []string
		in := func(id string) <-chan outcome {
			done := make(chan outcome, 1)
			s.Append(room, message(id), func(seq uint64, err error) {
				order = append(order, id)
				done <- outcome{seq, err}
			})
			return done
		}
		other := message("first")
		other.Body = []byte(`"payload":"other"`)
		conflict := make(chan outcome, 1)
		s.Append(room, other, func(seq uint64, err error) { conflict <- outcome{seq, err} })
		again := in("first")
		second := in("second")
		synctest.Wait() // in a batch of their own
		secondAgain, third := in("second"), in("third")
		bob := envelope.NodeID("bob").Address()
		taken, full := send(s, bob, "b1"), send(s, bob, "b2")
		update := make(chan error, 1)
		go func() {
			update <- s.PutMember(t.Context(), session.Member{Session: "room", Node: "bob", Device: "bob", Version: 1})
		}()
		synctest.Wait()
		if n := s.Stats().Ahead; n != 7 {
			t.Fatalf("%d are ready, want 7", n)
		}
		if page, err := s.Read(t.Context(), room, 0, 10, 1<<20); err != nil || len(page) != 0 {
			t.Fatal("can be read before it is durable", page, err)
		}
		if len(order)+len(update) > 0 {
			t.Fatal("answered before it is durable", order)
		}
		release()
		wantSeq(t, "first", first, 1)
		wantSeq(t, "a repetition of what is being written", again, 1)
		wantSeq(t, "second", second, 2)
		wantSeq(t, "a repetition of what is ready", secondAgain, 2)
		wantSeq(t, "third", third, 3)
		wantSeq(t, "the one the quota has room for", taken, 1)
		if o := <-full; envelope.CodeOf(o.err) != envelope.Quota {
			t.Error("beyond the quota", o)
		}
		if o := <-conflict; envelope.CodeOf(o.err) != envelope.Conflict {
			t.Error("another message with the same id", o)
		}
		if err := <-update; err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(order); got != "[first second second third]" {
			t.Error("answers came as", got)
		}
		if n := s.Stats().Batches; n != 2 {
			t.Errorf("%d batches, want 2", n)
		}
	})
}

// The database need not show anything yet of the batch that is being written.
func TestStageBehindUnseenBatch(t *testing.T) {
	s := inMemory(t, Options{})
	st, err := newStager(s)
	if err != nil {
		t.Fatal(err)
	}
	st.known = &known{max: 8 * blockBytes, walk: func(r *recollection) { r.walked.Store(&filter{}) }}
	newBatch := func() *batch {
		b := &batch{}
		b.open(s.db)
		return b
	}
	flight, next := newBatch(), newBatch()
	add := func(b, flight *batch, id string, want uint64) {
		t.Helper()
		env := message(id)
		e := entry{log: room, env: env, digest: env.Digest(), hash: s.idHash(room, env.SrcNode, id)}
		seq, err := st.add(b, flight, &e)
		if err != nil || seq != want {
			t.Fatalf("%s gets %d, want %d; %v", id, seq, want, err)
		}
		b.entries, b.outcomes = append(b.entries, e), append(b.outcomes, outcome{})
		b.staged(len(b.entries)-1, outcome{seq, err})
	}
	st.known.begin()
	add(flight, nil, "a", 1)
	add(flight, nil, "b", 2)
	add(next, flight, "b", 2)
	add(next, flight, "c", 3)
	st.known.now, st.known.full = nil, true // now there is no filter, and then a new one
	st.committed(flight, next)
	if st.known.now == nil {
		t.Fatal("no new filter")
	}
	add(newBatch(), next, "c", 3)
}

// What was ready and is given up for lack of patience leaves no trace.
func TestAheadGivenUp(t *testing.T) {
	heldUp(t, Options{QueueEntries: 3}, func(t *testing.T, s *Store, _ *faultFS, first <-chan outcome, release func()) {
		ready := []<-chan outcome{send(s, room, "second"), send(s, room, "third"), send(s, hall, "h")}
		time.Sleep(s.options.Patience)
		wantBusy(t, "what is being written", (<-first).err)
		for _, done := range ready {
			wantBusy(t, "what is ready", (<-done).err)
		}
		wantBusy(t, "what comes then", (<-send(s, room, "late")).err)
		release()
		synctest.Wait()
		wantSeq(t, "third", send(s, room, "third"), 2)
		wantSeq(t, "first", send(s, room, "first"), 1)
		wantSeq(t, "second", send(s, room, "second"), 3)
		wantSeq(t, "in the hall", send(s, hall, "h"), 1)
		mustClose(t, s)
		s = openWith(t, s.options)
		if page, err := s.Read(t.Context(), room, 0, 10, 1<<20); err != nil || len(page) != 3 {
			t.Fatal(page, err)
		}
		mustClose(t, s)
	})
}

// What was ready when the disk failed is not written.
func TestAheadOfBrokenDisk(t *testing.T) {
	heldUp(t, Options{}, func(t *testing.T, s *Store, disk *faultFS, first <-chan outcome, release func()) {
		second := send(s, room, "second")
		synctest.Wait()
		broken := errors.New("input/output error")
		disk.write.Store(&broken)
		release()
		wantBusy(t, "what is being written", (<-first).err)
		wantBusy(t, "what is ready", (<-second).err)
		if !errors.Is(s.Err(), broken) || s.Stats().Batches != 1 {
			t.Errorf("Err is %v after %d batches", s.Err(), s.Stats().Batches)
		}
		if page, err := s.Read(t.Context(), room, 0, 10, 1<<20); err != nil || len(page) != 0 {
			t.Error(page, err)
		}
		disk.write.Store(nil)
		time.Sleep(2 * s.options.Patience)
		late := (<-send(s, room, "late")).err
		wantBusy(t, "much later", late)
		if ms := envelope.AsError(late).RetryMS; ms != retryFailedMS || s.stuck.Load() {
			t.Errorf("taken for a disk that hangs: %v", late)
		}
		if err := s.Close(); err == nil {
			t.Error("Close hides that the store is broken")
		}
	})
}

// Close waits for what is ready, too.
func TestAheadOfClose(t *testing.T) {
	heldUp(t, Options{}, func(t *testing.T, s *Store, _ *faultFS, first <-chan outcome, release func()) {
		second := send(s, room, "second")
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		release()
		wantSeq(t, "first", first, 1)
		wantSeq(t, "second", second, 2)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// A batch that was made ready while another one was being written vouches for
// it: when it is on disk the other one is.
func TestAheadVouches(t *testing.T) {
	heldUp(t, Options{}, func(t *testing.T, s *Store, _ *faultFS, first <-chan outcome, release func()) {
		second := send(s, room, "second")
		synctest.Wait()
		release()
		wantSeq(t, "first", first, 1)
		wantSeq(t, "second", second, 2)
		all := contents(t, s)
		name, size := theLog(all)
		if n := bytes.Count(all[name], []byte(markMagic)); n != 2 {
			t.Fatalf("%d batches are on disk, want 2", n)
		}
		end := bytes.LastIndex(all[name], []byte(markMagic)) - markOffset - chunkHeader
		for at := range size {
			err := checkIn(t, flipped(all, name, at))
			if at < end && !errors.Is(err, errDamaged) {
				t.Fatalf("byte %d of %d: error %v", at, end, err)
			}
			if at >= end && err != nil {
				t.Fatalf("byte %d, which may never have been written: %v", at, err)
			}
		}
	})
}
