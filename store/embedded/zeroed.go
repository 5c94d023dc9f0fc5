package embedded

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// zeroedFS has log files filled with zeros ahead of what is written to them. To sync a part
// of a file that has been written before takes two thirds to three quarters of the time
// of a new one (ext4), whether room has been asked for or not: for a new one the file
// system has to note, in its journal, that there is data now and where the file ends.
// That is why the database writes over old log files; but the first 100 MB or so after
// each start go to new ones, which is days with little to do.
//
// Who reads the last of the log files takes zeros for its end, as behind what a crash
// cut short; those before it have a trailer. New log files are written twice for it,
// and one that is closed at once takes a step for its trailer.
type zeroedFS struct {
	vfs.FS
	step int64 // how many zeros are written at once, in bytes; at most maxZeroStep
}

// maxZeroStep is the usual step. A sync that has one to take, too, is a millisecond or two longer.
const maxZeroStep = 1 << 20

// zeros are never written to, and so take no memory.
var zeros [maxZeroStep]byte

// Create implements vfs.FS.
func (z zeroedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := z.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &zeroedFile{File: f, step: z.step}, nil
}

// ReuseForWrite implements vfs.FS.
func (z zeroedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := z.FS.ReuseForWrite(oldname, newname, c)
	if err != nil || !strings.HasSuffix(newname, ".log") {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &zeroedFile{File: f, step: z.step, end: info.Size()}, nil
}

// Unwrap implements vfs.FS.
func (z zeroedFS) Unwrap() vfs.FS { return z.FS }

// zeroedFile is a log file. Who writes to it does so from its beginning on, and is one
// goroutine at a time.
type zeroedFile struct {
	vfs.File
	step int64
	at   int64 // where the next write goes
	end  int64 // nothing behind it has been written
}

// Write implements vfs.File.
func (f *zeroedFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.at += int64(n)
	if err == nil && f.at > f.end {
		f.end = (f.at + f.step - 1) / f.step * f.step
		_, _ = f.WriteAt(zeros[:f.end-f.at], f.at) // there may be no room, and what is broken shows at the next write or sync
	}
	return n, err
}
