package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// How a topic's log is kept short. What its rules say is the least that is
// there for who comes back; between two looks there may be more.
const (
	// topicDedupe is how long a repetition of what has been trimmed is recognised
	// at least. Much is said in a topic, and nobody repeats it a day later.
	topicDedupe = 10 * time.Minute
	// A log is looked after when half as many entries have come as it is to keep,
	// but after so many at least, or so many when only their age counts.
	topicTidyLeast = 32
	topicTidyAged  = 1024
)

// ofTopic returns what is kept of a topic: as much as its rules say, and no more
// than of any session.
func (k *keeper) ofTopic(ctx context.Context, log envelope.Address, keep inbox.Retention) (inbox.Retention, error) {
	rules, err := k.n.topics.Get(ctx, envelope.SessionID(log.ID))
	if err != nil {
		return inbox.Retention{}, err
	}
	limits := keep.Keep[envelope.KindSession]
	limits.Entries = tighter(limits.Entries, uint64(rules.KeepCount))
	limits.Age = tighter(limits.Age, time.Duration(rules.KeepSeconds)*time.Second)
	if !rules.Keeps() {
		limits.Entries = 1 // what there is are notes about it, or from before
	}
	return inbox.Retention{
		Keep:   map[envelope.Kind]inbox.Limits{envelope.KindSession: limits},
		Dedupe: max(limits.Age, topicDedupe),
	}, nil
}

// tighter returns the lower of two limits, of which 0 is none.
func tighter[T uint64 | time.Duration](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// appended asks to look after the log of a topic when enough has been said
// there. It never blocks.
func (k *keeper) appended(log envelope.Address, seq uint64) {
	if !isTopic(log) {
		return
	}
	if rules, _ := k.n.topics.Peek(envelope.SessionID(log.ID)); seq%tidyEvery(rules) == 0 {
		k.full(log)
	}
}

func tidyEvery(rules session.TopicRules) uint64 {
	if rules.KeepCount == 0 {
		return topicTidyAged
	}
	return max(uint64(rules.KeepCount)/2, topicTidyLeast)
}
