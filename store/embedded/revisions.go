package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// The values of the rows of revisions.
const (
	revisionEdits   = 'e'
	revisionDeletes = 'd'
)

// stageRevision notes what the entry with that seq revises, in the batch that
// stores it: there is never one without the other.
func stageRevision(b *pebble.Batch, log envelope.Address, seq uint64, env *envelope.Envelope) error {
	kind := byte(revisionEdits)
	if env.Deletes != 0 {
		kind = revisionDeletes
	}
	return b.Set(appendRevisionKey(nil, log, env.Revises(), seq), []byte{kind}, nil)
}

// Revisions implements inbox.Store.
func (s *Store) Revisions(ctx context.Context, of map[envelope.Address][]inbox.Range) (map[envelope.Address][]inbox.Revision, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, readError(err)
	}
	found := make(map[envelope.Address][]inbox.Revision)
	for log, ranges := range of {
		var all []inbox.Revision
		for _, r := range ranges {
			if all, err = s.appendRevisions(all, it, log, r); err != nil {
				return nil, readError(errors.Join(err, it.Close()))
			}
		}
		if len(all) > 0 {
			found[log] = all
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError(err)
	}
	return found, nil
}

func (s *Store) appendRevisions(all []inbox.Revision, it *pebble.Iterator, log envelope.Address, r inbox.Range) ([]inbox.Revision, error) {
	if r.First > r.Last {
		return all, nil
	}
	it.SetBounds(appendRevisionKey(nil, log, r.First, 0), appendRevisionKey(nil, log, r.Last, math.MaxUint64))
	bound := s.durable(log) // after the iterator, as in page
	for valid := it.First(); valid; valid = it.Next() {
		key := it.Key()
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if len(value) != 1 || value[0] != revisionEdits && value[0] != revisionDeletes {
			return nil, fmt.Errorf("%w: row %q", errDamaged, key)
		}
		if seq := seqOf(key); seq <= bound {
			of := binary.BigEndian.Uint64(key[len(key)-16:])
			all = append(all, inbox.Revision{Of: of, Seq: seq, Deletes: value[0] == revisionDeletes})
		}
	}
	return all, it.Error()
}
