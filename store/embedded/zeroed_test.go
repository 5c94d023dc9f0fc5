package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log file is what was written, and then zeros to the end of a step, so that it
// grows once for each step.
func TestZeroed(t *testing.T) {
	const step = 4 << 10
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			zeroed, dir := zeroedFS{FS: fs, step: step}, t.TempDir()
			if err := fs.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			size := func(f vfs.File) int64 {
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				return info.Size()
			}
			write := func(f vfs.File) (all []byte, grown int) {
				before := size(f)
				for len(all) < 10*step {
					b := make([]byte, 1+rand.N(step/4))
					for i := range b {
						b[i] = byte(1 + rand.N(255))
					}
					if n, err := f.Write(bytes.Clone(b)); n != len(b) || err != nil { // which may change what it is given
						t.Fatal(n, err)
					}
					all = append(all, b...)
					if now := size(f); now != before {
						before = now
						grown++
					}
				}
				return all, grown
			}
			check := func(path string, all []byte, rest func(b []byte) bool) {
				f, err := fs.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				got := make([]byte, size(f))
				if _, err := f.ReadAt(got, 0); err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(got, all) || len(got)%step != 0 || !rest(got[len(all):]) {
					t.Errorf("%d bytes, of which %d were written", len(got), len(all))
				}
			}

			first, second := filepath.Join(dir, "1.log"), filepath.Join(dir, "2.log")
			f, err := zeroed.Create(first, "test")
			if err != nil {
				t.Fatal(err)
			}
			old, grown := write(f)
			check(first, old, func(b []byte) bool { return len(b) < step && len(bytes.Trim(b, "\x00")) == 0 })
			once := func(grown, from, to int) {
				if want := (to+step-1)/step - from/step; grown != want {
					t.Errorf("grew %d times from %d to %d bytes", grown, from, to)
				}
			}
			once(grown, 0, len(old))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}

			if f, err = zeroed.ReuseForWrite(first, second, "test"); err != nil {
				t.Fatal(err)
			}
			short := []byte("over the old")
			if _, err := f.Write(bytes.Clone(short)); err != nil {
				t.Fatal(err)
			}
			check(second, append(bytes.Clone(short), old[len(short):]...), func(b []byte) bool { return len(b) < step })
			end := int(size(f))
			more, grown := write(f)
			for len(short)+len(more) <= end {
				again, times := write(f)
				more, grown = append(more, again...), grown+times
			}
			once(grown, end, len(short)+len(more))
			check(second, append(short, more...), func(b []byte) bool { return len(b) < step && len(bytes.Trim(b, "\x00")) == 0 })
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}

			f, err = zeroed.Create(filepath.Join(dir, "1.sst"), "test")
			if err != nil {
				t.Fatal(err)
			}
			short = []byte("not filled")
			if _, err := f.Write(bytes.Clone(short)); err != nil || size(f) != int64(len(short)) {
				t.Errorf("another file has %d bytes, %v", size(f), err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// noZeros is a file of a disk without room for anything but what it is to hold.
type noZeros struct{ vfs.File }

func (noZeros) WriteAt([]byte, int64) (int, error) { return 0, errors.New("no room") }

// Where there is no room for zeros there may be for what is to be written.
func TestNoRoomForZeros(t *testing.T) {
	fs := vfs.NewMem()
	in, err := fs.Create("1.log", "test")
	if err != nil {
		t.Fatal(err)
	}
	f := &zeroedFile{File: noZeros{in}, step: 10}
	var want []byte
	for range 5 {
		b := []byte("seven b")
		want = append(want, b...)
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if in, err = fs.Open("1.log"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want)+1)
	if n, err := in.ReadAt(got, 0); !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		t.Errorf("%q, %v", got, err)
	}
}

// The store's log files are filled ahead.
func TestStoreIsZeroed(t *testing.T) {
	fs := vfs.NewMem()
	s := inMemory(t, Options{fs: fs})
	mustAppend(t, s, room, 3)
	names, err := fs.List(s.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var filled int
	for _, name := range names {
		info, err := fs.Stat(filepath.Join(s.options.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".log" && info.Size() > 0 {
			filled++
			if info.Size()%s.options.zeroStep != 0 {
				t.Errorf("%s has %d bytes", name, info.Size())
			}
		}
	}
	if filled == 0 {
		t.Errorf("no log file has anything: %v", names)
	}
	mustClose(t, s)
}

// A log file that a crash has left without any row does not stand in the way after
// another crash: the database takes it of the newest alone that it does not end with a
// trailer, so it must not keep this one when it makes another.
func TestKilledTwiceBeforeTheFirstRow(t *testing.T) {
	const n = 3
	dir := t.TempDir()
	s := openIn(t, dir)
	mustAppend(t, s, room, n)
	b := s.db.NewBatch()
	if err := b.LogData(make([]byte, markLen), nil); err != nil {
		t.Fatal(err)
	}
	marked := bytes.Clone(b.Repr())
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	all := files(t, dir, "")
	var newest uint32
	for name := range all {
		for number := range strings.FieldsFuncSeq(name, func(r rune) bool { return r < '0' || r > '9' }) {
			i, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			newest = max(newest, uint32(i))
		}
	}
	file := newest + 1
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"zeros":          make([]byte, 3*logBlock),
		"a torn batch":   append(chunkOf(marked, file)[:30], make([]byte, 3*logBlock)...),
		"a mark":         append(chunkOf(marked, file), make([]byte, 3*logBlock)...),
		"a mark, no end": chunkOf(marked, file),
	} {
		t.Run(name, func(t *testing.T) {
			all[fmt.Sprintf("%06d.log", file)] = data
			s := openIn(t, written(t, all))
			mustAppend(t, s, hall, 1)
			killed := t.TempDir()
			if err := os.CopyFS(killed, os.DirFS(s.options.Dir)); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
			if page, err := entries(killed); err != nil || len(page) != n {
				t.Errorf("%d entries, %v", len(page), err)
			}
		})
	}
}

// chunkOf returns a record of one chunk, see checkLog.
func chunkOf(payload []byte, file uint32) []byte {
	b := make([]byte, chunkHeader, chunkHeader+len(payload))
	binary.LittleEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6] = chunkFull
	binary.LittleEndian.PutUint32(b[7:], file)
	b = append(b, payload...)
	sum := crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b, (sum>>15|sum<<17)+0xa282ead8)
	return b
}
