package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// upgradable is the oldest format that can be made into this one.
//
//	1  no running bytes in the entries, no timestamp in the stubs
//	2  no segments: entries stand where those of segment 0 do, and e kind id 0
//	   says how far a log is trimmed
const upgradable = 2

// upgrade makes format 2 into this one, in one batch: the entries that there are
// become segment 0, and those of each log its first chapter. It takes a read and
// about a hundred bytes of memory for each log.
func (s *Store) upgrade() error {
	b := s.db.NewBatch()
	if err := s.stageUpgrade(b); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.found(b)
}

func (s *Store) stageUpgrade(b *pebble.Batch) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{rowEntry}, UpperBound: []byte{rowEntry + 1}})
	if err != nil {
		return err
	}
	for valid := it.First(); valid; {
		log, ok := cutAddress(it.Key()[1:])
		if !ok {
			return errors.Join(fmt.Errorf("%w: key %q", errDamaged, it.Key()), it.Close())
		}
		if err := upgradeLog(b, it, log); err != nil {
			return errors.Join(err, it.Close())
		}
		valid = it.SeekGE(after(appendEntryPrefix(nil, 0, log)))
	}
	if err := it.Close(); err != nil { // also what ended the loop
		return err
	}
	return setJSON(b, metaKey("format"), format)
}

// upgradeLog writes what says where the entries of the log are that the iterator
// is at the first row of.
func upgradeLog(b *pebble.Batch, it *pebble.Iterator, log envelope.Address) error {
	prefix := appendEntryPrefix(nil, 0, log)
	past := untrimmed()
	if len(it.Key()) == len(prefix) {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if past, err = parseTrimmed(value); err != nil {
			return fmt.Errorf("%w: how far %v is trimmed", err, log)
		}
		if err := errors.Join(b.Set(logPrefix(log), value, nil), b.Delete(prefix, nil)); err != nil {
			return err
		}
	}
	return b.Set(appendChapterKey(nil, log, past.floor), binary.AppendUvarint(nil, 0), nil)
}
