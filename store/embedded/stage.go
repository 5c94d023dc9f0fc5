package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// span is how one batch moves the head of a log.
type span struct{ from, to uint64 }

// stager numbers entries and drops repetitions. Everything in it belongs to
// the committing goroutine.
type stager struct {
	db    *pebble.DB
	heads *simplelru.LRU[envelope.Address, uint64] // durable heads

	// of the batch under way
	spans map[envelope.Address]span // read-only once the batch is handed on
	stubs map[string]stub           // by key
	key   []byte
	value []byte
}

// stub is where a message with an id went.
type stub struct {
	seq    uint64
	digest [16]byte
}

func newStager(db *pebble.DB, heads int) (*stager, error) {
	cache, err := simplelru.NewLRU[envelope.Address, uint64](heads, nil)
	if err != nil {
		return nil, err
	}
	return &stager{db: db, heads: cache, stubs: map[string]stub{}}, nil
}

// begin starts a batch.
func (st *stager) begin() {
	st.spans = map[envelope.Address]span{}
	clear(st.stubs)
}

// committed moves the heads to where the batch has put them.
func (st *stager) committed() {
	for log, span := range st.spans {
		st.heads.Add(log, span.to)
	}
}

// add puts e into b and returns its seq, or the seq of the message it repeats,
// or Conflict. Any other error comes from the database, and nothing was put.
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
	at.to++
	if stubKey != nil {
		st.value = append(binary.AppendUvarint(st.value[:0], at.to), e.digest[:]...)
		if err := b.Set(stubKey, st.value, nil); err != nil {
			return 0, err
		}
		st.stubs[string(stubKey)] = stub{at.to, e.digest}
	}
	numbered := *e.env
	numbered.Seq = at.to
	st.key = appendEntryKey(st.key[:0], e.log, at.to)
	st.value = numbered.AppendBinary(st.value[:0])
	if err := b.Set(st.key, st.value, nil); err != nil {
		return 0, err
	}
	st.spans[e.log] = at
	return at.to, nil
}

// stub returns where the message of that key went, or a zero stub.
func (st *stager) stub(key []byte) (stub, error) {
	if s, ok := st.stubs[string(key)]; ok {
		return s, nil
	}
	value, closer, err := st.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return stub{}, nil
	}
	if err != nil {
		return stub{}, err
	}
	defer func() { _ = closer.Close() }()
	seq, n := binary.Uvarint(value)
	s := stub{seq: seq}
	if n <= 0 || seq == 0 || copy(s.digest[:], value[n:]) != len(s.digest) {
		return stub{}, fmt.Errorf("%w: stub %q", errDamaged, key)
	}
	return s, nil
}

// span returns where the log stands within the batch.
func (st *stager) span(log envelope.Address) (span, error) {
	if at, ok := st.spans[log]; ok {
		return at, nil
	}
	if head, ok := st.heads.Get(log); ok {
		return span{head, head}, nil
	}
	it, err := newLogIter(st.db, log, 0)
	if err != nil {
		return span{}, err
	}
	head, err := it.last()
	if err = errors.Join(err, it.Close()); err != nil {
		return span{}, err
	}
	return span{head, head}, nil
}
