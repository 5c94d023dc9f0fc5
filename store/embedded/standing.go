package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// standing is where a log stands.
type standing struct {
	trimmed
	head  uint64
	total int64 // what its entries count for, the trimmed ones included
}

func (at standing) extent() inbox.Extent {
	return inbox.Extent{Floor: at.floor, Head: at.head, Bytes: at.total - at.bytes}
}

// Extent implements inbox.Store.
func (s *Store) Extent(ctx context.Context, log envelope.Address) (inbox.Extent, error) {
	if err := s.usable(ctx); err != nil {
		return inbox.Extent{}, err
	}
	it, err := newLogIter(s.db, log)
	if err != nil {
		return inbox.Extent{}, readError(err)
	}
	// The bound comes after the iterator, as in page.
	at, err := it.standing(log, s.durable(log))
	if err = errors.Join(err, it.Close()); err != nil {
		return inbox.Extent{}, readError(err)
	}
	return at.extent(), nil
}

// logIter walks over the rows of one log: how far it has been trimmed, if it
// has, and then its entries.
type logIter struct {
	*pebble.Iterator
	prefix []byte
}

func newLogIter(db *pebble.DB, log envelope.Address) (*logIter, error) {
	prefix := logPrefix(log)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	return &logIter{it, prefix}, nil
}

// trimmed returns how far the log has been trimmed.
func (it *logIter) trimmed() (trimmed, error) {
	if !it.First() || !bytes.Equal(it.Key(), it.prefix) {
		return untrimmed(), it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return trimmed{}, err
	}
	return parseTrimmed(value)
}

// seq returns the number in the key.
func (it *logIter) seq() uint64 { return seqOf(it.Key()) }

// last returns the highest seq, 0 for an empty log.
func (it *logIter) last() (uint64, error) {
	if !it.Last() {
		return 0, it.Error()
	}
	return it.seq(), nil
}

// standing returns where the log stands when nothing above bound counts.
func (it *logIter) standing(log envelope.Address, bound uint64) (at standing, err error) {
	if at.trimmed, err = it.trimmed(); err != nil {
		return at, err
	}
	if at.head, err = it.last(); err != nil {
		return at, err
	}
	if at.head > bound {
		at.head = bound
		it.SeekGE(appendEntryKey(nil, log, bound))
	}
	if at.head == 0 {
		return at, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return at, err
	}
	if at.total, _, err = cutTotal(value); err != nil {
		return at, fmt.Errorf("%w: entry %d of %v", err, at.head, log)
	}
	return at, nil
}
