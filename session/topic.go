package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/allsparkrt/allspark/envelope"
)

// Topics knows what has been decided about topics. Most have no row in the
// store: they come to be by being followed, and are no more when nobody does.
// Its methods are safe for concurrent use.
//
// What was read is trusted for a moment, or until [Topics.Forget]. Then one
// caller reads it anew while the others go on with it, and all do while the
// store is away: a topic that nothing is stored of needs no store.
type Topics struct {
	store Store

	mu     sync.Mutex
	cached *simplelru.LRU[envelope.SessionID, *knownTopic] // guarded by mu
	news   uint64                                          // guarded by mu; rises when one is forgotten
}

type knownTopic struct {
	TopicRules
	until time.Time // when it is to be read anew
}

// TopicRules are what has been decided about a topic; the zero ones are those of
// one without a row.
type TopicRules struct {
	Owner envelope.NodeID
	Settings
}

// Keeps reports whether messages are kept for who comes back.
func (s *Settings) Keeps() bool { return s.KeepCount > 0 || s.KeepSeconds > 0 }

// MayPublish reports whether somebody who follows the topic may send to it.
func (t *TopicRules) MayPublish(who envelope.Principal) bool {
	return !t.OwnerOnly || who.App || t.Owner == who.Node
}

// NewTopics returns Topics over a store.
func NewTopics(store Store) *Topics {
	return &Topics{store: store, cached: newLRU[envelope.SessionID, *knownTopic](maxRulings)}
}

// Get returns what has been decided about a topic. The error is an
// [*envelope.Error], and none as long as something is remembered.
func (t *Topics) Get(ctx context.Context, id envelope.SessionID) (TopicRules, error) {
	now := time.Now()
	t.mu.Lock()
	known, ok := t.cached.Get(id)
	if ok && now.Before(known.until) {
		defer t.mu.Unlock()
		return known.TopicRules, nil
	}
	if ok {
		known.until = now.Add(trust) // for the others
	}
	news := t.news
	t.mu.Unlock()

	row, err := t.store.Session(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		row = Session{}
	case err != nil && ok:
		return known.TopicRules, nil
	case err != nil:
		return TopicRules{}, refuse(err)
	}
	is := TopicRules{Owner: row.Owner, Settings: row.Settings}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.news == news { // else what was read may be older than what was forgotten for
		id = envelope.SessionID(strings.Clone(string(id))) // not the message's: see envelope.Address.Clone
		t.cached.Add(id, &knownTopic{TopicRules: is, until: time.Now().Add(trust)})
	}
	return is, nil
}

// Peek is Get of what is remembered, and false when nothing is.
func (t *Topics) Peek(id envelope.SessionID) (TopicRules, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.cached.Peek(id); ok {
		return known.TopicRules, true
	}
	return TopicRules{}, false
}

// Forget drops what is remembered of a topic, because it has changed.
func (t *Topics) Forget(id envelope.SessionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cached.Remove(id)
	t.news++
}
