package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// sorted returns how many bytes the database has written to sort what it holds,
// once it has nothing more to sort.
func sorted(t *testing.T, s *Store) (bytes uint64) {
	t.Helper()
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for s.db.Metrics().Compact.NumInProgress > 0 {
		time.Sleep(time.Millisecond)
	}
	for _, level := range s.db.Metrics().Levels {
		bytes += level.TableBytesCompacted
	}
	return bytes
}

// What is appended is not sorted into what has been stored before, so it costs no
// more when much is.
func TestCostOfStored(t *testing.T) {
	s := openWith(t, Options{Dir: t.TempDir(), MemtableBytes: 256 << 10, SegmentBytes: 2 << 20})
	const each, size = 4000, 1000
	text := make([]byte, size/2) // that cannot be compressed much
	_, _ = rand.NewChaCha8([32]byte{}).Read(text)
	n := 0
	write := func() uint64 {
		before := sorted(t, s)
		answers := make(chan error, each)
		for range each {
			n++
			env := &envelope.Envelope{ID: fmt.Sprint("m", n), SrcNode: "alice", Body: fmt.Appendf(nil, `"payload":"%x"`, text)}
			s.Append(envelope.NodeID(fmt.Sprint("log", n*7919%500)).Address(), env, func(_ uint64, err error) { answers <- err })
		}
		for range each {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
		return sorted(t, s) - before
	}
	var of []uint64
	for range 8 {
		of = append(of, write()*10/(each*size))
	}
	late := (of[4] + of[5] + of[6] + of[7]) / 4
	t.Logf("tenths of a byte sorted for each byte appended: %d", of)
	if late > 30 {
		t.Errorf("each byte appended has %d tenths of a byte sorted", late)
	}
	mustClose(t, s)
}

// segmented appends one message in each of n segments.
func segmented(t *testing.T, log envelope.Address, n int) *Store {
	t.Helper()
	s := openWith(t, Options{Dir: t.TempDir(), SegmentBytes: 1})
	mustAppend(t, s, log, n)
	if chapters := rows(t, s)[rowLog]; chapters != n {
		t.Fatalf("%d messages, which fill a segment each, are in %d chapters", n, chapters)
	}
	return s
}

func TestTrimDropsChapters(t *testing.T) {
	s := segmented(t, room, 20)
	for _, floor := range []uint64{7, 20} {
		mustTrim(t, s, room, floor, time.UnixMilli(0))
		if n := rows(t, s); n[rowLog] != int(21-floor)+1 || n[rowEntry] != int(21-floor) {
			t.Errorf("trimmed to %d, with rows %v", floor, n)
		}
		if page, err := s.Read(t.Context(), room, 0, 100, 1<<20); err != nil || len(page) != int(21-floor) || page[0].Seq != floor {
			t.Errorf("trimmed to %d, a page of %d, %v", floor, len(page), err)
		}
	}
	mustClose(t, s)
}

// An entry that is missing at the end of a chapter is missed, like any other.
func TestHoleAtEndOfChapter(t *testing.T) {
	s := segmented(t, room, 4)
	if err := s.db.Delete(appendEntryKey(nil, 3, room, 3), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	for after := range uint64(3) {
		if page, err := s.Read(t.Context(), room, after, 10, 1<<20); !errors.Is(err, errDamaged) {
			t.Errorf("after %d: %d entries, %v", after, len(page), err)
		}
	}
	if err := s.db.Delete(appendEntryKey(nil, 4, room, 4), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if x, err := s.Extent(t.Context(), room); !errors.Is(err, errDamaged) {
		t.Errorf("a log without its last entry has the extent %+v, %v", x, err)
	}
	mustClose(t, s)
}

// A segment takes what it may and no more, also when the store is opened anew
// meanwhile.
func TestSegmentSize(t *testing.T) {
	const min = 16 << 10
	o := Options{Dir: t.TempDir(), SegmentBytes: min}
	body := make([]byte, 1000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	n := 0
	write := func(s *Store, bytes int) (in segment) {
		for range bytes / len(body) {
			n++
			env := &envelope.Envelope{ID: fmt.Sprint(n), SrcNode: "alice", Body: body}
			done := make(chan error)
			s.Append(room, env, func(_ uint64, err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		it, err := newLogIter(s.db, room)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := it.headOf(room); err != nil {
			t.Fatal(err)
		}
		in = it.chapter.in
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		return in
	}
	s := openWith(t, o)
	if in := write(s, 4*min); in != 4 && in != 5 {
		t.Errorf("four times what fills a segment ends in segment %d", in)
	}
	large := write(s, 60*min)
	mustClose(t, s) // it is known only now how much there is
	for range 10 {
		s = openWith(t, o)
		write(s, 2*min)
		mustClose(t, s)
	}
	s = openWith(t, o)
	if in := write(s, min); in < large || in > large+6 {
		t.Errorf("with %d, %d more in small portions end in segment %d, which was %d", 64*min, 21*min, in, large)
	}
	mustClose(t, s)
}
