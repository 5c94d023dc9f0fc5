package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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

// advances counts the calls of Advance that the committing goroutine has carried
// out: those with cursors of devices, and of receivers of events, which come one by
// one all the time and have no cursor in common with the others.
type advances [2]struct {
	begun int64        // belongs to the committing goroutine
	seen  atomic.Int64 // so many of them are seen by who reads from now on
}

// settle makes known that all that have begun can be seen.
func (a *advances) settle() {
	for i := range a {
		a[i].seen.Store(a[i].begun)
	}
}

// advance is one call of Advance.
type advance struct {
	of    *advances
	moves moves
	kinds [2]bool       // of which there are some among moves
	seen  [2]int64      // of those before it
	ready *pebble.Batch // what to write
}

func (s *Store) newAdvance(cursors []inbox.Cursor) (*advance, error) {
	a := &advance{of: &s.advances, moves: newMoves(cursors), ready: s.db.NewBatch()}
	for _, c := range cursors {
		kind := 0
		if c.Log.Kind == envelope.KindHook {
			kind = 1
		}
		a.kinds[kind] = true
	}
	for i := range a.seen {
		a.seen[i] = a.of[i].seen.Load() // before anything is read
	}
	if err := a.moves.write(s.db, a.ready); err != nil {
		return nil, errors.Join(err, a.ready.Close())
	}
	return a, nil
}

// run writes what was made ready, unless another Advance came in between: then
// it looks again.
func (a *advance) run(b *pebble.Batch) error {
	alone := true
	for i, some := range a.kinds {
		if some {
			alone = alone && a.of[i].begun == a.seen[i]
			a.of[i].begun++
		}
	}
	var err error
	if alone {
		err = b.Apply(a.ready, nil)
	} else {
		err = a.moves.write(b, b)
	}
	return errors.Join(err, a.ready.Close())
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
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: m[0].key, UpperBound: append(bytes.Clone(m[len(m)-1].key), 0)})
	if err != nil {
		return readError(err)
	}
	var was inbox.Cursor
	var there bool
	var value []byte
	for i, c := range m {
		if i == 0 || !bytes.Equal(c.key, m[i-1].key) { // else it is as the one before has left it
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
		there = true
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
	if err != nil {
		return false, readError(err)
	}
	if err := parsePositions(value, c); err != nil {
		return false, readError(damagedRow(key, err))
	}
	return true, nil
}

func parsePositions(value []byte, c *inbox.Cursor) error {
	r := envelope.NewReader(value)
	c.Delivered, c.Read = r.Uvarint(), r.Uvarint()
	return r.Err()
}
