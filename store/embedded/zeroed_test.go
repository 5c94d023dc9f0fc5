package embedded

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
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
					b := make([]byte, 1+rand.N(2*step))
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
			if most := len(old)/step + 1; grown > most {
				t.Errorf("%d bytes made it grow %d times", len(old), grown)
			}
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
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}

			f, err = zeroed.Create(filepath.Join(dir, "1.sst"), "test")
			if err != nil {
				t.Fatal(err)
			}
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

// The store's log files are filled ahead, and a crash at any time leaves them readable:
// the other tests of the package kill it and damage them.
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
