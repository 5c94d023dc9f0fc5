package embedded

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// span is how one batch moves a log.
type span struct {
	from uint64 // its head before
	to   standing
}

// stager numbers entries and drops repetitions. Everything in it belongs to
// the committing goroutine.
type stager struct {
	db       *pebble.DB
	segments segmenter
	known    *known
	counts   *counts
	quotas   inbox.Quotas
	// Where logs stand durably, all but how far they are trimmed: what Trim has
	// done since is looked up when it matters.
	logs *simplelru.LRU[envelope.Address, standing]

	// Buffers.
	key, value []byte
	numbered   envelope.Envelope
}

func newStager(s *Store) (*stager, error) {
	logs, err := simplelru.NewLRU[envelope.Address, standing](s.options.Heads, nil)
	if err != nil {
		return nil, err
	}
	segments, err := newSegmenter(s.db, s.options.SegmentBytes)
	if err != nil {
		return nil, err
	}
	return &stager{db: s.db, segments: segments, known: s.known, counts: &s.counts, quotas: s.options.Quotas, logs: logs}, nil
}

// committed moves the logs to where a batch has put them. next has been staged
// meanwhile.
func (st *stager) committed(b, next *batch) {
	for log, span := range b.spans {
		if !st.logs.Contains(log) {
			log = log.Clone() // not the message's, see envelope.Address.Clone
		}
		st.logs.Add(log, span.to)
	}
	if st.known.ripe() {
		st.known.begin()
		for i := range next.outcomes {
			st.known.add(next.entries[i].hash)
		}
	}
	st.counts.filterBytes.Store(int64(st.known.bytes()))
}

// add puts e into b and returns its seq, or the seq of the message it repeats,
// or Conflict or Quota. Any other error comes from the database, and nothing
// was put. flight is the batch being written, if any.
func (st *stager) add(b, flight *batch, e *entry) (uint64, error) {
	if e.env.ID != "" {
		first, err := st.first(b, flight, e)
		if err != nil {
			return 0, err
		}
		if first.seq != 0 && first.digest != e.digest {
			return 0, envelope.Errorf(envelope.Conflict, "the id was used for another message")
		}
		if first.seq != 0 {
			return first.seq, nil
		}
	}
	at, err := st.span(b, flight, e.log)
	if err != nil {
		return 0, err
	}
	if err := st.roomFor(e, &at.to); err != nil {
		return 0, err
	}
	at.to.head++
	at.to.total += inbox.Size(e.env)
	seq := at.to.head
	if in := st.segments.last; at.to.in != in {
		st.key = appendChapterKey(st.key[:0], e.log, seq)
		st.value = binary.AppendUvarint(st.value[:0], uint64(in))
		if err := b.rows.Set(st.key, st.value, nil); err != nil {
			return 0, err
		}
		at.to.in = in
	}
	if e.env.ID != "" {
		st.key = appendStubKey(st.key[:0], e.log, e.env.SrcNode, e.env.ID)
		st.value = stub{seq, e.digest, e.env.Timestamp}.append(st.value[:0])
		if err := b.stubs.Set(st.key, st.value, nil); err != nil {
			return 0, err
		}
		st.known.add(e.hash)
	}
	st.numbered = *e.env
	st.numbered.Seq = seq
	st.key = appendEntryKey(st.key[:0], at.to.in, e.log, seq)
	st.value = appendEntry(st.value[:0], at.to.total, &st.numbered)
	if err := b.rows.Set(st.key, st.value, nil); err != nil {
		return 0, err
	}
	st.segments.grow(len(st.key) + len(st.value))
	if e.env.Revises() != 0 {
		if err := stageRevision(b.rows, e.log, seq, e.env); err != nil {
			return 0, err
		}
	}
	b.spans[e.log] = at
	return seq, nil
}

// roomFor returns Quota when the log has no room for e. Before it does it
// looks up how far the log has been trimmed by now, and notes it in at.
func (st *stager) roomFor(e *entry, at *standing) error {
	quota, size := st.quotas[e.log.Kind], inbox.Size(e.env)
	if inbox.Exempt(e.env) || !quota.Exceeded(at.extent(), size) {
		return nil
	}
	var err error
	if at.trimmed, err = readTrimmed(st.db, e.log); err != nil {
		return err
	}
	if quota.Exceeded(at.extent(), size) {
		return envelope.Errorf(envelope.Quota, "too much waits there already")
	}
	return nil
}

// first returns the stub of the message that e may repeat, or a zero stub.
func (st *stager) first(b, flight *batch, e *entry) (s stub, err error) {
	if st.known.isNew(e.hash) {
		st.counts.fresh.Add(1)
		return stub{}, nil
	}
	s, ok := b.find(e)
	if !ok && flight != nil {
		s, ok = flight.find(e)
	}
	if !ok {
		st.counts.asked.Add(1)
		st.key = appendStubKey(st.key[:0], e.log, e.env.SrcNode, e.env.ID)
		s, err = readStub(st.db, st.key)
	}
	if s.seq != 0 {
		st.counts.repeated.Add(1)
	}
	return s, err
}

// span returns where the log stands within the batch.
func (st *stager) span(b, flight *batch, log envelope.Address) (span, error) {
	if at, ok := b.spans[log]; ok {
		return at, nil
	}
	if flight != nil {
		if before, ok := flight.spans[log]; ok {
			return span{before.to.head, before.to}, nil
		}
	}
	if at, ok := st.logs.Get(log); ok {
		return span{at.head, at}, nil
	}
	it, err := newLogIter(st.db, log)
	if err != nil {
		return span{}, err
	}
	at, err := it.standing(math.MaxUint64)
	if err = errors.Join(err, it.Close()); err != nil {
		return span{}, err
	}
	return span{at.head, at}, nil
}
