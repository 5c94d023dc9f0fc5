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
	batchEntries = 4096
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

// committer is the one goroutine that decides what is written. While one batch
// is being written, what arrives is made up into the next one, so that it is
// ready when its turn comes; and answers are given while the disk is busy with
// the batch after. Everything in it belongs to that goroutine.
type committer struct {
	*Store
	stage *stager
	order order

	next   *batch // being made up
	flight *batch // being written; nil: nothing is
	spare  []*batch

	refused bool // nobody waits for flight any more

	toWriter chan write
	written  chan error
	patience *time.Timer // runs while a batch is being written

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
	stage, err := newStager(s)
	if err != nil {
		return nil, err
	}
	c := &committer{
		Store: s, stage: stage, next: &batch{},
		patience: time.NewTimer(time.Hour), idle: time.NewTimer(time.Hour),
		toWriter: make(chan write), written: make(chan error, 1),
	}
	c.patience.Stop()
	_, _ = rand.Read(c.life[:])
	return c, nil
}

// run commits until the queue is closed and empty.
func (c *committer) run() {
	defer close(c.toWriter)
	wake := c.queue.wake
	for {
		if c.gather() && c.flight == nil {
			c.launch()
			continue
		}
		if wake == nil && c.flight == nil {
			return
		}
		select {
		case _, open := <-wake:
			if !open {
				wake = nil // nothing more comes
			}
		case err := <-c.written:
			c.land(err)
		case <-c.patience.C:
			c.outOfTime()
		case <-c.whenIdle():
			if !c.gather() {
				c.vouch()
			}
		}
	}
}

// gather adds what waits to the next batch and reports whether that holds
// anything. Updates have to wait until nothing is being written, since they
// look at what is there.
func (c *committer) gather() bool {
	if c.flight != nil && c.flight.failing != nil {
		return false // what follows for the same log is to be refused
	}
	c.queue.take(&c.next.work, c.flight == nil)
	if c.next.len() == 0 {
		return false
	}
	c.begin()
	c.stageEntries()
	return true
}

// begin makes the next batch ready to be staged into.
func (c *committer) begin() {
	b := c.next
	if b.rows != nil {
		return
	}
	b.open(c.db)
	c.number++
	b.number = c.number
	_ = b.rows.LogData(c.mark(b.number), nil)
}

// launch hands the next batch to the writer, or fails.
func (c *committer) launch() {
	if err := c.tryLaunch(); err != nil {
		c.fail(err)
	}
}

func (c *committer) tryLaunch() error {
	if err := c.Err(); err != nil {
		return err
	}
	b := c.next
	if err := errors.Join(c.runUpdates(b), b.join()); err != nil {
		return err
	}
	b.sync = b.mustSync()
	c.queue.release(&b.work)
	c.counts.batches.Add(1)
	spans := b.spans // readers may hold on to it longer than b does
	c.inFlight.Store(&spans)
	c.writing.Store(b.writing())
	c.flight, c.next = b, c.fresh()
	c.patience.Reset(c.options.Patience)
	c.toWriter <- write{b.rows, b.sync}
	return nil
}

// fresh returns an empty batch.
func (c *committer) fresh() *batch {
	n := len(c.spare)
	if n == 0 {
		return &batch{}
	}
	b := c.spare[n-1]
	c.spare = c.spare[:n-1]
	return b
}

// land takes the batch that has been written. The next one goes to the writer
// before this one is answered.
func (c *committer) land(err error) {
	if err != nil {
		c.fail(err)
		return
	}
	b := c.settle()
	switch {
	case b.failing != nil:
		away := c.queue.refuse(b.failing)
		b.answer()
		answerAll(away, b.failing.err)
		c.queue.resume()
	case c.gather():
		err = c.tryLaunch()
		b.answer()
	default:
		b.answer()
	}
	b.reset()
	c.spare = append(c.spare, b)
	if err != nil {
		c.fail(err)
	}
}

// settle makes known that the batch being written is through, and returns it.
func (c *committer) settle() *batch {
	b := c.flight
	c.flight = nil
	c.patience.Stop()
	if b.sync {
		c.synced = b.number
	}
	if b.sync && !b.vouches {
		c.vouchAt = time.Now().Add(idleAfter)
	}
	c.stage.committed(b, c.next)
	c.advances.settle()
	c.inFlight.Store(nil)
	if w := c.writing.Swap(nil); w != nil && !c.refused {
		close(w.done)
	}
	c.refused = false
	return b
}

// whenIdle returns what fires when it is time to vouch, nil when there is
// nothing to vouch for.
func (c *committer) whenIdle() <-chan time.Time {
	if c.flight != nil || c.vouchAt.IsZero() {
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
	c.vouchAt = time.Time{} // once, however it ends
	if c.Err() != nil {
		return
	}
	c.begin()
	c.next.vouches = true
	c.launch()
}

// mark is what each batch leaves in the log file, and only there: this run's
// name, the number of the batch, and the number of the last batch that is synced
// when this one is written. It lets [checkLog] tell a damaged log from one
// whose end was never written.
func (c *committer) mark(number uint64) []byte {
	synced := c.synced
	if c.flight != nil && c.flight.sync {
		synced = c.flight.number // or this one is never written
	}
	m := append(make([]byte, 0, markLen), markMagic...)
	m = append(m, c.life[:]...)
	m = binary.BigEndian.AppendUint64(m, number)
	return binary.BigEndian.AppendUint64(m, synced)
}

func (c *committer) runUpdates(b *batch) error {
	if len(b.updates) == 0 {
		return nil
	}
	rows := c.db.NewIndexedBatch()
	defer func() { _ = rows.Close() }()
	for _, u := range b.updates {
		b.decided = append(b.decided, u.run(rows))
	}
	if rows.Empty() {
		return nil
	}
	return b.rows.Apply(rows, nil)
}

// stageEntries numbers the entries of the next batch that are not yet.
func (c *committer) stageEntries() {
	b, from := c.next, len(c.next.outcomes)
	fresh := b.entries[from:]
	if c.flight != nil {
		c.counts.ahead.Add(int64(len(fresh)))
	}
	b.outcomes = append(b.outcomes, make([]outcome, len(fresh))...)
	for _, i := range c.order.of(fresh) {
		e := &fresh[i]
		if b.failing.of(e.log) {
			b.outcomes[from+i] = outcome{err: b.failing.err}
			continue
		}
		seq, err := c.stage.add(b, c.flight, e)
		if err != nil && !isAnswer(err) {
			c.log.Error("cannot read the log to append to", "log", e.log.String(), "err", err)
			if b.failing == nil {
				b.failing = &refusal{logs: map[envelope.Address]bool{}, err: readError(err)}
			}
			b.failing.logs[e.log] = true
			err = b.failing.err
		}
		b.staged(from+i, outcome{seq, err})
	}
}

// isAnswer reports whether the store has decided so, as opposed to an error
// of the database.
func isAnswer(err error) bool {
	code := envelope.CodeOf(err)
	return code == envelope.Conflict || code == envelope.Quota
}

// outOfTime is called when a batch has taken too long, unless it came back while
// something else was done.
func (c *committer) outOfTime() {
	select {
	case err := <-c.written:
		c.land(err)
	default:
		c.losePatience()
	}
}

// losePatience answers everybody Busy without waiting any longer, and returns
// once the batch is through.
func (c *committer) losePatience() {
	c.log.Error("the disk takes too long; refusing writes until it answers", "patience", c.options.Patience)
	c.refuseAll(envelope.BusyError(retryStalledMS, "the store does not answer at present", nil))
	var err error
	select {
	case err = <-c.written:
	case <-c.closing:
		c.stuck.Store(true)
		err = errors.New("closed before the disk answered")
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.settle()
	c.log.Info("the disk answers again")
	c.queue.resume()
	if c.options.Late != nil {
		c.options.Late()
	}
}

// fail ends all writing: the database does not take more after an error, and
// what is in its log file is known only to the next Open.
func (c *committer) fail(err error) {
	c.patience.Stop()
	c.stage.logs.Purge()
	c.setFailed(err)
	c.refuseAll(envelope.BusyError(retryFailedMS, "the store cannot write", err))
	c.flight = nil
}

// refuseAll answers the batch being written, the next one, everything that
// waits and, until resume, everything that comes with err.
func (c *committer) refuseAll(err error) {
	away := c.queue.refuse(&refusal{err: err})
	if w := c.writing.Load(); w != nil && !c.refused {
		close(w.done)
		c.refused = true
	}
	if c.flight != nil {
		answerAll(c.flight.work, err)
		c.flight.forget()
	}
	answerAll(c.next.work, err)
	c.queue.release(&c.next.work)
	c.next.close()
	c.next.reset()
	answerAll(away, err)
}

func answerAll(w work, err error) {
	for _, u := range w.updates {
		u.done <- err
	}
	for _, e := range w.entries {
		e.done(0, err)
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
	if !w.sync && w.batch.Count() == 0 {
		return w.batch.Close()
	}
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
