package embedded

import (
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
	db     *pebble.DB
	quotas inbox.Quotas
	// Where logs stand durably. Only the head is exact: what Trim has done
	// since is looked up when it matters.
	logs *simplelru.LRU[envelope.Address, standing]

	// of the batch under way
	spans map[envelope.Address]span // read-only once the batch is handed on
	stubs map[string]stub           // by key
	key   []byte
	value []byte
}

func newStager(db *pebble.DB, o Options) (*stager, error) {
	logs, err := simplelru.NewLRU[envelope.Address, standing](o.Heads, nil)
	if err != nil {
		return nil, err
	}
	return &stager{db: db, quotas: o.Quotas, logs: logs, stubs: map[string]stub{}}, nil
}

// begin starts a batch.
func (st *stager) begin() {
	st.spans = map[envelope.Address]span{}
	clear(st.stubs)
}

// committed moves the logs to where the batch has put them.
func (st *stager) committed() {
	for log, span := range st.spans {
		st.logs.Add(log, span.to)
	}
}

// add puts e into b and returns its seq, or the seq of the message it repeats,
// or Conflict or Quota. Any other error comes from the database, and nothing
// was put.
func (st *stager) add(b *pebble.Batch, e *entry) (uint64, error) {
	var stubKey []byte
	if e.env.ID != "" {
		st.key = appendStubKey(st.key[:0], e.log, e.env.SrcNode, e.env.ID)
		stubKey = st.key
		first, err := st.stub(stubKey)
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
	at, err := st.span(e.log)
	if err != nil {
		return 0, err
	}
	if err := st.roomFor(e, &at.to); err != nil {
		return 0, err
	}
	at.to.head++
	at.to.total += inbox.Size(e.env)
	seq := at.to.head
	if stubKey != nil {
		s := stub{seq, e.digest, e.env.Timestamp}
		st.value = s.append(st.value[:0])
		if err := b.Set(stubKey, st.value, nil); err != nil {
			return 0, err
		}
		st.stubs[string(stubKey)] = s
	}
	numbered := *e.env
	numbered.Seq = seq
	st.key = appendEntryKey(st.key[:0], e.log, seq)
	st.value = appendEntry(st.value[:0], at.to.total, &numbered)
	if err := b.Set(st.key, st.value, nil); err != nil {
		return 0, err
	}
	if e.env.Revises() != 0 {
		if err := stageRevision(b, e.log, seq, e.env); err != nil {
			return 0, err
		}
	}
	st.spans[e.log] = at
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

// stub returns where the message of that key went, or a zero stub.
func (st *stager) stub(key []byte) (stub, error) {
	if s, ok := st.stubs[string(key)]; ok {
		return s, nil
	}
	return readStub(st.db, key)
}

// span returns where the log stands within the batch.
func (st *stager) span(log envelope.Address) (span, error) {
	if at, ok := st.spans[log]; ok {
		return at, nil
	}
	if at, ok := st.logs.Get(log); ok {
		return span{at.head, at}, nil
	}
	it, err := newLogIter(st.db, log)
	if err != nil {
		return span{}, err
	}
	at, err := it.standing(log, math.MaxUint64)
	if err = errors.Join(err, it.Close()); err != nil {
		return span{}, err
	}
	return span{at.head, at}, nil
}
