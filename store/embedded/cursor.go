package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

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

// Advance implements inbox.Store.
func (s *Store) Advance(ctx context.Context, cursors []inbox.Cursor) error {
	if len(cursors) == 0 {
		return nil
	}
	cursors = slices.Clone(cursors) // the update may outlive the call
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		for _, c := range cursors {
			key := cursorKey(c.Node, c.Log)
			var was inbox.Cursor
			there, err := get(b, key, func(value []byte) error { return parsePositions(value, &was) })
			if err != nil {
				return err
			}
			if c.Delivered <= was.Delivered && c.Read <= was.Read {
				continue
			}
			if !there {
				if err := b.Set(readerKey(c.Log, c.Node), nil, nil); err != nil {
					return err
				}
			}
			value := binary.AppendUvarint(nil, max(c.Delivered, was.Delivered))
			value = binary.AppendUvarint(value, max(c.Read, was.Read))
			if err := b.Set(key, value, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func parsePositions(value []byte, c *inbox.Cursor) error {
	r := envelope.NewReader(value)
	c.Delivered, c.Read = r.Uvarint(), r.Uvarint()
	return r.Err()
}
