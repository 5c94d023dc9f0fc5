package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
)

// ReadEach implements inbox.Store.
func (s *Store) ReadEach(ctx context.Context, log envelope.Address, seqs []uint64, maxBytes int) ([]envelope.Envelope, error) {
	if err := s.usable(ctx); err != nil || len(seqs) == 0 {
		return nil, err
	}
	it, err := newLogIter(s.db, log)
	if err != nil {
		return nil, readError(err)
	}
	entries, err := s.each(it, slices.Sorted(slices.Values(seqs)), maxBytes)
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, readError(err)
	}
	return entries, nil
}

func (s *Store) each(it *logIter, seqs []uint64, maxBytes int) ([]envelope.Envelope, error) {
	bound := s.durable(it.log) // after the iterator, as in page
	var entries []envelope.Envelope
	bytes := 0
	for _, seq := range seqs {
		if seq < it.past.floor {
			continue
		}
		if seq > bound {
			break
		}
		if there, err := it.seek(seq); err != nil || !there {
			return entries, err
		}
		env, err := it.entry(seq)
		if err != nil {
			return nil, err
		}
		bytes += len(env.Body)
		if len(entries) > 0 && bytes > maxBytes {
			break
		}
		entries = append(entries, env)
	}
	return entries, nil
}
