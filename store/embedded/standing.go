package embedded

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// standing is where a log stands.
type standing struct {
	trimmed
	head  uint64
	total int64   // what its entries count for, the trimmed ones included
	in    segment // of the chapter with its head; 0 for an empty log, too
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
	at, err := it.standing(s.durable(log))
	if err = errors.Join(err, it.Close()); err != nil {
		return inbox.Extent{}, readError(err)
	}
	return at.extent(), nil
}
