// Package embedded keeps everything a node stores in one directory on local
// disk, in a Pebble database: the store for one machine.
//
// One goroutine writes. It takes what waits, numbers it, drops repetitions,
// and commits it as one batch with one fsync; what arrives meanwhile makes up
// the next batch. See DESIGN.md for the reasons and for what is detected when
// files are damaged.
package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// Options say where a store is and how much memory it may take. A zero value
// means the default.
type Options struct {
	Dir    string       // the directory, made when it is not there; no default
	Logger *slog.Logger // default: nowhere

	CacheBytes    int64 // blocks of the database kept in memory; 64 MiB
	MemtableBytes int   // written data kept in memory before it is sorted into files; 32 MiB
	Heads         int   // logs of which it is kept in memory where they stand; 100,000

	// What may stand in the logs; by default there is no bound.
	Quotas inbox.Quotas

	// What may wait to be written; the rest is refused with Busy.
	QueueEntries int // 65,536
	QueueBytes   int // 64 MiB

	// SegmentBytes is how much is appended at least before the next segment
	// begins, see segment; 256 MiB.
	SegmentBytes int64

	// FilterBytes is how much memory may be taken to know which messages are
	// new. 48 MiB, which is for 16 million messages stored and as many that
	// come; it is taken as they come. Beyond that each message is looked up.
	// Below zero: none.
	FilterBytes int

	// Patience is how long a commit may take before everybody who waits is
	// answered Busy; 5 s.
	Patience time.Duration

	// Late is called when what was answered Busy because it took too long may have been
	// written after all: readers know nothing of it. It must not block; may be nil.
	Late func()

	fs       vfs.FS // for tests
	zeroStep int64  // for tests; see zeroedFS
}

func (o Options) withDefaults() Options {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.MemtableBytes = cmp.Or(o.MemtableBytes, 32<<20)
	o.Heads = cmp.Or(o.Heads, 100_000)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 256<<20)
	o.QueueEntries = cmp.Or(o.QueueEntries, 65_536)
	o.QueueBytes = cmp.Or(o.QueueBytes, 64<<20)
	o.FilterBytes = cmp.Or(o.FilterBytes, 48<<20)
	o.Patience = cmp.Or(o.Patience, 5*time.Second)
	o.zeroStep = cmp.Or(o.zeroStep, maxZeroStep)
	if o.fs == nil {
		o.fs = vfs.Default
	}
	return o
}

// Store implements the Store of packages inbox, graph and session, and
// [auth.RevocationStore]. All
// methods but Close are safe for concurrent use; none may be called while
// Close runs.
type Store struct {
	// static
	options Options
	log     *slog.Logger
	db      *pebble.DB
	lock    io.Closer
	epoch   string
	queue   *queue
	seed    maphash.Seed  // of idHash
	counts  counts        // atomic
	waits   waits         // atomic
	closing chan struct{} // closed by Close
	threads sync.WaitGroup
	// committed is closed when the committing goroutine has ended.
	committed chan struct{}

	// inFlight is how the batch being committed moves the heads, nil between
	// batches. Rows of it can be seen in the database before they are durable.
	inFlight atomic.Pointer[map[envelope.Address]span]
	// writing are the other rows of that batch whose reads wait for it.
	writing atomic.Pointer[writing]
	// known belongs to the committing goroutine.
	known *known
	// advances tells a call of Advance whether another came in between.
	advances advances

	failed atomic.Pointer[error] // why nothing can be written any more
	stuck  atomic.Bool           // a call into the database has never returned
	closed atomic.Bool
}

var (
	_ inbox.Store   = (*Store)(nil)
	_ graph.Store   = (*Store)(nil)
	_ session.Store = (*Store)(nil)

	_ auth.RevocationStore = (*Store)(nil)
)

// format is the version of the layout in key.go and of the values.
const format = 3

// errDamaged marks rows that are not what was written.
var errDamaged = errors.New("embedded: damaged data")

// Open opens the store in a directory, or makes one there. The error names
// the directory and says whether another process has it, it cannot be
// written, a newer program wrote it, or it is damaged.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("embedded: store in directory %q: %w", o.Dir, err)
	}
	return s, nil
}

func open(o Options) (_ *Store, err error) {
	if o.Dir == "" {
		return nil, errors.New("no directory given")
	}
	if err := o.fs.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory: %w", err)
	}
	lock, err := takeLock(o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		options:   o,
		log:       o.Logger,
		lock:      lock,
		queue:     newQueue(o.QueueEntries, o.QueueBytes),
		seed:      maphash.MakeSeed(),
		closing:   make(chan struct{}),
		committed: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := checkFiles(o.fs, o.Dir, o.Logger); err != nil {
		return nil, err
	}
	if s.db, err = pebble.Open(o.Dir, s.pebbleOptions()); err != nil {
		if pebble.IsCorruptionError(err) {
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
		return nil, err
	}
	defer func() {
		if err != nil && !s.stuck.Load() { // else the database would not let go
			err = errors.Join(err, s.db.Close())
		}
	}()
	if err := s.loadMeta(); err != nil {
		return nil, err
	}
	s.known = &known{max: o.FilterBytes / 2, walk: func(r *recollection) {
		s.threads.Go(func() { s.walkStubs(r, o.FilterBytes/2) })
	}}
	c, err := s.newCommitter()
	if err != nil {
		return nil, err
	}
	s.known.begin()
	s.threads.Go(func() { s.writer(c.toWriter, c.written) })
	go func() {
		defer close(s.committed)
		c.run()
	}()
	return s, nil
}

// takeLock makes sure that no other process has the directory.
func takeLock(o Options) (io.Closer, error) {
	lock, err := o.fs.Lock(filepath.Join(o.Dir, "LOCK"))
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("the directory cannot be written: %w", err)
	case isHeld(err):
		return nil, fmt.Errorf("it is open already, here or in another process: %w", err)
	default:
		return nil, fmt.Errorf("cannot lock the directory: %w", err)
	}
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS: patientFS{FS: zeroedFS{s.options.fs, s.options.zeroStep}, log: s.log, closing: s.closing, waits: &s.waits},
		// The database takes the memory of its memtables out of its cache;
		// without more it would read a filter from disk for each message.
		CacheSize: s.options.CacheBytes + 2*int64(s.options.MemtableBytes),
		// The log files of this version say how far they had been synced.
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                uint64(s.options.MemtableBytes),
		MemTableStopWritesThreshold: 4,
		// Twice the database's own, to write half as often over what is there: that
		// saved a quarter of the CPU of the first 1.5 million appends. A read has to
		// look at four more files at most.
		L0CompactionThreshold:      8,
		L0StopWritesThreshold:      40,
		LBaseMaxBytes:              64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		Logger:                     databaseLog{s},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.log.Error("database", "err", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.log.Error("a file of the database is damaged", "path", info.Path, "err", info.Details)
			},
		},
	}
	o.Experimental.CompactionScheduler = newScheduler()
	for i := range o.Levels {
		// A new message's id is looked up and hardly ever found.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What has just been sorted is soon written again, and compressed then: to do
	// it twice costs two fifths of writing it. The first files are a quarter larger.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.Levels[1].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression } // and behind it
	return o
}

// loadMeta reads what the store says about itself, or writes it into an empty one.
func (s *Store) loadMeta() error {
	var version int
	there, err := getJSON(s.db, metaKey("format"), &version)
	if err != nil {
		return err
	}
	if !there {
		return s.create()
	}
	if version > format {
		return fmt.Errorf("it has format %d and this program knows none above %d; use a newer program", version, format)
	}
	if version < upgradable {
		return fmt.Errorf("it has format %d of an older program; this one reads none below %d", version, upgradable)
	}
	if version < format {
		if err := s.upgrade(); err != nil {
			return err
		}
	}
	there, err = getJSON(s.db, metaKey("epoch"), &s.epoch)
	if err == nil && !there {
		err = fmt.Errorf("%w: no epoch", errDamaged)
	}
	return err
}

func (s *Store) create() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	empty := !it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("%w: no format", errDamaged)
	}
	s.epoch = rand.Text()
	b := s.db.NewBatch()
	err = errors.Join(
		setJSON(b, metaKey("format"), format),
		setJSON(b, metaKey("epoch"), s.epoch),
	)
	if err != nil {
		return err
	}
	return s.found(b)
}

// found writes what a store begins with: into a sorted file at once, so that no
// batch without a mark stays in a log file.
func (s *Store) found(b *pebble.Batch) error {
	if err := s.apply(write{b, synced}); err != nil {
		return err
	}
	return s.db.Flush()
}

// Epoch implements inbox.Store.
func (s *Store) Epoch(context.Context) (string, error) { return s.epoch, nil }

// Err returns nil while the store can write. Once it cannot it never can
// again; what it has stored can be read, and the process should be restarted.
func (s *Store) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Store) setFailed(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("the store cannot write any more; restart the process", "err", err)
	}
}

// Close answers every Append that waits and closes the database. After an
// error of the disk it returns that error; the directory may then stay locked
// until the process ends.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.queue.close()
	close(s.closing)
	<-s.committed
	if s.stuck.Load() {
		return s.Err() // the database would not let go either
	}
	s.threads.Wait()
	err := s.Err()
	if err == nil {
		// Sorted files are checked as a whole when read; an end of a log
		// file is not. Leave nothing in log files.
		err = s.db.Flush()
	}
	return errors.Join(err, s.db.Close(), s.lock.Close())
}

// usable returns an error for a call that cannot be served.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed()
	}
	if err := ctx.Err(); err != nil {
		return envelope.BusyError(0, "gave up waiting for the store", err)
	}
	return nil
}

func errClosed() error { return envelope.BusyError(retryStalledMS, "the store is closed", nil) }

// readError is what the caller of a read is told.
func readError(err error) error {
	return &envelope.Error{Code: envelope.Internal, Cause: err}
}
