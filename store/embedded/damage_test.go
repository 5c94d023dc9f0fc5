package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/allsparkrt/allspark/envelope"
)

// files returns the names of the files in dir that end so, and their contents.
func files(t *testing.T, dir, suffix string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) || d.Name() == "LOCK" {
			return err
		}
		all[d.Name()], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// written makes a directory of those files.
func written(t *testing.T, all map[string][]byte) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// afterCrash returns the files as they are when a store is killed that has
// taken n messages, each in a batch of its own.
func afterCrash(t *testing.T, n int) (all map[string][]byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { // no pause in which the store vouches for the last
		s := inMemory(t, Options{})
		mustAppend(t, s, room, n)
		all = contents(t, s)
		mustClose(t, s)
	})
	return all
}

// newestLog returns the name of the log file written last.
func newestLog(all map[string][]byte) (name string) {
	for n := range all {
		if strings.HasSuffix(n, ".log") {
			name = max(name, n)
		}
	}
	return name
}

// theLog returns the newest log file and how much of it is not only set aside.
func theLog(all map[string][]byte) (name string, size int) {
	name = newestLog(all)
	return name, len(strings.TrimRight(string(all[name]), "\x00"))
}

func flipped(all map[string][]byte, name string, at int) map[string][]byte {
	other := map[string][]byte{}
	for n, data := range all {
		other[n] = data
	}
	data := []byte(string(all[name]))
	data[at] ^= 0x40
	other[name] = data
	return other
}

// entries opens the store, reads the room's log and closes.
func entries(dir string) ([]envelope.Envelope, error) { return entriesWith(Options{Dir: dir}) }

func entriesWith(o Options) (page []envelope.Envelope, err error) {
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Read(context.Background(), room, 0, 10_000, 1<<30)
}

// A byte changed anywhere in a log file, but for the last batch when nothing
// vouches for it, is found.
func TestDamagedLogFile(t *testing.T) {
	const n = 300 // more than one block of the file
	all := afterCrash(t, n)
	name, size := theLog(all)
	if size <= logBlock {
		t.Fatal("too small to show anything")
	}
	page, err := entries(written(t, all))
	if err != nil || len(page) != n {
		t.Fatalf("%d entries are there without damage; %v", len(page), err)
	}
	record := size / n
	for at := 0; at < size-2*record; at += 211 {
		page, err := entries(written(t, flipped(all, name, at)))
		if !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d of %d: %d entries, error %v", at, size, len(page), err)
		}
	}
	// The last batch is different: it looks like one that was being written.
	page, err = entries(written(t, flipped(all, name, size-record/2)))
	if err != nil || len(page) != n-1 {
		t.Fatalf("%d entries are there without the last batch; %v", len(page), err)
	}
}

// The end of a batch that a crash cut short is dropped, and nothing else.
func TestTornLogFile(t *testing.T) {
	const n = 50
	all := afterCrash(t, n)
	name, size := theLog(all)
	data := all[name]
	for cut := 1; cut < size/n-8; cut += 7 {
		for _, tail := range []string{"", strings.Repeat("\x00", cut), strings.Repeat("\x00", 3*logBlock), strings.Repeat("\xff", cut)} {
			all[name] = []byte(string(data[:size-cut]) + tail)
			page, err := entries(written(t, all))
			if err != nil || len(page) != n-1 {
				t.Fatalf("cut %d: %d entries, %v", cut, len(page), err)
			}
		}
	}
}

// A byte changed in a sorted file is found when it is read.
func TestDamagedTable(t *testing.T) {
	const n = 300
	s := openIn(t, t.TempDir())
	mustAppend(t, s, room, n)
	mustClose(t, s)
	all := files(t, s.options.Dir, "")
	tested, found := 0, 0
	for name, data := range files(t, s.options.Dir, ".sst") {
		for at := 0; at < len(data); at += 331 {
			page, err := entries(written(t, flipped(all, name, at)))
			if err == nil && len(page) != n {
				t.Fatalf("%s byte %d: %d entries and no error", name, at, len(page))
			}
			for i := range page {
				if want := fmt.Sprint("room", i); page[i].ID != want {
					t.Fatalf("%s byte %d: entry %d is %q", name, at, i+1, page[i].ID)
				}
			}
			tested++
			if err != nil {
				found++
			}
		}
	}
	if found == 0 {
		t.Errorf("none of %d changed bytes was found", tested)
	}
	t.Logf("%d of %d changed bytes lie where the test reads", found, tested)
}

func TestMissingFiles(t *testing.T) {
	s := openIn(t, t.TempDir())
	mustAppend(t, s, room, 10)
	mustClose(t, s)
	for _, gone := range []string{"marker.manifest", "MANIFEST", ".sst"} {
		all := files(t, s.options.Dir, "")
		for name := range all {
			if strings.Contains(name, gone) {
				delete(all, name)
			}
		}
		if page, err := entries(written(t, all)); err == nil {
			t.Errorf("without %s: %d entries and no error", gone, len(page))
		}
	}
}

// Once a part of the store cannot be read, appends that need it say so, with
// all that wait behind them in the same log, and others go on.
func TestAppendBesideDamage(t *testing.T) {
	s, disk := openFaulty(t, Options{})
	mustAppend(t, s, room, 3)
	mustAppend(t, s, hall, 3)
	key := appendStubKey(nil, room, "alice", "bad")
	if err := s.db.Set(key, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s) // what is written past the store it learns when it is opened
	s = openWith(t, s.options)
	release := disk.hold()
	others := []<-chan outcome{send(s, hall, "first")}
	behind := []<-chan outcome{send(s, room, "bad")}
	for i := range 2 * batchEntries { // some in the same batch, some in the queue
		behind = append(behind, send(s, room, fmt.Sprint("behind", i)))
		if i%100 == 0 {
			others = append(others, send(s, hall, fmt.Sprint("other", i)))
		}
	}
	release()
	for _, done := range behind {
		if o := <-done; envelope.CodeOf(o.err) != envelope.Internal || !errors.Is(o.err, errDamaged) {
			t.Fatal(o)
		}
	}
	for i, done := range others {
		if o := <-done; o.err != nil || o.seq != uint64(i+4) {
			t.Fatal(i, o)
		}
	}
	if o := <-send(s, room, "good"); o.err != nil || o.seq != 4 {
		t.Fatal(o)
	}
	mustClose(t, s)
}
