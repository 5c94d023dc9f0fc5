package embedded

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// segment is a part of the entries in time. Those that are appended to whatever
// log while it is the last one make up one range of keys, which comes behind
// those of all segments before: so the database has only that range to sort,
// however much lies in the others. Segments are numbered from 1; 0 is what a
// store of an older format held, see upgrade. Nothing needs a list of them: a
// log's chapters say where its entries are.
type segment uint32

// limits returns the range of a segment's keys.
func (in segment) limits() (lower, upper []byte) {
	return appendSegment(nil, in), appendSegment(nil, in+1)
}

// segmenter says which segment is the last. It belongs to the committing goroutine.
type segmenter struct {
	db    *pebble.DB
	last  segment
	min   int64 // bytes that a segment takes at least
	grown int64 // bytes in the last
	limit int64 // when it is full
}

// segmentShare keeps the chapters of a log few: unless that is less than the
// minimum, a segment takes this part of all entries on disk.
const segmentShare = 8

// newSegmenter goes on with the last segment that the database has an entry in.
func newSegmenter(db *pebble.DB, min int64) (s segmenter, err error) {
	s = segmenter{db: db, min: min, last: 1}
	all := []byte{rowSegment}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: all, UpperBound: after(all)})
	if err != nil {
		return s, err
	}
	if it.Last() {
		key := it.Key()
		if len(key) < 5 {
			_ = it.Close()
			return s, fmt.Errorf("%w: key %q", errDamaged, key)
		}
		s.last = segment(binary.BigEndian.Uint32(key[1:]))
	}
	if err := it.Close(); err != nil { // also what kept it from being found
		return s, err
	}
	s.grown = s.size(s.last.limits())
	s.setLimit()
	return s, nil
}

// grow notes so many bytes of an entry, and begins another segment when this
// one is full.
func (s *segmenter) grow(bytes int) {
	if s.grown += int64(bytes); s.grown < s.limit {
		return
	}
	s.last++
	s.grown = 0
	s.setLimit()
}

func (s *segmenter) setLimit() {
	older := s.size([]byte{rowEntry}, []byte{rowEntry + 1}) // segment 0
	s.limit = max(s.min, (older+s.size([]byte{rowSegment}, []byte{rowSegment + 1}))/segmentShare)
}

// size returns about how many bytes a range of keys takes on disk. What cannot
// be read is left out, which makes a segment a little larger or smaller.
func (s *segmenter) size(lower, upper []byte) int64 {
	n, err := s.db.EstimateDiskUsage(lower, upper)
	if err != nil { // the bounds are in the wrong order: the last number is used up
		return 0
	}
	return int64(n)
}
