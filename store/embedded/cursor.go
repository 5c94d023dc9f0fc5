package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// Cursors implements inbox.Store.
func (s *Store) Cursors(ctx context.Context, node envelope.NodeID) ([]inbox.Cursor, error) {
	var all []inbox.Cursor
	err := s.scan(ctx, cursorPrefix(node), func(rest, value []byte) error {
		if len(rest) < 2 {
			return errDamaged
		}
		c := inbox.Cursor{Node: node, Log: envelope.Address{Kind: envelope.Kind(rest[0]), ID: string(rest[1:])}}
		if err := parsePositions(value, &c); err != nil {
			return err
		}
		all = append(all, c)
		return nil
	})
	return all, err
}

// Readers implements inbox.Store.
func (s *Store) Readers(ctx context.Context, log envelope.Address, limit int) ([]inbox.Cursor, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	prefix := readerPrefix(log)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, readError(err)
	}
	var all []inbox.Cursor
	for valid := it.First(); valid && len(all) < limit; valid = it.Next() {
		c := inbox.Cursor{Node: envelope.NodeID(it.Key()[len(prefix):]), Log: log}
		if _, err := get(s.db, cursorKey(c.Node, log), func(value []byte) error { return parsePositions(value, &c) }); err != nil {
			return nil, errors.Join(err, it.Close())
		}
		all = append(all, c)
	}
	if err := it.Close(); err != nil { // also what ended the loop
		return nil, readError(err)
	}
	return all, nil
}

// Advance implements inbox.Store. It looks at what is there outside the
// committing goroutine: thousands of cursors at a time would hold up appends.
func (s *Store) Advance(ctx context.Context, cursors []inbox.Cursor) error {
	if len(cursors) == 0 {
		return nil
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	a, err := s.newAdvance(cursors)
	if err != nil {
		return err
	}
	return s.do(ctx, lazy, a.run)
}

// advances counts the calls of Advance that have written.
type advances struct {
	begun int64        // belongs to the committing goroutine
	seen  atomic.Int64 // who reads from now on sees as many
}

// advance is one call of Advance.
type advance struct {
	of    *advances
	moves moves
	seen  int64         // of those before it
	ready *pebble.Batch // what to write; not closed, since the update may outlive the call
}

func (s *Store) newAdvance(cursors []inbox.Cursor) (*advance, error) {
	a := &advance{of: &s.advances, moves: newMoves(cursors), ready: s.db.NewBatch()}
	a.seen = a.of.seen.Load() // before anything is read
	if err := a.moves.write(s.db, a.ready); err != nil {
		return nil, errors.Join(err, a.ready.Close())
	}
	return a, nil
}

// run writes what was made ready, unless another Advance came in between: then
// it looks again.
func (a *advance) run(b *pebble.Batch) error {
	alone := a.of.begun == a.seen
	a.of.begun++
	if alone {
		return b.Apply(a.ready, nil)
	}
	return a.moves.write(b, b)
}

// moves are cursors to be moved forward, in the order of their keys.
type moves []moveTo

type moveTo struct {
	key []byte
	inbox.Cursor
}

func newMoves(cursors []inbox.Cursor) moves {
	m := make(moves, len(cursors))
	for i, c := range cursors {
		m[i] = moveTo{cursorKey(c.Node, c.Log), c}
	}
	slices.SortFunc(m, func(a, b moveTo) int { return bytes.Compare(a.key, b.key) })
	return m
}

// write writes those that are ahead of what is there.
func (m moves) write(from pebble.Reader, to *pebble.Batch) error {
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: m[0].key, UpperBound: after(m[len(m)-1].key)})
	if err != nil {
		return readError(err)
	}
	var was inbox.Cursor
	var value []byte
	for i, c := range m {
		there := true
		if i == 0 || !bytes.Equal(c.key, m[i-1].key) { // else what was written for the one before
			was = inbox.Cursor{}
			if there, err = readPositions(it, c.key, &was); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if c.Delivered <= was.Delivered && c.Read <= was.Read {
			continue
		}
		was.Delivered, was.Read = max(c.Delivered, was.Delivered), max(c.Read, was.Read)
		value = binary.AppendUvarint(value[:0], was.Delivered)
		value = binary.AppendUvarint(value, was.Read)
		err = to.Set(c.key, value, nil)
		if err == nil && !there {
			err = to.Set(readerKey(c.Log, c.Node), nil, nil)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return readError(err)
	}
	return nil
}

// readPositions reads the cursor with that key, if there is one.
func readPositions(it *pebble.Iterator, key []byte, c *inbox.Cursor) (there bool, err error) {
	if !it.SeekGE(key) || !bytes.Equal(it.Key(), key) {
		if err := it.Error(); err != nil {
			return false, readError(err)
		}
		return false, nil
	}
	value, err := it.ValueAndErr()
	if err == nil {
		err = parsePositions(value, c)
	}
	if err != nil {
		return false, readError(fmt.Errorf("%w: row %q: %w", errDamaged, key, err))
	}
	return true, nil
}

func parsePositions(value []byte, c *inbox.Cursor) error {
	r := envelope.NewReader(value)
	c.Delivered, c.Read = r.Uvarint(), r.Uvarint()
	return r.Err()
}
