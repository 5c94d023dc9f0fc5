package node

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/few"
)

// watch is one user that somebody here follows. There may be several for each
// connection, and most have few readers, so it is small. Its fields are guarded by
// watchers.mu, but for whose it is.
type watch struct {
	readers few.Set[*conn, reader]
	state   envelope.Presence // as told; whose it is is static
	looked  uint64            // the number of the look that the state is of; 0: none yet
	missing time.Duration     // since when it is gone although the state is online; 0: it is not
	due     urgency           // it is in the line of that urgency
}

// Key implements [few.Keyed].
func (w *watch) Key() envelope.ClientID { return w.state.Client }

// watched are the users that one connection follows.
type watched = few.Set[envelope.ClientID, *watch]

// reader is a connection that follows a user.
type reader struct {
	c   *conn
	was told
}

// Key implements [few.Keyed].
func (r reader) Key() *conn { return r.c }

// told is what a connection was told last of a user.
type told uint8

const (
	untold told = iota // the answer to its subscription is to come
	toldOffline
	toldOnline
)

func toldOf(p envelope.Presence) told {
	if p.Online {
		return toldOnline
	}
	return toldOffline
}

// urgency is how a user is looked at.
type urgency uint8

const (
	notDue   urgency = iota // it is not in line
	lookSoon                // whoever is gone may be back in a moment
	lookNow                 // who is gone is told at once
	urgencies
)

// lookLine are the users to be looked at next. The zero lookLine is empty.
type lookLine struct {
	of [urgencies][]*watch // the oldest first; a watch is in the one that its due says, and left behind in others
}

// add puts a user in line, unless it stands there with the same urgency or a higher one.
func (l *lookLine) add(at *watch, how urgency) {
	if how > at.due {
		at.due = how
		l.of[how] = append(l.of[how], at)
	}
}

// take takes some out, alike in urgency: the most urgent there are, lookBatch at most.
func (l *lookLine) take() (some []*watch, how urgency) {
	for how = lookNow; how > notDue; how-- {
		line := l.of[how]
		for len(line) > 0 && len(some) < lookBatch {
			if at := line[0]; at.due == how {
				at.due = notDue
				some = append(some, at)
			}
			line[0], line = nil, line[1:]
		}
		if l.of[how] = line; len(line) == 0 {
			l.of[how] = nil // of a herd its memory would stay
		}
		if len(some) > 0 {
			break
		}
	}
	return some, how
}
