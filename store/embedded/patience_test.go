package embedded

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What may come back is waited for, a second at a time and with one line in the
// log; every other error is told at once.
func TestPatience(t *testing.T) {
	const others = vfs.WriteCategoryUnspecified
	for name, open := range map[string]func(vfs.FS, string) (vfs.File, error){
		"make":          func(fs vfs.FS, path string) (vfs.File, error) { return fs.Create(path, others) },
		"read":          func(fs vfs.FS, path string) (vfs.File, error) { return fs.Open(path) },
		"read or write": func(fs vfs.FS, path string) (vfs.File, error) { return fs.OpenReadWrite(path, others) },
		"use again":     func(fs vfs.FS, path string) (vfs.File, error) { return fs.ReuseForWrite(path, path, others) },
		"directory":     func(fs vfs.FS, path string) (vfs.File, error) { return fs.OpenDir(filepath.Dir(path)) },
	} {
		for fault, temporary := range map[error]bool{
			syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOSPC: true, syscall.EDQUOT: true,
			syscall.EIO: false, syscall.ENOENT: false,
		} {
			t.Run(name+"/"+fault.Error(), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x")
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) {
					var out bytes.Buffer
					disk := &faultFS{FS: vfs.Default}
					closing := make(chan struct{})
					p := patientFS{FS: disk, log: slog.New(slog.NewTextHandler(&out, nil)), closing: closing, waits: new(waits)}
					var lacks error = &os.PathError{Op: "open", Path: "x", Err: fault}
					disk.open.Store(&lacks)
					began := time.Now()
					time.AfterFunc(2500*time.Millisecond, func() { disk.open.Store(nil) })
					f, err := open(p, path)
					if temporary {
						if err != nil {
							t.Fatal(err)
						}
						if err := f.Close(); err != nil {
							t.Error(err)
						}
						if took := time.Since(began); took != 3*time.Second || p.waits.n.Load() != 3 || strings.Count(out.String(), "level=ERROR") != 1 {
							t.Errorf("it took %v, counted %d, logged:\n%s", took, p.waits.n.Load(), out.String())
						}
						disk.open.Store(&lacks)
						close(closing)
						_, err = open(p, path)
					}
					if !errors.Is(err, fault) || p.waits.n.Load() > 4 {
						t.Errorf("%v after %v, counted %d", err, time.Since(began), p.waits.n.Load())
					}
				})
			})
		}
	}
}

// While no file can be opened the database waits, and does not try without end.
func TestNoDescriptors(t *testing.T) {
	s, disk := openFaulty(t, Options{})
	mustAppend(t, s, room, 3)
	var lacks error = &os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}
	before := disk.opens.Load()
	disk.open.Store(&lacks)
	flushed := make(chan error, 1)
	go func() { flushed <- s.db.Flush() }()
	for s.Stats().Waits < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	if tries := disk.opens.Load() - before; tries > 20 {
		t.Errorf("tried %d times to open a file in a second", tries)
	}
	disk.open.Store(nil) // others have been closed
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	mustAppend(t, s, hall, 3)
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	mustClose(t, s)
}
