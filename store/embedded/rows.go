package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// Durability of an update.
const (
	synced = true
	lazy   = false // in the log file at once, on the disk with the next sync
)

// do lets the committing goroutine run an update, so that what it checks
// still holds when it writes, and returns its error.
func (s *Store) do(ctx context.Context, sync bool, run func(*pebble.Batch) error) error {
	return s.doRow(ctx, sync, nil, run)
}

// doRow is do for an update of a row that is read by [Store.find].
func (s *Store) doRow(ctx context.Context, sync bool, row []byte, run func(*pebble.Batch) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	u := update{run: run, sync: sync, row: row, done: make(chan error, 1)}
	if err := s.queue.putUpdate(u); err != nil {
		return err
	}
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return envelope.BusyError(0, "gave up waiting for the store", ctx.Err())
	}
}

// get reads a row and hands its value to use. It returns false when there is
// no such row.
func get(from pebble.Reader, key []byte, use func(value []byte) error) (bool, error) {
	value, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, readError(err)
	}
	err = use(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return false, readError(damagedRow(key, err))
	}
	return true, nil
}

// damagedRow says which row is not what was written, and in what way.
func damagedRow(key []byte, err error) error {
	return fmt.Errorf("%w: row %q: %w", errDamaged, key, err)
}

// getJSON reads a row into v.
func getJSON(from pebble.Reader, key []byte, v any) (bool, error) {
	return get(from, key, func(value []byte) error { return json.Unmarshal(value, v) })
}

// setJSON writes a row.
func setJSON(to *pebble.Batch, key []byte, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return to.Set(key, value, nil)
}

// scan hands every row whose key starts with prefix to use: what follows the
// prefix, and the value. Both are valid until use returns.
func (s *Store) scan(ctx context.Context, prefix []byte, use func(rest, value []byte) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return readError(err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = use(it.Key()[len(prefix):], value)
		}
		if err != nil {
			return readError(errors.Join(fmt.Errorf("row %q: %w", it.Key(), err), it.Close()))
		}
	}
	if err := it.Close(); err != nil { // also what ended the loop
		return readError(err)
	}
	return nil
}

// scanJSON returns the values of the rows whose keys start with prefix.
func scanJSON[T any](ctx context.Context, s *Store, prefix []byte) ([]T, error) {
	var all []T
	err := s.scan(ctx, prefix, func(_, value []byte) error {
		var row T
		if err := json.Unmarshal(value, &row); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		all = append(all, row)
		return nil
	})
	return all, err
}
