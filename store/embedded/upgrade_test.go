package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// testdata/format2 was made by the last program that wrote format 2: 300
// messages m0 to m299 in the room, trimmed to the last ten and none of them
// forgotten; three in the hall, the second of them edited by the fourth.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/format2")); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, Options{Dir: dir, SegmentBytes: 1})
	check := func(when string, head, halls uint64) {
		t.Helper()
		size := inbox.Size(message(""))
		x, err := s.Extent(t.Context(), room)
		if want := (inbox.Extent{Floor: 291, Head: head, Bytes: int64(head-290) * size}); err != nil || x != want {
			t.Errorf("%s: extent %+v, %v; want %+v", when, x, err, want)
		}
		page, err := s.Read(t.Context(), room, 0, 1000, 1<<20)
		if err != nil || len(page) != int(head-290) || page[0].ID != "m290" {
			t.Errorf("%s: page of %d, %v", when, len(page), err)
		}
		heads, err := s.Heads(t.Context(), map[envelope.Address]uint64{room: 0, hall: 0})
		if err != nil || heads[room] != head || heads[hall] != halls {
			t.Errorf("%s: heads %v, %v", when, heads, err)
		}
		logs, err := s.Logs(t.Context(), envelope.Address{}, 10)
		if err != nil || len(logs) != 2 {
			t.Errorf("%s: logs %v, %v", when, logs, err)
		}
		edits, err := s.Revisions(t.Context(), map[envelope.Address][]inbox.Range{hall: {{First: 1, Last: 3}}})
		if err != nil || len(edits[hall]) != 1 || edits[hall][0].Of != 2 {
			t.Errorf("%s: %v edited, %v", when, edits, err)
		}
		for _, i := range []int{0, 289, 290, 299} {
			if o := <-send(s, room, fmt.Sprint("m", i)); o.err != nil || o.seq != uint64(i+1) {
				t.Errorf("%s: m%d repeated: %+v", when, i, o)
			}
		}
	}
	check("at once", 300, 4)
	for i := range 5 {
		if o := <-send(s, room, fmt.Sprint("new", i)); o.err != nil || o.seq != uint64(301+i) {
			t.Fatal(o)
		}
	}
	mustAppend(t, s, hall, 3) // repetitions
	mustClose(t, s)

	s = openWith(t, Options{Dir: dir, SegmentBytes: 1})
	check("opened again", 305, 4)
	// Nothing of the older format is left once it has been trimmed and forgotten.
	for log, head := range map[envelope.Address]uint64{room: 305, hall: 5} {
		if o := <-send(s, hall, "last"); o.err != nil || o.seq != 5 {
			t.Fatal(o)
		}
		for range 2 {
			mustTrim(t, s, log, head, time.Now().Add(time.Hour))
		}
	}
	if n := rows(t, s); n[rowEntry] != 2 || n[rowStub] != 2 || n[rowLog] != 4 {
		t.Errorf("rows that are left: %v", n)
	}
	if page, err := s.Read(t.Context(), room, 0, 10, 1<<20); err != nil || len(page) != 1 || page[0].Seq != 305 {
		t.Errorf("%v, %v", page, err)
	}
	mustClose(t, s)
}

// An upgrade that is cut short by a crash is done when the store is opened again.
func TestUpgradeCrash(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/format2")); err != nil {
		t.Fatal(err)
	}
	s := &Store{options: Options{Dir: dir}.withDefaults()}
	s.log = s.options.Logger
	var err error
	if s.db, err = pebble.Open(dir, s.pebbleOptions()); err != nil {
		t.Fatal(err)
	}
	b := s.db.NewBatch()
	if err := errors.Join(s.stageUpgrade(b), s.apply(write{b, synced})); err != nil {
		t.Fatal(err)
	}
	all := files(t, dir, "") // as a kill leaves them
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	name, whole := theLog(all)
	record := all[name]
	for _, size := range []int{0, whole / 2, whole - 1, whole} {
		all[name] = record[:size]
		s := openIn(t, written(t, all))
		page, err := s.Read(t.Context(), room, 0, 100, 1<<20)
		if err != nil || len(page) != 10 || page[0].Seq != 291 {
			t.Errorf("with %d of %d bytes of the upgrade, a page of %d, %v", size, whole, len(page), err)
		}
		if o := <-send(s, room, "m7"); o.err != nil || o.seq != 8 {
			t.Errorf("with %d of %d bytes of the upgrade, a repetition: %+v", size, whole, o)
		}
		mustClose(t, s)
	}
}

func TestOlderFormat(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	value, _ := json.Marshal(upgradable - 1)
	if err := s.db.Set(metaKey("format"), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	wantOpenError(t, dir, "older program")
}
