package embedded

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// A batch takes this much of what waits.
const (
	batchEntries = 512
	batchBytes   = 4 << 20
)

// idleAfter is how long after a synced batch, when nothing waits, a batch
// follows that says so, see [committer.vouch].
const idleAfter = 20 * time.Millisecond

// How soon to try again, in milliseconds.
const (
	retryFullMS    = 100
	retryStalledMS = 1000
	retryFailedMS  = 5000
)

// outcome is the answer to one entry or update of a batch.
type outcome struct {
	seq uint64
	err error
}

// committer is the one goroutine that writes. What waits while a batch is
// being synced makes up the next one.
type committer struct {
	*Store
	stage *stager

	work     work
	entries  []outcome // of work.entries
	updates  []outcome // of work.updates
	timer    *time.Timer
	toWriter chan write
	written  chan error

	// The marks in the log files, see mark.
	life   [8]byte
	number uint64
	synced uint64

	// When to vouch for the last synced batch; zero when that is done.
	vouchAt time.Time
	idle    *time.Timer
}

// write is a batch on its way to the writer.
type write struct {
	batch *pebble.Batch
	sync  bool
}

func (s *Store) newCommitter() (*committer, error) {
	stage, err := newStager(s.db, s.options)
	if err != nil {
		return nil, err
	}
	c := &committer{
		Store: s, stage: stage,
		timer: time.NewTimer(time.Hour), idle: time.NewTimer(time.Hour),
		toWriter: make(chan write), written: make(chan error, 1),
	}
	_, _ = rand.Read(c.life[:])
	return c, nil
}

// run commits until the queue is closed and empty.
func (c *committer) run() {
	defer close(c.toWriter)
	for c.queue.take(&c.work, batchEntries, batchBytes, c.whenIdle()) {
		if c.work.empty() {
			c.vouch()
			continue
		}
		c.commit()
		c.forget()
	}
}

// whenIdle returns what fires when it is time to vouch, nil when there is
// nothing to vouch for.
func (c *committer) whenIdle() <-chan time.Time {
	if c.vouchAt.IsZero() {
		return nil
	}
	c.idle.Reset(time.Until(c.vouchAt))
	return c.idle.C
}

// vouch writes a batch that holds only a mark. Each batch says that those
// before it were synced, and so does this one for the last before a pause:
// without it, damage to that batch would look like a crash while it was being
// written. The loss of this batch loses nothing, so nothing vouches for it.
func (c *committer) vouch() {
	defer func() { c.vouchAt = time.Time{} }() // once, however it ends
	if c.Err() != nil {
		return
	}
	batch := c.db.NewBatch()
	_ = batch.LogData(c.mark(), nil)
	c.stage.begin()
	if err := c.write(write{batch, true}); err != nil && !errors.Is(err, errAnswered) {
		c.fail(err)
	}
}

// commit stores what was taken and answers it.
func (c *committer) commit() {
	if err := c.Err(); err != nil {
		c.fail(err)
		return
	}
	batch := c.db.NewBatch()
	_ = batch.LogData(c.mark(), nil)
	c.stage.begin()
	err := c.runUpdates(batch)
	failing := c.stageEntries(batch)
	if err == nil && batch.Count() > 0 {
		err = c.write(write{batch, c.mustSync()})
		if errors.Is(err, errAnswered) {
			return
		}
	}
	if err != nil {
		c.fail(err)
		return
	}
	if failing != nil {
		away := c.queue.refuse(failing)
		c.answer()
		answerAll(away, failing.err)
		c.queue.resume()
		return
	}
	c.answer()
}

// mark is what each batch leaves in the log file, and only there: this run's
// name, the number of the batch, and the number of the last batch known to be
// synced when this one was made. It lets [checkLog] tell a damaged log from
// one whose end was never written.
func (c *committer) mark() []byte {
	c.number++
	m := append(make([]byte, 0, markLen), markMagic...)
	m = append(m, c.life[:]...)
	m = binary.BigEndian.AppendUint64(m, c.number)
	return binary.BigEndian.AppendUint64(m, c.synced)
}

func (c *committer) runUpdates(batch *pebble.Batch) error {
	c.updates = c.updates[:0]
	if len(c.work.updates) == 0 {
		return nil
	}
	rows := c.db.NewIndexedBatch()
	defer func() { _ = rows.Close() }()
	for _, u := range c.work.updates {
		c.updates = append(c.updates, outcome{err: u.run(rows)})
	}
	if rows.Empty() {
		return nil
	}
	return batch.Apply(rows, nil)
}

// stageEntries numbers the entries. It returns what is to be refused because
// the database could not be read for it.
func (c *committer) stageEntries(batch *pebble.Batch) *refusal {
	c.entries = c.entries[:0]
	var failing *refusal
	for i := range c.work.entries {
		e := &c.work.entries[i]
		if failing.of(e.log) {
			c.entries = append(c.entries, outcome{err: failing.err})
			continue
		}
		seq, err := c.stage.add(batch, e)
		if err != nil && !isAnswer(err) {
			c.log.Error("cannot read the log to append to", "log", e.log.String(), "err", err)
			if failing == nil {
				failing = &refusal{logs: map[envelope.Address]bool{}, err: readError(err)}
			}
			failing.logs[e.log] = true
			err = failing.err
		}
		c.entries = append(c.entries, outcome{seq, err})
	}
	return failing
}

// isAnswer reports whether the store has decided so, as opposed to an error
// of the database.
func isAnswer(err error) bool {
	code := envelope.CodeOf(err)
	return code == envelope.Conflict || code == envelope.Quota
}

func (c *committer) mustSync() bool {
	if len(c.stage.spans) > 0 {
		return true
	}
	for i, u := range c.work.updates {
		if u.sync && c.updates[i].err == nil {
			return true
		}
	}
	return false
}

// write hands the batch to the writer and waits for it. Readers see nothing
// of it before it is durable. When that takes too long, everybody is answered
// Busy without waiting any longer, and write returns errAnswered once the
// batch is through.
func (c *committer) write(w write) error {
	spans := c.stage.spans
	c.inFlight.Store(&spans)
	c.toWriter <- w
	c.timer.Reset(c.options.Patience)
	var err error
	answered := false
	select {
	case err = <-c.written:
		c.timer.Stop()
	case <-c.timer.C:
		c.log.Error("the disk takes too long; refusing writes until it answers", "patience", c.options.Patience)
		c.refuseAll(envelope.BusyError(retryStalledMS, "the store does not answer at present", nil))
		answered = true
		select {
		case err = <-c.written:
		case <-c.closing:
			c.stuck.Store(true)
			err = errors.New("closed before the disk answered")
		}
	}
	if err == nil {
		if w.sync {
			c.synced, c.vouchAt = c.number, time.Now().Add(idleAfter)
		}
		c.stage.committed()
		c.inFlight.Store(nil)
	}
	if answered {
		if err != nil {
			c.fail(err)
		} else {
			c.log.Info("the disk answers again")
			c.queue.resume()
		}
		return errAnswered
	}
	return err
}

// errAnswered says that the batch has been answered already.
var errAnswered = errors.New("embedded: answered")

// fail ends all writing: the database does not take more after an error, and
// what is in its log file is known only to the next Open.
func (c *committer) fail(err error) {
	c.stage.logs.Purge()
	c.setFailed(err)
	c.refuseAll(envelope.BusyError(retryFailedMS, "the store cannot write", err))
}

// refuseAll answers the batch, everything that waits and, until resume,
// everything that comes with err.
func (c *committer) refuseAll(err error) {
	away := c.queue.refuse(&refusal{err: err})
	answerAll(c.work, err)
	answerAll(away, err)
	c.forget()
}

// forget lets go of what has been answered.
func (c *committer) forget() {
	clear(c.work.entries)
	clear(c.work.updates)
	c.work.entries, c.work.updates = c.work.entries[:0], c.work.updates[:0]
}

func answerAll(w work, err error) {
	for _, u := range w.updates {
		u.done <- err
	}
	for _, e := range w.entries {
		e.done(0, err)
	}
}

// answer gives everybody in the batch the outcome.
func (c *committer) answer() {
	for i, u := range c.work.updates {
		u.done <- c.updates[i].err
	}
	for i, e := range c.work.entries {
		e.done(c.entries[i].seq, c.entries[i].err)
	}
}

// writer applies one batch at a time. It is a goroutine of its own so that a
// disk that hangs holds up nothing but itself.
func (s *Store) writer(in <-chan write, out chan<- error) {
	for w := range in {
		out <- s.apply(w)
	}
}

func (s *Store) apply(w write) (err error) {
	defer func() {
		// The database panics when it cannot start a new log file.
		if r := recover(); r != nil {
			s.stuck.Store(true)
			err = fmt.Errorf("embedded: the database panicked: %v", r)
		}
	}()
	if !w.sync {
		return errors.Join(s.db.Apply(w.batch, pebble.NoSync), w.batch.Close())
	}
	// This pair returns the error of the sync, where Apply alone would end
	// the process with Fatalf.
	if err := s.db.ApplyNoSyncWait(w.batch, pebble.Sync); err != nil {
		return err
	}
	return errors.Join(w.batch.SyncWait(), w.batch.Close())
}
