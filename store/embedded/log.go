package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// Append implements inbox.Store.
func (s *Store) Append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	e := entry{log: log, env: env, done: done}
	if env.ID != "" {
		e.digest = env.Digest()
	}
	if err := s.queue.put(e); err != nil {
		done(0, err)
	}
}

// Read implements inbox.Store.
func (s *Store) Read(ctx context.Context, log envelope.Address, after uint64, limit, maxBytes int) ([]envelope.Envelope, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if after == math.MaxUint64 {
		return nil, nil
	}
	it, err := newLogIter(s.db, log, after+1)
	if err != nil {
		return nil, readError(err)
	}
	page, err := s.page(it, log, after, limit, maxBytes)
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, readError(err)
	}
	return page, nil
}

func (s *Store) page(it *logIter, log envelope.Address, after uint64, limit, maxBytes int) ([]envelope.Envelope, error) {
	// The iterator comes first and the bound second: what the iterator sees
	// is durable or below a bound that is still set.
	bound := s.durable(log)
	var page []envelope.Envelope
	bytes := 0
	for valid := it.First(); valid && len(page) < limit; valid = it.Next() {
		seq, err := it.seq()
		if err != nil {
			return nil, err
		}
		if seq > bound {
			break
		}
		if want := after + uint64(len(page)) + 1; seq != want {
			return nil, fmt.Errorf("%w: %v has %d where %d belongs", errDamaged, log, seq, want)
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		// The value is the iterator's; the envelope keeps a part of the copy.
		env, rest, err := envelope.ParseBinary(slices.Clone(value))
		if err != nil || len(rest) > 0 || env.Seq != seq {
			return nil, fmt.Errorf("%w: entry %d of %v", errDamaged, seq, log)
		}
		bytes += len(env.Body)
		if len(page) > 0 && bytes > maxBytes {
			break
		}
		page = append(page, env)
	}
	return page, it.Error()
}

// durable returns up to where a log may be read.
func (s *Store) durable(log envelope.Address) uint64 {
	if spans := s.inFlight.Load(); spans != nil {
		if span, ok := (*spans)[log]; ok {
			return span.from
		}
	}
	return math.MaxUint64
}

// Heads implements inbox.Store.
func (s *Store) Heads(ctx context.Context, from map[envelope.Address]uint64) (map[envelope.Address]uint64, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	it, err := newLogIter(s.db, envelope.Address{}, 0)
	if err != nil {
		return nil, readError(err)
	}
	heads := make(map[envelope.Address]uint64)
	for log, least := range from {
		it.SetBounds(logBounds(log, least))
		head, err := it.last()
		if err != nil {
			return nil, readError(errors.Join(err, it.Close()))
		}
		// The bound comes after the iterator, as in page.
		if head = min(head, s.durable(log)); head >= max(least, 1) {
			heads[log] = head
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError(err)
	}
	return heads, nil
}

// logIter walks over the entries of one log.
type logIter struct{ *pebble.Iterator }

// newLogIter returns an iterator over the entries of a log from a seq on.
func newLogIter(db *pebble.DB, log envelope.Address, from uint64) (*logIter, error) {
	lower, upper := logBounds(log, from)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &logIter{it}, nil
}

// seq returns the number in the key.
func (it *logIter) seq() (uint64, error) {
	key := it.Key()
	if len(key) < 8 {
		return 0, fmt.Errorf("%w: key %q", errDamaged, key)
	}
	return binary.BigEndian.Uint64(key[len(key)-8:]), nil
}

// last returns the highest seq, 0 for an empty log.
func (it *logIter) last() (uint64, error) {
	if !it.Last() {
		return 0, it.Error()
	}
	return it.seq()
}

// logBounds returns the keys between which the entries of a log lie, from a
// seq on.
func logBounds(log envelope.Address, from uint64) (lower, upper []byte) {
	return appendEntryKey(nil, log, from), after(appendAddress([]byte{rowEntry}, log))
}
