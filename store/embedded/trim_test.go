package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

func mustTrim(t *testing.T, s *Store, log envelope.Address, floor uint64, forget time.Time) {
	t.Helper()
	if err := s.Trim(t.Context(), log, floor, forget); err != nil {
		t.Fatal(err)
	}
}

// rows counts the rows of each kind, by the first byte of their keys; of those
// in a segment by the first one behind that.
func rows(t *testing.T, s *Store) map[byte]int {
	t.Helper()
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := map[byte]int{}
	for valid := it.First(); valid; valid = it.Next() {
		key := it.Key()
		if key[0] == rowSegment {
			key = key[len(appendSegment(nil, 1)):]
		}
		n[key[0]]++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Trim removes what it says: bodies first, and stubs once they are forgotten.
func TestTrimLeavesNothing(t *testing.T) {
	const n = 3*partEntries + 10
	s := openIn(t, t.TempDir())
	var last <-chan outcome
	for i := range n {
		last = send(s, room, fmt.Sprint("m", i))
	}
	if o := <-last; o.err != nil {
		t.Fatal(o.err)
	}
	kinds := []byte{rowEntry, rowStub, rowRemnant, rowLog}
	want := func(when string, counts ...int) {
		t.Helper()
		got := rows(t, s)
		for i, kind := range kinds {
			if got[kind] != counts[i] {
				t.Errorf("%s: %d rows of kind %c, want %d", when, got[kind], kind, counts[i])
			}
		}
	}
	want("at first", n, n, 0, 1)
	mustTrim(t, s, room, n-4, time.UnixMilli(0)) // five entries stay, and how far it is trimmed
	want("trimmed", 5, n, n-5, 1+1)
	mustTrim(t, s, room, 0, time.UnixMilli(2))
	want("forgotten", 5, 5, 0, 1+1)
	mustTrim(t, s, room, n, time.UnixMilli(2))
	want("trimmed and forgotten at once", 1, 1, 0, 1+1)
	mustClose(t, s)
}

// A crash leaves a log trimmed as far as some part of the Trim has come.
func TestCrashDuringTrim(t *testing.T) {
	const n = 4 * partEntries
	var states []map[string][]byte
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{})
		for i := range n {
			send(s, room, fmt.Sprint("m", i))
		}
		if o := <-send(s, room, "last"); o.err != nil {
			t.Fatal(o.err)
		}
		states = append(states, contents(t, s))
		for {
			p, err := s.nextPart(t.Context(), room, n, 0)
			if err != nil {
				t.Fatal(err)
			}
			if p == nil {
				break
			}
			if err := s.do(t.Context(), lazy, p.remove); err != nil {
				t.Fatal(err)
			}
			if o := <-send(s, hall, ""); o.err != nil { // puts it on disk
				t.Fatal(o.err)
			}
			states = append(states, contents(t, s))
		}
		mustClose(t, s)
	})
	if len(states) < 4 {
		t.Fatalf("a Trim of %d entries has %d parts", n, len(states)-1)
	}
	for i, files := range states {
		s := openIn(t, written(t, files))
		x, err := s.Extent(t.Context(), room)
		if err != nil {
			t.Fatal(err)
		}
		floor := min(uint64(i)*partEntries+1, n)
		size := inbox.Size(message(""))
		if want := (inbox.Extent{Floor: floor, Head: n + 1, Bytes: int64(n+2-floor) * size}); x != want {
			t.Errorf("after part %d: %+v, want %+v", i, x, want)
		}
		page, err := s.Read(t.Context(), room, 0, 2*n, 1<<20)
		if err != nil || uint64(len(page)) != n+2-floor || page[0].Seq != floor {
			t.Fatalf("after part %d: %d entries, %v", i, len(page), err)
		}
		for _, at := range []int{0, partEntries - 1, partEntries, n - 1} {
			if o := <-send(s, room, fmt.Sprint("m", at)); o.err != nil || o.seq != uint64(at+1) {
				t.Fatalf("after part %d: m%d repeated: %+v", i, at, o)
			}
		}
		mustTrim(t, s, room, n+1, time.UnixMilli(2)) // goes on from there
		if n := rows(t, s); n[rowRemnant] != 0 || n[rowStub] != 1 {
			t.Errorf("after part %d and all others: %v", i, n)
		}
		mustClose(t, s)
	}
}

// A part that was made before another Trim came through changes nothing.
func TestTrimsMeet(t *testing.T) {
	s := openIn(t, t.TempDir())
	mustAppend(t, s, room, 10)
	next := func(floor uint64, forget int64) *part {
		t.Helper()
		p, err := s.nextPart(t.Context(), room, floor, forget)
		if err != nil || p == nil {
			t.Fatal(p, err)
		}
		return p
	}
	late := next(5, 2)
	mustTrim(t, s, room, 4, time.UnixMilli(0))
	forgets := next(4, 2)
	mustTrim(t, s, room, 4, time.UnixMilli(2))
	if o := <-send(s, room, room.ID+"0"); o.err != nil || o.seq != 11 { // forgotten, so it is new
		t.Fatal(o)
	}
	for _, p := range []*part{late, forgets} {
		if err := s.do(t.Context(), lazy, p.remove); err != nil {
			t.Fatal(err)
		}
		x, err := s.Extent(t.Context(), room)
		if err != nil || x.Floor != 4 {
			t.Fatal(x, err)
		}
		if o := <-send(s, room, room.ID+"0"); o.err != nil || o.seq != 11 {
			t.Fatal(o)
		}
	}
	mustClose(t, s)
}

// What is being written is not there yet, whoever asks, and Trim counts the
// head without it; also when it begins a chapter.
func TestInFlight(t *testing.T) {
	t.Run("in a chapter", func(t *testing.T) { testInFlight(t, Options{Patience: time.Hour}) })
	t.Run("beginning one", func(t *testing.T) { testInFlight(t, Options{Patience: time.Hour, SegmentBytes: 1}) })
}

func testInFlight(t *testing.T, o Options) {
	s, disk := openFaulty(t, o)
	mustAppend(t, s, room, 3)
	size := inbox.Size(message(""))
	hold := func(log envelope.Address) (release func(), done <-chan outcome) {
		release = disk.hold()
		done = send(s, log, "late")
		for { // until it can be seen in the database
			stub, err := readStub(s.db, appendStubKey(nil, log, "alice", "late"))
			if err != nil {
				t.Fatal(err)
			}
			if stub.seq > 0 {
				return release, done
			}
			runtime.Gosched()
		}
	}
	want := func(log envelope.Address, extent inbox.Extent, seq uint64, logs int) {
		t.Helper()
		x, err := s.Extent(t.Context(), log)
		if err != nil || x != extent {
			t.Errorf("extent of %v: %+v, %v; want %+v", log, x, err, extent)
		}
		heads, err := s.Heads(t.Context(), map[envelope.Address]uint64{log: 0})
		if err != nil || heads[log] != extent.Head {
			t.Errorf("heads %v, %v; want %d", heads, err, extent.Head)
		}
		page, err := s.Read(t.Context(), log, 0, 10, 1<<20)
		if err != nil || len(page) != int(extent.Head) {
			t.Errorf("a page of %d of %v, %v; want %d", len(page), log, err, extent.Head)
		}
		each, err := s.ReadEach(t.Context(), log, []uint64{1, 2, 3, 4}, 1<<20)
		if err != nil || len(each) != int(extent.Head) {
			t.Errorf("%d entries of %v, %v; want %d", len(each), log, err, extent.Head)
		}
		found, err := s.Find(t.Context(), log, "alice", "late")
		if err != nil || found.Seq != seq {
			t.Errorf("found %+v in %v, %v; want seq %d", found, log, err, seq)
		}
		all, err := s.Logs(t.Context(), envelope.Address{}, 10)
		if err != nil || len(all) != logs {
			t.Errorf("logs %v, %v; want %d", all, err, logs)
		}
	}
	release, done := hold(room)
	want(room, inbox.Extent{Floor: 1, Head: 3, Bytes: 3 * size}, 0, 1)
	p, err := s.nextPart(t.Context(), room, 100, 0)
	if err != nil || p.now.floor != 3 {
		t.Errorf("Trim would go to %+v, %v", p, err)
	}
	release()
	if o := <-done; o.err != nil {
		t.Fatal(o.err)
	}
	want(room, inbox.Extent{Floor: 1, Head: 4, Bytes: 4 * size}, 4, 1)

	release, done = hold(hall)
	want(hall, inbox.Extent{Floor: 1}, 0, 1)
	release()
	if o := <-done; o.err != nil {
		t.Fatal(o.err)
	}
	want(hall, inbox.Extent{Floor: 1, Head: 1, Bytes: size}, 1, 2)
	mustClose(t, s)
}

// A page begins beyond what was asked for when that was trimmed, and never
// because rows are missing.
func TestHoles(t *testing.T) {
	for name, key := range map[string][]byte{
		"the first entry":        appendEntryKey(nil, 1, room, 4),
		"another entry":          appendEntryKey(nil, 1, room, 6),
		"how far it was trimmed": logPrefix(room),
		"where its entries are":  appendChapterKey(nil, room, 1),
	} {
		s := openIn(t, t.TempDir())
		mustAppend(t, s, room, 10)
		mustTrim(t, s, room, 4, time.UnixMilli(0))
		if err := s.db.Delete(key, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		page, err := s.Read(t.Context(), room, 0, 100, 1<<20)
		if !errors.Is(err, errDamaged) {
			t.Errorf("without %s: %d entries, %v", name, len(page), err)
		}
		if _, err := s.Heads(t.Context(), map[envelope.Address]uint64{room: 0}); errors.Is(err, errDamaged) != (key[0] == rowLog && len(key) > len(logPrefix(room))) {
			t.Errorf("without %s: Heads: %v", name, err)
		}
		if err := s.Trim(t.Context(), room, 8, time.UnixMilli(0)); !errors.Is(err, errDamaged) {
			t.Errorf("without %s: Trim: %v", name, err)
		}
		mustClose(t, s)
	}
}
