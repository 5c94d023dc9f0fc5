package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Disk is the disk that the embedded store would write to.
type Disk struct {
	Dir   string          // the data directory, or what there is of its path
	Err   string          // why nothing can be written there
	FS    string          // kind of file system, where that is known
	Free  uint64          // bytes; 0 when Size is
	Size  uint64          // bytes; 0 when not known
	Syncs []time.Duration // how long some writes took to be on disk, in rising order
}

// syncs is how many writes are measured.
const syncs = 21

// readDisk writes a file into the data directory, or above it as long as there
// is none, and removes it.
func readDisk(data string) Disk {
	dir, err := filepath.Abs(data)
	if err != nil {
		return Disk{Dir: data, Err: err.Error()}
	}
	for {
		if _, err := os.Stat(dir); !os.IsNotExist(err) || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	d := Disk{Dir: dir}
	d.FS, d.Free, d.Size = fileSystem(dir)
	if d.Syncs, err = timeSyncs(dir); err != nil {
		d.Err = err.Error()
	}
	return d
}

// timeSyncs measures what an acknowledged message waits for: a block is
// appended, and is on disk.
func timeSyncs(dir string) ([]time.Duration, error) {
	file, err := os.CreateTemp(dir, ".allspark-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	block := make([]byte, 4<<10)
	var took []time.Duration
	for range syncs {
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		begin := time.Now()
		if err := toDisk(file); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took, nil
}

// Bounds of room on disk, in bytes, and of the time that a write takes.
const (
	littleRoom = 1 << 30
	fastSync   = 15 * time.Microsecond // no disk is, whatever its cache
	slowSync   = 10 * time.Millisecond
	awfulSync  = 100 * time.Millisecond
)

// checkDisk looks at where the data are.
func checkDisk(f *Facts) []Finding {
	const check = "data directory"
	d := f.Disk
	where := fmt.Sprintf("%s, %s", d.Dir, d.FS)
	switch {
	case d.Dir == "":
		return nil
	case d.Err != "":
		return []Finding{{check, Problem, d.Err, "The server does not start, or can store nothing.", "--data DIR, of a directory that its user may write to"}}
	}
	switch d.FS {
	case "tmpfs", "ramfs":
		return []Finding{{
			check, Problem, where, "It is memory: acknowledged messages are gone when the machine ends.", "--data DIR, on a disk",
		}}
	case "overlay":
		return []Finding{{
			check, Problem, where, "It is the container's own layer: acknowledged messages are gone with the container.", "a volume, as with docker run -v allspark:/data, and --data /data",
		}}
	case "nfs", "smb", "cifs", "fuse":
		return []Finding{{
			check, Advice, where, "What is said to be on disk there depends on another machine and its settings, and each acknowledgement waits for the network.", "--data DIR, on a disk of this machine",
		}}
	}
	switch room := fmt.Sprintf("%s: %s of %s are free", d.Dir, size(d.Free), size(d.Size)); {
	case d.Size == 0:
		return fine(check, "%s", d.Dir)
	case d.Free < littleRoom:
		return []Finding{{check, Problem, room, "When it is full every durable message is refused.", "make room, or keep less: --keep-user, --keep-session, --quota-user"}}
	case d.Free < d.Size/10:
		return []Finding{{check, Advice, room, "When it is full every durable message is refused; file systems slow down before.", "make room, or keep less: --keep-user, --keep-session, --quota-user"}}
	default:
		return fine(check, "%s, %s", room, d.FS)
	}
}

// checkSync looks at how long it takes until something is on disk.
func checkSync(f *Facts) []Finding {
	const check = "disk"
	if len(f.Disk.Syncs) == 0 || f.Disk.FS == "tmpfs" || f.Disk.FS == "ramfs" {
		return nil // in memory it says nothing
	}
	median := f.Disk.Syncs[len(f.Disk.Syncs)/2]
	worst := f.Disk.Syncs[len(f.Disk.Syncs)-1]
	took := fmt.Sprintf("a write takes %v, at worst %v of %d", rounded(median), rounded(worst), len(f.Disk.Syncs))
	switch {
	case median < fastSync:
		return []Finding{{
			check, Problem, took, "No disk is that fast: something says that data are on disk while they are not, and a loss of power loses what was acknowledged.",
			"a disk that honours fdatasync(2); not eatmydata, nobarrier or a virtual disk with cache=unsafe",
		}}
	case median >= awfulSync:
		return []Finding{{check, Problem, took, "Each acknowledgement of a durable message waits for one.", "a solid state disk, shared with less"}}
	case median >= slowSync:
		return []Finding{{check, Advice, took, "Each acknowledgement of a durable message waits for one; all that wait share it.", "a solid state disk, one whose cache survives a loss of power at best"}}
	}
	return fine(check, "%s", took)
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
