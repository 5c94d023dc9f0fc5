package embedded

import (
	"errors"
	"hash/maphash"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
)

// walkStep is how many stubs a walk passes with one iterator, which keeps the
// database from letting go of files and memory.
const walkStep = 4096

// idHash is the hash of an id for [known]: of the key of its stub.
func (s *Store) idHash(log envelope.Address, src envelope.NodeID, id string) uint64 {
	var key [192]byte
	return maphash.Bytes(s.seed, appendStubKey(key[:0], log, src, id))
}

// walkStubs puts the ids of all stubs into a filter of at most max bytes, for
// r. Each stub there is when it starts is found or forgotten meanwhile.
func (s *Store) walkStubs(r *recollection, max int) {
	found := &filter{max: max}
	next := []byte{rowStub}
	for next != nil {
		select {
		case <-s.closing:
			return
		default:
		}
		var err error
		if next, err = s.walkOn(next, found); err != nil {
			if !errors.Is(err, errNoRoom) {
				s.log.Warn("cannot read which messages there are; each new one is looked up", "err", err)
			}
			r.failed.Store(true)
			return
		}
	}
	r.walked.Store(found)
}

var errNoRoom = errors.New("embedded: more ids than there is room for")

// walkOn makes one step of a walk and returns where the next one starts, nil
// at the end.
func (s *Store) walkOn(from []byte, found *filter) (next []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: after([]byte{rowStub})})
	if err != nil {
		return nil, err
	}
	valid := it.First()
	for n := 0; valid && n < walkStep; n++ {
		if !found.add(maphash.Bytes(s.seed, it.Key())) {
			return nil, errors.Join(errNoRoom, it.Close())
		}
		valid = it.Next()
	}
	if valid {
		next = append([]byte(nil), it.Key()...)
	}
	return next, it.Close()
}
