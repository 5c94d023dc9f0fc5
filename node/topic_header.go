package node

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// maxTopicHeaders bounds the headers remembered: 16 MiB of the largest.
const maxTopicHeaders = 256

// topicHeaders remembers headers of topics, so that of thousands who begin to
// follow one only the first has it read. What was read when a log was known to
// go up to some entry will do for whoever begins no further on: a header that
// is newer is among what follows. Its methods are safe for concurrent use.
type topicHeaders struct {
	mu   sync.Mutex
	read *simplelru.LRU[envelope.SessionID, readHeader] // guarded by mu
}

type readHeader struct {
	session.Header        // of Seq 0: there was none
	upto           uint64 // the log was known to go up to here
}

func newTopicHeaders() *topicHeaders {
	read, err := simplelru.NewLRU[envelope.SessionID, readHeader](maxTopicHeaders, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &topicHeaders{read: read}
}

// get returns a topic's header for who begins to follow behind a position, if
// that is remembered.
func (t *topicHeaders) get(id envelope.SessionID, position uint64) (session.Header, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.read.Get(id)
	return h.Header, ok && position <= h.upto
}

// put remembers what has been read after the log was known to go up to upto.
func (t *topicHeaders) put(id envelope.SessionID, h session.Header, upto uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was, ok := t.read.Peek(id); !ok || was.upto <= upto {
		t.read.Add(id, readHeader{h, upto})
	}
}
