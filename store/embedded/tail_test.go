package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// inMemory opens a store whose disk is memory, for tests with a clock of
// their own.
func inMemory(t *testing.T, o Options) *Store {
	t.Helper()
	o.Dir = "/store"
	if o.fs == nil {
		o.fs = vfs.NewMem()
	}
	s := openWith(t, o)
	t.Cleanup(func() { _ = s.Close() }) // ends its goroutines, whatever the test does
	return s
}

// contents returns the files of such a store as a crash would leave them now.
func contents(t *testing.T, s *Store) map[string][]byte {
	t.Helper()
	names, err := s.options.fs.List(s.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		f, err := s.options.fs.Open(filepath.Join(s.options.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	delete(all, "LOCK")
	return all
}

// idle lets the time pass in which a store vouches for its last batch.
func idle() {
	time.Sleep(idleAfter)
	synctest.Wait()
}

// marks counts the batches in the newest log file.
func marks(t *testing.T, s *Store) int {
	t.Helper()
	all := contents(t, s)
	name, _ := theLog(all)
	return bytes.Count(all[name], []byte(markMagic))
}

func appendBody(t *testing.T, s *Store, id string, size int) {
	t.Helper()
	env := message(id)
	env.Body = []byte(`"payload":"` + strings.Repeat("x", size) + `"`)
	done := make(chan error, 1)
	s.Append(room, env, func(_ uint64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// opened opens the store with those files. It returns the entries of the
// room's log, what was logged as a warning, and the error.
func opened(t *testing.T, all map[string][]byte) (page []envelope.Envelope, warnings string, err error) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	page, err = entriesWith(Options{Dir: written(t, all), Logger: log})
	return page, out.String(), err
}

func TestVouchesOnceWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{})
		idle()
		if n := marks(t, s); n != 0 {
			t.Fatalf("%d batches before there was anything", n)
		}
		for i := range 50 {
			mustAppend(t, s, envelope.NodeID(fmt.Sprint("load", i)).Address(), 1)
			time.Sleep(idleAfter - 1)
			synctest.Wait()
		}
		if n := marks(t, s); n != 50 {
			t.Fatalf("%d batches under load, want 50", n)
		}
		want := 50
		for i := range 3 {
			idle()
			want++
			if n := marks(t, s); n != want {
				t.Fatalf("%d batches after a pause, want %d", n, want)
			}
			time.Sleep(time.Hour)
			if n := marks(t, s); n != want {
				t.Fatalf("%d batches after an hour, want %d", n, want)
			}
			mustAppend(t, s, envelope.NodeID(fmt.Sprint("again", i)).Address(), 1)
			want++
		}
		mustClose(t, s)
	})
}

// Updates that need not be durable neither call for a mark nor hold one up.
func TestVouchesBesideLazyUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{})
		advance := func(to uint64) {
			t.Helper()
			if err := s.Advance(t.Context(), cursorsAt(to)); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, s, room, 1)
		for i := range uint64(10) {
			time.Sleep(idleAfter / 4)
			advance(i + 1)
		}
		synctest.Wait()
		all := contents(t, s)
		name, size := theLog(all)
		if n := bytes.Count(all[name][:size], []byte(markMagic)); n < 3 {
			t.Fatalf("%d batches are on disk; nothing vouches for the message", n)
		}
		before := marks(t, s)
		advance(100)
		time.Sleep(time.Hour)
		if n := marks(t, s); n != before {
			t.Fatalf("%d batches after a cursor was moved, want %d", n, before)
		}
		mustClose(t, s)
	})
}

// A disk that hangs or fails while nothing but a mark is written is like any
// other, and Close does not wait for a pause.
func TestVouchesOnBadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &faultFS{FS: vfs.NewMem()}
		s := inMemory(t, Options{fs: disk})
		mustAppend(t, s, room, 1)
		release := disk.hold()
		idle()
		done := send(s, room, "meanwhile")
		time.Sleep(s.options.Patience)
		wantBusy(t, "append", (<-done).err)
		release()
		synctest.Wait()
		if o := <-send(s, room, "meanwhile"); o.err != nil || o.seq != 2 {
			t.Fatal(o)
		}
		broken := errors.New("input/output error")
		disk.write.Store(&broken)
		idle()
		if !errors.Is(s.Err(), broken) {
			t.Fatalf("Err is %v", s.Err())
		}
		wantBusy(t, "append", (<-send(s, room, "late")).err)
		if err := s.Close(); err == nil {
			t.Error("Close hides that the store is broken")
		}

		s = inMemory(t, Options{})
		mustAppend(t, s, room, 1)
		start := time.Now()
		mustClose(t, s)
		if waited := time.Since(start); waited >= idleAfter {
			t.Errorf("Close took %v", waited)
		}
	})
}

// After a pause no byte of an acknowledged batch can change unnoticed.
func TestDamagedLastBatch(t *testing.T) {
	var without, with map[string][]byte
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{})
		mustAppend(t, s, room, 2)
		without = contents(t, s)
		idle()
		with = contents(t, s)
		mustClose(t, s)
	})
	name, size := theLog(without)
	second := bytes.LastIndex(without[name], []byte(markMagic)) - markOffset - chunkHeader

	// What a kill right after the message leaves looks like a crash while the
	// message was being written, but it is not silent.
	for at := second; at < size; at += 5 {
		page, warnings, err := opened(t, flipped(without, name, at))
		if err != nil || len(page) != 1 {
			t.Fatalf("byte %d: %d entries, %v", at, len(page), err)
		}
		want := fmt.Sprintf("offset=%d bytes=%d", second, size-second)
		if !strings.Contains(warnings, name) || !strings.Contains(warnings, want) || strings.Count(warnings, "\n") != 1 {
			t.Fatalf("byte %d: warned of %q, want %s", at, warnings, want)
		}
	}
	_, whole := theLog(with)
	if whole <= size {
		t.Fatal("nothing vouches for the last message")
	}
	for at := second; at < size; at++ {
		if err := checkIn(t, flipped(with, name, at)); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: error %v", at, err)
		}
	}
	for at := second; at < size; at += 17 {
		if page, _, err := opened(t, flipped(with, name, at)); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: %d entries, %v", at, len(page), err)
		}
	}
	// The batch that vouches holds nothing that could be lost.
	for at := size; at < whole; at += 3 {
		page, warnings, err := opened(t, flipped(with, name, at))
		if err != nil || len(page) != 2 {
			t.Fatalf("byte %d: %d entries, %v", at, len(page), err)
		}
		if want := fmt.Sprintf("offset=%d bytes=%d", size, whole-size); !strings.Contains(warnings, want) {
			t.Fatalf("byte %d: warned of %q, want %s", at, warnings, want)
		}
	}
	for _, all := range []map[string][]byte{without, with} {
		page, warnings, err := opened(t, all)
		if err != nil || len(page) != 2 || warnings != "" {
			t.Fatalf("%d entries without damage, %v; warned of %q", len(page), err, warnings)
		}
	}
}

// checkIn does what Open does before the database is opened.
func checkIn(t *testing.T, all map[string][]byte) error {
	t.Helper()
	mem := vfs.NewMem()
	for name, data := range all {
		f, err := mem.Create(name, "")
		if err != nil {
			t.Fatal(err)
		}
		// A copy: built with -race, this file system may invert what it is given.
		if _, err := f.Write(bytes.Clone(data)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return checkFiles(mem, "", slog.New(slog.DiscardHandler))
}

// It makes no difference how the last batches lie in the blocks of the file.
func TestDamagedLastBatchAtEndOfBlock(t *testing.T) {
	for left := range 70 {
		synctest.Test(t, func(t *testing.T) {
			s := inMemory(t, Options{})
			appendBody(t, s, "first", 0) // with the row that begins a chapter
			_, first := theLog(contents(t, s))
			appendBody(t, s, "sized", 0)
			_, base := theLog(contents(t, s))
			// A longer body makes a record longer by its own length and by
			// longer numbers for it.
			fill := logBlock - base - (base - first) - 5 - left
			appendBody(t, s, "other", fill)
			name, size := theLog(contents(t, s))
			if size != logBlock-left {
				t.Fatalf("the last message ends at %d", size)
			}
			idle()
			all := contents(t, s)
			appendBody(t, s, "third", 0)
			idle()
			more := contents(t, s)
			mustClose(t, s)
			// The database stops at damaged padding too, when it looks at it.
			if left >= 7 && left < chunkHeader {
				if err := checkIn(t, flipped(more, name, size+6)); !errors.Is(err, errDamaged) {
					t.Fatalf("padding of %d bytes: error %v", left, err)
				}
			}
			for _, at := range []int{base + 3, base + 6, base + 40, size / 2, size - 3} {
				if err := checkIn(t, flipped(all, name, at)); !errors.Is(err, errDamaged) {
					t.Fatalf("%d bytes of %d, byte %d: error %v", size, logBlock, at, err)
				}
			}
		})
	}
}

// Log files are written over older ones. What is left of those is no tail;
// a damaged batch before it is.
func TestTailInReusedFile(t *testing.T) {
	var without, with map[string][]byte
	var last int
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, Options{MemtableBytes: 64 << 10})
		for i := 0; ; i++ {
			appendBody(t, s, fmt.Sprint("m", i), 3000+i%7)
			synctest.Wait() // until obsolete files are set aside
			without = contents(t, s)
			data := without[newestLog(without)]
			at := bytes.LastIndex(data, fmt.Append(nil, "m", i))
			if at < logBlock || at+4000 > len(data) || len(bytes.TrimRight(data[at+4000:], "\x00")) == 0 {
				continue // nothing of an older file is left behind this message
			}
			last = i + 1
			break
		}
		idle()
		with = contents(t, s)
		mustClose(t, s)
	})
	for _, all := range []map[string][]byte{without, with} {
		page, warnings, err := opened(t, all)
		if err != nil || len(page) != last || warnings != "" {
			t.Fatalf("%d of %d entries without damage, %v; warned of %q", len(page), last, err, warnings)
		}
	}
	name := newestLog(without)
	id := bytes.LastIndex(without[name], fmt.Append(nil, "m", last-1))
	begin := bytes.LastIndex(without[name][:id], []byte(markMagic)) - markOffset - chunkHeader
	for at := begin; at < begin+3000; at += 101 {
		page, warnings, err := opened(t, flipped(without, name, at))
		if err != nil || len(page) != last-1 || !strings.Contains(warnings, fmt.Sprintf("offset=%d ", begin)) {
			t.Fatalf("byte %d: %d of %d entries, %v; warned of %q", at, len(page), last-1, err, warnings)
		}
		if err := checkIn(t, flipped(with, name, at)); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: error %v", at, err)
		}
	}
	for at := begin; at < begin+chunkHeader; at++ { // the header of the batch
		_, warnings, err := opened(t, flipped(without, name, at))
		if err != nil || warnings == "" {
			t.Fatalf("byte %d: %v; warned of %q", at, err, warnings)
		}
	}
}

func cursorsAt(n uint64) []inbox.Cursor {
	return []inbox.Cursor{{Node: "bob", Log: room, Delivered: n}}
}
