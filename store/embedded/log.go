package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// Append implements inbox.Store.
func (s *Store) Append(log envelope.Address, env *envelope.Envelope, done func(seq uint64, err error)) {
	e := entry{log: log, env: env, done: done}
	if env.ID != "" {
		e.digest, e.hash = env.Digest(), s.idHash(log, env.SrcNode, env.ID)
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
	it, err := newLogIter(s.db, log)
	if err != nil {
		return nil, readError(err)
	}
	page, err := s.page(it, after, limit, maxBytes)
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, readError(err)
	}
	return page, nil
}

func (s *Store) page(it *logIter, after uint64, limit, maxBytes int) ([]envelope.Envelope, error) {
	// The iterator comes first and the bound second: what the iterator sees
	// is durable or below a bound that is still set.
	bound := s.durable(it.log)
	first := max(after+1, it.past.floor)
	var page []envelope.Envelope
	bytes := 0
	there, err := it.seek(first)
	for ; err == nil && there && len(page) < limit; there, err = it.next() {
		if it.seq() > bound {
			break
		}
		env, err := it.entry(first + uint64(len(page)))
		if err != nil {
			return nil, err
		}
		bytes += len(env.Body)
		if len(page) > 0 && bytes > maxBytes {
			break
		}
		page = append(page, env)
	}
	return page, err
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
	rows, err := s.db.NewIter(nil)
	if err != nil {
		return nil, readError(err)
	}
	it := &logIter{Iterator: rows}
	heads := make(map[envelope.Address]uint64)
	for _, log := range slices.SortedFunc(maps.Keys(from), envelope.Address.Compare) { // from neighbour to neighbour
		head, err := it.headOf(log)
		if err != nil {
			return nil, readError(errors.Join(err, it.Close()))
		}
		// The bound comes after the iterator, as in page.
		if head = min(head, s.durable(log)); head >= max(from[log], 1) {
			heads[log] = head
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError(err)
	}
	return heads, nil
}

// Find implements inbox.Store.
func (s *Store) Find(ctx context.Context, log envelope.Address, src envelope.NodeID, id string) (inbox.Found, error) {
	if err := s.usable(ctx); err != nil || id == "" {
		return inbox.Found{}, err
	}
	at, err := readStub(s.db, appendStubKey(nil, log, src, id))
	// The bound comes after the row, as in page.
	if err != nil || at.seq > s.durable(log) {
		return inbox.Found{}, err
	}
	return inbox.Found{Seq: at.seq, Timestamp: at.timestamp}, nil
}

// Logs implements inbox.Store, in the order of the keys.
func (s *Store) Logs(ctx context.Context, behind envelope.Address, limit int) ([]envelope.Address, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	all := []byte{rowLog}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: all, UpperBound: after(all)})
	if err != nil {
		return nil, readError(err)
	}
	var logs []envelope.Address
	next := all
	if !behind.IsZero() {
		next = after(logPrefix(behind))
	}
	for len(logs) < limit && it.SeekGE(next) {
		log, ok := cutAddress(it.Key()[1:])
		if !ok {
			return nil, readError(errors.Join(fmt.Errorf("%w: key %q", errDamaged, it.Key()), it.Close()))
		}
		if s.durable(log) > 0 {
			logs = append(logs, log)
		}
		next = after(logPrefix(log))
	}
	if err := it.Close(); err != nil { // also what ended the loop
		return nil, readError(err)
	}
	return logs, nil
}
