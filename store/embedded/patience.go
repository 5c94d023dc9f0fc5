package embedded

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// patientFS makes a full disk look like a slow one: a write that finds no
// room waits until there is some. The database could not go on after the
// error; this way the store answers Busy meanwhile and recovers by itself. So it is
// when no file can be opened because too many are: the database would try again at
// once, and without end.
type patientFS struct {
	vfs.FS
	log     *slog.Logger
	closing <-chan struct{} // gives up
	waits   *waits
}

// waits are how often something had to wait for room or a descriptor.
type waits struct {
	n    atomic.Int64
	said atomic.Int64 // when that was logged last, in Unix seconds
}

const (
	// roomInterval is how often a full disk is tried again.
	roomInterval = time.Second
	// sayEvery is how often it is said that something waits.
	sayEvery = time.Minute
)

// retry calls f until it does not fail for lack of room or of a descriptor.
func (p patientFS) retry(name string, f func() error) error {
	for {
		err := f()
		if !isShort(err) {
			return err
		}
		p.waits.n.Add(1)
		p.say(name, err)
		select {
		case <-p.closing:
			return err
		case <-time.After(roomInterval):
		}
	}
}

// say logs that something waits, unless that has just been logged.
func (p patientFS) say(name string, err error) {
	now, said := time.Now().Unix(), p.waits.said.Load()
	if now-said < int64(sayEvery/time.Second) || !p.waits.said.CompareAndSwap(said, now) {
		return
	}
	what := "the disk is full; writes wait until there is room"
	if noDescriptor(err) {
		what = "too many files are open; the store waits until it can open one"
	}
	p.log.Error(what, "path", name, "err", err)
}

// isShort reports whether something failed for lack of what may come back.
func isShort(err error) bool { return isFull(err) || noDescriptor(err) }

// noDescriptor reports whether the process, or the machine, has too many files open.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isHeld reports that another opener has the lock. Within one process the
// lock's error has no type.
func isHeld(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) || err.Error() == "lock held by current process"
}

func (p patientFS) open(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = p.retry(name, func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (p patientFS) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	f, err := p.open(name, open)
	if err != nil {
		return nil, err
	}
	return patientFile{f, p, name}, nil
}

// Open implements vfs.FS.
func (p patientFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return p.open(name, func() (vfs.File, error) { return p.FS.Open(name, opts...) })
}

// OpenDir implements vfs.FS.
func (p patientFS) OpenDir(name string) (vfs.File, error) {
	return p.open(name, func() (vfs.File, error) { return p.FS.OpenDir(name) })
}

// Create implements vfs.FS.
func (p patientFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return p.file(name, func() (vfs.File, error) { return p.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (p patientFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return p.file(name, func() (vfs.File, error) { return p.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (p patientFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return p.file(newname, func() (vfs.File, error) { return p.FS.ReuseForWrite(oldname, newname, c) })
}

// Link implements vfs.FS.
func (p patientFS) Link(oldname, newname string) error {
	return p.retry(newname, func() error { return p.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (p patientFS) Rename(oldname, newname string) error {
	return p.retry(newname, func() error { return p.FS.Rename(oldname, newname) })
}

// Lock implements vfs.FS. The store has locked the directory before the
// database does, to tell why when it cannot.
func (patientFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (p patientFS) Unwrap() vfs.FS { return p.FS }

type patientFile struct {
	vfs.File
	fs   patientFS
	name string
}

// Write writes all of b, waiting for room as often as it must.
func (f patientFile) Write(b []byte) (int, error) {
	done := 0
	err := f.fs.retry(f.name, func() error {
		n, err := f.File.Write(b[done:])
		done += n
		return err
	})
	return done, err
}

// Preallocate asks for room ahead of time; there may be none.
func (f patientFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); !isFull(err) {
		return err
	}
	return nil
}

// databaseLog is where the database reports. It means to end the process
// after Fatalf; instead the store fails, answers what waits with Busy, and
// the goroutine that cannot go on stays where it is.
type databaseLog struct{ s *Store }

// Infof implements pebble.Logger.
func (l databaseLog) Infof(format string, args ...any) { l.s.log.Debug(fmt.Sprintf(format, args...)) }

// Errorf implements pebble.Logger.
func (l databaseLog) Errorf(format string, args ...any) { l.s.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf implements pebble.Logger. It does not return.
func (l databaseLog) Fatalf(format string, args ...any) {
	l.s.stuck.Store(true)
	l.s.setFailed(fmt.Errorf("embedded: "+format, args...))
	select {}
}
