package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// chapter is the part of a log that is in one segment.
type chapter struct {
	first uint64 // its first entry
	in    segment
}

// logIter walks over the entries of one log, chapter after chapter. All that it
// sees is of one state.
type logIter struct {
	*pebble.Iterator
	log     envelope.Address
	past    trimmed
	chapter chapter // that it is in, once it is at an entry
	entered bool
	prefix  int    // length of what the keys of the contents begin with
	buffer  []byte // for keys
}

// newLogIter reads how far the log is trimmed.
func newLogIter(db *pebble.DB, log envelope.Address) (*logIter, error) {
	rows, err := db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	it := &logIter{Iterator: rows, log: log}
	if err := it.trimmed(); err != nil {
		return nil, errors.Join(err, it.Close())
	}
	return it, nil
}

// contents makes the rows that say where the entries are those that it moves in:
// how far the log is trimmed, and its chapters.
func (it *logIter) contents() {
	it.entered = false
	it.buffer = appendAddress(append(it.buffer[:0], rowLog), it.log)
	it.prefix = len(it.buffer)
	it.SetBounds(it.buffer, after(it.buffer))
}

func (it *logIter) trimmed() error {
	it.contents()
	it.past = untrimmed()
	valid := it.First()
	if valid && !it.atChapter() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if it.past, err = parseTrimmed(value); err != nil {
			return fmt.Errorf("%w: how far %v is trimmed", err, it.log)
		}
		valid = it.Next()
	}
	if err := it.Error(); err != nil {
		return err
	}
	if floor := it.past.floor; !valid && floor > 1 || valid && it.seq() > floor {
		return fmt.Errorf("%w: nothing says where entry %d of %v is", errDamaged, floor, it.log)
	}
	return nil
}

// enter makes the entries of the chapter whose row it is at those that it moves in.
func (it *logIter) enter() error {
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	in, length := binary.Uvarint(value)
	if length <= 0 || length != len(value) {
		return fmt.Errorf("%w: chapter %d of %v", errDamaged, it.seq(), it.log)
	}
	it.chapter, it.entered = chapter{it.seq(), segment(in)}, true
	it.buffer = appendEntryPrefix(it.buffer[:0], it.chapter.in, it.log)
	it.SetBounds(it.buffer, after(it.buffer))
	return nil
}

// seek moves to the entry of a seq, or to the first one behind it, and reports
// whether there is one.
func (it *logIter) seek(seq uint64) (bool, error) {
	if it.entered && it.chapter.first <= seq && it.seekHere(seq) && it.seq() == seq {
		return true, nil
	}
	it.contents()
	it.behind(seq)
	if !it.SeekLT(it.buffer) || !it.atChapter() {
		return it.enterBehind(0)
	}
	if err := it.enter(); err != nil {
		return false, err
	}
	if it.seekHere(seq) {
		return true, nil
	}
	return it.enterBehind(seq)
}

// seekHere is seek within the chapter that it is in.
func (it *logIter) seekHere(seq uint64) bool {
	it.buffer = appendEntryKey(it.buffer[:0], it.chapter.in, it.log, seq)
	return it.SeekGE(it.buffer)
}

// behind puts the key into the buffer that follows the row of a chapter with that first entry.
func (it *logIter) behind(seq uint64) {
	it.buffer = append(appendChapterKey(it.buffer[:0], it.log, seq), 0)
}

// atChapter reports whether the row that it is at, one of the contents, is a chapter's.
func (it *logIter) atChapter() bool { return len(it.Key()) > it.prefix }

// enterBehind moves to the first entry in the chapters that begin behind a seq.
func (it *logIter) enterBehind(seq uint64) (bool, error) {
	for it.Error() == nil {
		it.contents()
		it.behind(seq)
		if !it.SeekGE(it.buffer) {
			break
		}
		if err := it.enter(); err != nil {
			return false, err
		}
		if it.First() {
			return true, nil
		}
		seq = it.chapter.first
	}
	return false, it.Error()
}

// next moves to the next entry, from one.
func (it *logIter) next() (bool, error) {
	if it.Next() {
		return true, nil
	}
	return it.enterBehind(it.chapter.first)
}

// headOf moves to the last entry of a log, which may be another one than before,
// and returns its seq, 0 when the log is empty. It looks at nothing else.
func (it *logIter) headOf(log envelope.Address) (uint64, error) {
	it.log = log
	it.contents()
	if !it.Last() {
		return 0, it.Error()
	}
	if !it.atChapter() {
		return 0, fmt.Errorf("%w: nothing says where the entries of %v are", errDamaged, log)
	}
	if err := it.enter(); err != nil {
		return 0, err
	}
	if !it.Last() {
		if err := it.Error(); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w: the last chapter of %v is empty", errDamaged, log)
	}
	return it.seq(), nil
}

// seq returns the number in the key.
func (it *logIter) seq() uint64 { return seqOf(it.Key()) }

// standing returns where the log stands when nothing above bound counts.
func (it *logIter) standing(bound uint64) (at standing, err error) {
	at.trimmed = it.past
	if at.head, err = it.headOf(it.log); err != nil {
		return at, err
	}
	if at.head > bound {
		at.head = bound
		if _, err := it.seek(bound); err != nil {
			return at, err
		}
	}
	if at.head == 0 {
		return at, nil
	}
	value, err := it.value(at.head)
	if err != nil {
		return at, err
	}
	if at.total, _, err = cutTotal(value); err != nil {
		return at, fmt.Errorf("%w: entry %d of %v", err, at.head, it.log)
	}
	at.in = it.chapter.in
	return at, nil
}

// value returns the value of the entry that the iterator is at, which has to be
// that of a seq. It is valid until the iterator moves.
func (it *logIter) value(want uint64) ([]byte, error) {
	if !it.Valid() {
		return nil, fmt.Errorf("%w: %v lacks %d", errDamaged, it.log, want)
	}
	if seq := it.seq(); seq != want {
		return nil, fmt.Errorf("%w: %v has %d where %d belongs", errDamaged, it.log, seq, want)
	}
	return it.ValueAndErr()
}

// entry returns the entry that the iterator is at, which has to be that of a seq.
func (it *logIter) entry(want uint64) (envelope.Envelope, error) {
	value, err := it.value(want)
	if err != nil {
		return envelope.Envelope{}, err
	}
	// The value is the iterator's; the envelope keeps a part of the copy.
	_, env, err := parseEntry(slices.Clone(value), want)
	if err != nil {
		err = fmt.Errorf("%w: entry %d of %v", err, want, it.log)
	}
	return env, err
}
