package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// partEntries is how many entries and how many stubs one part of a Trim
// removes at most, so that appends wait no longer for it than for each other.
const partEntries = 256

// Trim implements inbox.Store. It looks for what to remove outside the
// committing goroutine, part by part; each part is one batch, so that a crash
// leaves a log that was trimmed less far. Stubs are forgotten in the order of
// the log: the first one to be kept keeps those behind it.
func (s *Store) Trim(ctx context.Context, log envelope.Address, floor uint64, forget time.Time) error {
	for {
		p, err := s.nextPart(ctx, log, floor, forget.UnixMilli())
		if err != nil || p == nil {
			return err
		}
		if err := s.do(ctx, lazy, p.remove); err != nil {
			return err
		}
	}
}

// part is one step of a Trim.
type part struct {
	log      envelope.Address
	was, now trimmed
	known    *known        // that of the committing goroutine
	stubs    int           // to be forgotten
	batch    *pebble.Batch // what to write; not closed, since the update may outlive the call
}

// remove does the step unless another Trim was faster.
func (p *part) remove(b *pebble.Batch) error {
	at, err := readTrimmed(b, p.log)
	if err != nil || at != p.was {
		return err
	}
	p.known.forgotten += p.stubs
	return b.Apply(p.batch, nil)
}

// nextPart returns what a Trim has to do next, nil when there is nothing.
func (s *Store) nextPart(ctx context.Context, log envelope.Address, floor uint64, forget int64) (*part, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	it, err := newLogIter(s.db, log)
	if err != nil {
		return nil, readError(err)
	}
	p := &part{log: log, known: s.known, batch: s.db.NewBatch()}
	// The bound comes after the iterator, as in page.
	err = p.trim(it, floor, s.durable(log), forget)
	if err = errors.Join(err, it.Close()); err == nil {
		err = p.forget(s.db, forget)
	}
	if err == nil && p.now != p.was {
		err = p.batch.Set(logPrefix(log), p.now.append(nil), nil)
	}
	if err != nil {
		return nil, readError(errors.Join(err, p.batch.Close()))
	}
	if p.now == p.was {
		return nil, p.batch.Close()
	}
	return p, nil
}

// trim removes entries below floor and below the durable head.
func (p *part) trim(it *logIter, floor, durable uint64, forget int64) error {
	at, err := it.standing(durable)
	if err != nil {
		return err
	}
	p.was, p.now = at.trimmed, at.trimmed
	end := min(floor, at.head, p.was.floor+partEntries)
	there, err := it.seek(p.was.floor)
	for ; err == nil && there && p.now.floor < end; there, err = it.next() {
		seq := p.now.floor
		value, err := it.value(seq)
		if err != nil {
			return err
		}
		total, env, err := parseEntry(value, seq)
		if err != nil {
			return fmt.Errorf("%w: entry %d of %v", err, seq, p.log)
		}
		// With the size the database knows where room is to be won.
		err = p.batch.DeleteSized(it.Key(), uint32(len(value)), nil)
		if of := env.Revises(); err == nil && of != 0 {
			err = p.batch.Delete(appendRevisionKey(nil, p.log, of, seq), nil)
		}
		if err == nil && env.ID != "" {
			err = p.leave(seq, remnant{env.Timestamp, env.SrcNode, env.ID}, forget)
		}
		if err != nil {
			return err
		}
		p.now.floor, p.now.bytes = seq+1, total
	}
	if err != nil {
		return err
	}
	return p.drop(it)
}

// drop removes the chapters that are trimmed as a whole: those before the one
// with the new floor.
func (p *part) drop(it *logIter) error {
	it.contents()
	var before []byte
	for valid := it.First(); valid; valid = it.Next() {
		if !it.atChapter() {
			continue
		}
		if it.seq() > p.now.floor {
			break
		}
		if before != nil {
			if err := p.batch.Delete(before, nil); err != nil {
				return err
			}
		}
		before = append(before[:0], it.Key()...)
	}
	return it.Error()
}

// leave keeps what is left of an entry, unless it is to be forgotten at once.
func (p *part) leave(seq uint64, r remnant, forget int64) error {
	if r.timestamp < forget {
		p.stubs++
		return p.batch.Delete(appendStubKey(nil, p.log, r.src, r.id), nil)
	}
	return p.batch.Set(appendRemnantKey(nil, p.log, seq), r.append(nil), nil)
}

// forget removes what is left of entries that were trimmed earlier.
func (p *part) forget(db *pebble.DB, forget int64) error {
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: appendRemnantKey(nil, p.log, p.was.kept),
		UpperBound: appendRemnantKey(nil, p.log, p.was.floor),
	})
	if err != nil {
		return err
	}
	left := partEntries
	for valid := it.First(); valid && left > 0; valid = it.Next() {
		gone, err := p.forgetOne(it, forget)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !gone {
			break
		}
		left--
	}
	return it.Close()
}

// forgetOne reports whether the remnant under it is forgotten now.
func (p *part) forgetOne(it *pebble.Iterator, forget int64) (bool, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return false, err
	}
	r, err := parseRemnant(value)
	if err != nil {
		return false, damagedRow(it.Key(), err)
	}
	if r.timestamp >= forget {
		return false, nil
	}
	p.now.kept = seqOf(it.Key()) + 1
	p.stubs++
	return true, errors.Join(
		p.batch.Delete(appendStubKey(nil, p.log, r.src, r.id), nil),
		p.batch.Delete(it.Key(), nil),
	)
}
