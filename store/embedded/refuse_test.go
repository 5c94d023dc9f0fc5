package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

var (
	room = envelope.SessionID("room").Address()
	hall = envelope.SessionID("hall").Address()
)

// Its time ends the batch: zeros at the end of a log file are cut off by theLog.
func message(id string) *envelope.Envelope {
	return &envelope.Envelope{ID: id, SrcNode: "alice", Timestamp: 1, Body: []byte(`"payload":"hi"`)}
}

// send appends and returns a channel for the answer.
func send(s *Store, log envelope.Address, id string) <-chan outcome {
	done := make(chan outcome, 1)
	s.Append(log, message(id), func(seq uint64, err error) { done <- outcome{seq, err} })
	return done
}

// mustAppend appends n messages and waits for each.
func mustAppend(t *testing.T, s *Store, log envelope.Address, n int) {
	t.Helper()
	for i := range n {
		if o := <-send(s, log, fmt.Sprint(log.ID, i)); o.err != nil {
			t.Fatal(o.err)
		}
	}
}

func wantBusy(t *testing.T, what string, err error) {
	t.Helper()
	e := envelope.AsError(err)
	if err == nil || e.Code != envelope.Busy || e.RetryMS == 0 {
		t.Fatalf("%s: error is %v, want busy with a time to retry", what, err)
	}
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantOpenError(t *testing.T, dir string, words ...string) {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err == nil {
		mustClose(t, s)
		t.Fatal("Open succeeded")
	}
	for _, word := range append(words, dir) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	wantOpenError(t, dir, "open already")

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.Output()
	if err == nil {
		t.Fatal("a second process opened the store")
	}
	if !strings.Contains(string(out), "open already") || !strings.Contains(string(out), dir) {
		t.Errorf("the second process says %q", out)
	}
	mustAppend(t, s, room, 1) // not disturbed
	mustClose(t, s)
	mustClose(t, openIn(t, dir))
}

func TestUnusableDirectory(t *testing.T) {
	wantOpenError(t, "")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, filepath.Join(file, "store"), "cannot make the directory")
	t.Run("read-only", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("nothing is read-only to root")
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		wantOpenError(t, dir, "cannot be written")
	})
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	value, _ := json.Marshal(format + 1)
	if err := s.db.Set(metaKey("format"), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	wantOpenError(t, dir, "newer program")
}

// faultFS is a disk whose writes can be made to fail or wait.
type faultFS struct {
	vfs.FS
	write atomic.Pointer[error] // fails every write of a file
	open  atomic.Pointer[error] // fails to open or make any
	opens atomic.Int64          // tried to open or to make
	gate  atomic.Pointer[chan struct{}]
}

type faultFile struct {
	vfs.File
	fs *faultFS
}

func (f *faultFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.tries(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return faultFile{file, f}, err
}

func (f *faultFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.tries(); err != nil {
		return nil, err
	}
	return f.FS.Open(name, opts...)
}

func (f *faultFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.tries(); err != nil {
		return nil, err
	}
	return f.FS.OpenReadWrite(name, c, opts...)
}

func (f *faultFS) OpenDir(name string) (vfs.File, error) {
	if err := f.tries(); err != nil {
		return nil, err
	}
	return f.FS.OpenDir(name)
}

// tries counts a file that is to be opened, and fails if so it was said.
func (f *faultFS) tries() error {
	f.opens.Add(1)
	if err := f.open.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faultFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.tries(); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return faultFile{file, f}, err
}

func (f faultFile) Write(b []byte) (int, error) {
	if gate := f.fs.gate.Load(); gate != nil {
		<-*gate
	}
	if err := f.fs.write.Load(); err != nil {
		// As a disk does it: a part is written.
		n, _ := f.File.Write(b[:len(b)/2])
		return n, *err
	}
	return f.File.Write(b)
}

// WriteAt fills ahead with zeros.
func (f faultFile) WriteAt(b []byte, at int64) (int, error) {
	if gate := f.fs.gate.Load(); gate != nil {
		<-*gate
	}
	if err := f.fs.write.Load(); err != nil {
		return 0, *err
	}
	return f.File.WriteAt(b, at)
}

func openFaulty(t *testing.T, o Options) (*Store, *faultFS) {
	t.Helper()
	disk := &faultFS{FS: vfs.Default}
	o.Dir, o.fs = t.TempDir(), disk
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, disk
}

// hold makes the disk wait until the returned function is called.
func (f *faultFS) hold() (release func()) {
	gate := make(chan struct{})
	f.gate.Store(&gate)
	return func() {
		f.gate.Store(nil)
		close(gate)
	}
}

func TestQueueFull(t *testing.T) {
	s, disk := openFaulty(t, Options{QueueEntries: 10, Patience: time.Hour})
	release := disk.hold()
	var waiting []<-chan outcome
	first := send(s, room, "first")
	for s.inFlight.Load() == nil { // until the queue is empty again
		runtime.Gosched()
	}
	refused := false
	for i := 0; !refused; i++ {
		done := send(s, room, fmt.Sprint("m", i))
		select {
		case o := <-done: // refused before Append returned
			wantBusy(t, "append", o.err)
			refused = true
		default:
			waiting = append(waiting, done)
		}
		if i > 100 {
			t.Fatal("the queue takes more than it may")
		}
	}
	wantBusy(t, "PutMember", s.PutMember(t.Context(), session.Member{Session: "room", Node: "bob", Device: "bob", Version: 1}))
	release()
	if o := <-first; o.err != nil || o.seq != 1 {
		t.Fatal(o)
	}
	for i, done := range waiting {
		if o := <-done; o.err != nil || o.seq != uint64(i+2) {
			t.Fatal(i, o)
		}
	}
	mustClose(t, s)

	// Bytes count as well, but never keep out a single message.
	s, disk = openFaulty(t, Options{QueueBytes: 1, Patience: time.Hour})
	if o := <-send(s, room, "m0"); o.err != nil {
		t.Fatal(o.err)
	}
	release = disk.hold()
	waiting = nil
	for i := 1; ; i++ {
		done := send(s, room, fmt.Sprint("m", i))
		waiting = append(waiting, done)
		if len(done) > 0 {
			wantBusy(t, "append", (<-done).err)
			waiting = waiting[:len(waiting)-1]
			break
		}
		if i > 3 {
			t.Fatal("the queue takes more bytes than it may")
		}
	}
	release()
	for _, done := range waiting {
		if o := <-done; o.err != nil {
			t.Fatal(o.err)
		}
	}
	mustClose(t, s)
}

func TestFullDiskRecovers(t *testing.T) {
	var s *Store
	var disk *faultFS
	var late atomic.Uint64 // the head when Late was called
	s, disk = openFaulty(t, Options{Patience: 50 * time.Millisecond, Late: func() {
		heads, _ := s.Heads(context.Background(), map[envelope.Address]uint64{room: 0})
		late.Store(max(late.Load(), heads[room]))
	}})
	mustAppend(t, s, room, 3)
	var full error = &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	disk.write.Store(&full)
	var calls []<-chan outcome
	for i := range 5 {
		calls = append(calls, send(s, room, fmt.Sprint("late", i)))
	}
	for _, done := range calls {
		wantBusy(t, "append", (<-done).err)
	}
	wantBusy(t, "append meanwhile", (<-send(s, hall, "m")).err)
	page, err := s.Read(t.Context(), room, 0, 100, 1<<20)
	if err != nil || len(page) != 3 {
		t.Fatalf("%d entries can be read, want 3; %v", len(page), err)
	}
	heads, err := s.Heads(t.Context(), map[envelope.Address]uint64{room: 0, hall: 0})
	if err != nil || heads[room] != 3 || len(heads) != 1 {
		t.Fatal(heads, err)
	}

	disk.write.Store(nil) // somebody made room
	for i := range 5 {
		for {
			o := <-send(s, room, fmt.Sprint("late", i))
			if o.err == nil {
				if o.seq != uint64(4+i) {
					t.Fatalf("late%d has seq %d", i, o.seq)
				}
				break
			}
			wantBusy(t, "append", o.err)
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	if late.Load() <= 3 {
		t.Errorf("nobody was told, when it could be read, that what was refused is there: %d", late.Load())
	}
	mustClose(t, s)
	s = openIn(t, s.options.Dir)
	if page, err := s.Read(t.Context(), room, 0, 100, 1<<20); err != nil || len(page) != 8 {
		t.Fatal(len(page), err)
	}
	mustClose(t, s)
}

func TestBrokenDisk(t *testing.T) {
	s, disk := openFaulty(t, Options{})
	mustAppend(t, s, room, 3)
	release := disk.hold()
	broken := errors.New("input/output error")
	disk.write.Store(&broken)
	var calls []<-chan outcome
	for i := range 20 {
		calls = append(calls, send(s, room, fmt.Sprint("late", i)))
	}
	release()
	for _, done := range calls {
		wantBusy(t, "append", (<-done).err)
	}
	disk.write.Store(nil)
	wantBusy(t, "append after the disk came back", (<-send(s, room, "late0")).err)
	wantBusy(t, "Create", s.Create(t.Context(), session.Session{ID: "room"}))
	if !errors.Is(s.Err(), broken) {
		t.Errorf("Err is %v", s.Err())
	}
	page, err := s.Read(t.Context(), room, 0, 100, 1<<20)
	if err != nil || len(page) != 3 {
		t.Fatalf("%d entries can be read, want 3; %v", len(page), err)
	}
	if err := s.Close(); err == nil {
		t.Error("Close hides that the store is broken")
	}
	s = openIn(t, s.options.Dir)
	if page, err := s.Read(t.Context(), room, 0, 3, 1<<20); err != nil || len(page) != 3 {
		t.Fatal(len(page), err)
	}
	mustClose(t, s)
}

func TestCloseWhileTheDiskHangs(t *testing.T) {
	s, disk := openFaulty(t, Options{Patience: 20 * time.Millisecond})
	mustAppend(t, s, room, 3)
	release := disk.hold()
	defer release()
	done := send(s, room, "late")
	if err := s.Close(); err == nil {
		t.Error("Close hides that something was not written")
	}
	wantBusy(t, "append", (<-done).err)
	wantBusy(t, "append after Close", (<-send(s, room, "later")).err)
}

func TestDatabaseGivesUp(t *testing.T) {
	s := openIn(t, t.TempDir())
	mustAppend(t, s, room, 3)
	go databaseLog{s}.Fatalf("cannot write %s", "MANIFEST") // stays there
	for {
		o := <-send(s, room, "")
		if o.err != nil {
			wantBusy(t, "append", o.err)
			break
		}
	}
	if s.Err() == nil || !strings.Contains(s.Err().Error(), "MANIFEST") {
		t.Errorf("Err is %v", s.Err())
	}
	if _, err := s.Read(t.Context(), room, 0, 3, 1<<20); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err == nil {
		t.Error("Close hides that the store is broken")
	}
}
