// Package storetest holds the promises of [inbox.Store], [graph.Store],
// [session.Store] and [auth.RevocationStore] as tests. Every store runs them with one call of [Run]; what
// a caller may rely on is what is tested here.
package storetest

import (
	"testing"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

// Store is everything that one database keeps.
type Store interface {
	inbox.Store
	graph.Store
	session.Store
	push.Store
	auth.RevocationStore
	// Close answers every Append that waits, then lets go of the database. No
	// other call may run meanwhile. A later Append is refused with Busy.
	Close() error
}

// Open returns a store over a new, empty database, with the quotas of
// [Quotas]. The suite closes it; what else there is to remove is for t.Cleanup.
type Open func(t testing.TB) Store

// Quotas are those that the stores under test must have.
func Quotas() inbox.Quotas {
	return inbox.Quotas{envelope.KindClient: {Entries: quotaEntries, Bytes: quotaBytes}}
}

// What may stand in the log of a user: that many small messages, or fewer
// large ones.
const (
	quotaEntries = 12
	quotaBytes   = 5000
)

// Options say what else a store can do. The zero value is the least: one
// opener, and nothing known of what survives it.
type Options struct {
	// Reopen closes s and opens its database anew.
	Reopen func(t testing.TB, s Store) Store
	// Second opens the database of s once more, as another server would. s
	// stays open; the suite closes both.
	Second func(t testing.TB, s Store) Store
	// Seed repeats a random test; 0 draws a new one, which the test logs.
	Seed uint64
}

// suite is what one test has in hand.
type suite struct {
	*testing.T
	Options
	store Store
	ended map[Store]bool // closed by reopen
}

// Run holds the promises of a store. It opens a new database for each of its
// tests and keeps each of them small: no collection grows beyond some 300 rows.
func Run(t *testing.T, open Open, o Options) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"log/numbers", numbers},
		{"log/numbers are per address", addresses},
		{"log/appends keep their order", order},
		{"log/a repeated id is stored once", dedupe},
		{"log/a repeated id in flight is stored once", dedupeInFlight},
		{"log/no id no dedupe", noID},
		{"log/the id belongs to log and sender", idScope},
		{"log/fields survive", fields},
		{"log/bodies survive byte for byte", bodies},
		{"log/pages by limit", pagesByLimit},
		{"log/pages by bytes", pagesByBytes},
		{"log/pages of several logs", pagesOfMany},
		{"log/a page stays as it was read", pageIsOwned},
		{"log/entries one by one", eachEntry},
		{"log/revisions", revisions},
		{"log/heads", heads},
		{"log/many senders to one log", oneLog},
		{"log/many senders to many logs", manyLogs},
		{"log/many senders repeat one id", repeatRace},
		{"log/readers see prefixes only", prefixes},
		{"log/find", find},
		{"log/pages of logs", logsByPages},
		{"log/close answers what waits", closeAnswers},
		{"log/epoch", epoch},
		{"retention/extent", extent},
		{"retention/trim", trim},
		{"retention/the head stays", trimHead},
		{"retention/a trimmed id is recognised", trimmedIDs},
		{"retention/forget", forget},
		{"retention/a forgotten id belongs to its next message", forgottenID},
		{"retention/trim beside appends and reads", trimBeside},
		{"quota/entries", quotaOfEntries},
		{"quota/bytes", quotaOfBytes},
		{"quota/decided in order", quotaInOrder},
		{"quota/only its kind", quotaOfKind},
		{"quota/not who comes and goes", quotaOfNotes},
		{"cursor/of a log that no client can name", cursorsOfHooks},
		{"cursor/forward only", cursorForward},
		{"cursor/one per device and log", cursorScope},
		{"cursor/many at once", cursorMany},
		{"cursor/many devices at once", cursorRace},
		{"cursor/readers of a log", readers},
		{"graph/claim", claim},
		{"graph/claim has one winner", claimRace},
		{"graph/takeover", takeover},
		{"graph/renew and release", renewRelease},
		{"graph/record fields survive", recordFields},
		{"graph/edges", edges},
		{"graph/delete is conditional", deleteEdges},
		{"graph/drop edges of a boot", dropEdges},
		{"graph/an edge given up does not come back", givenUp},
		{"graph/sightings forward only", sightings},
		{"session/create once", createSession},
		{"session/create has one winner", createRace},
		{"session/list", listSessions},
		{"session/versions", sessionVersions},
		{"session/a session's version has one winner", sessionRace},
		{"session/member versions", memberVersions},
		{"session/a version has one winner", memberRace},
		{"session/members and memberships", memberships},
		{"session/header versions", headerVersions},
		{"session/a header's version has one winner", headerRace},
		{"revocations/cover one another", revocationsCover},
		{"revocations/many at once", revocationRace},
		{"push/a token moves to who registered it last", pushTokens},
		{"push/a dead token registered again stays", pushTokenRace},
		{"push/tokens of a revoked credential", pushRevokedTokens},
		{"push/dead letters", pushFailed},
		{"push/mutes", pushMutes},
		{"push/jobs", pushJobs},
		{"push/a job has one winner", pushJobRace},
		{"push/a job touched while it is done", touchRace},
		{"random against a model", random},
		{"reopen/everything durable is there", reopened},
		{"reopen/what was trimmed", reopenedTrimmed},
		{"second/both append to one log", secondAppends},
		{"second/each sees what the other wrote", secondSees},
		{"second/each sees what the other trimmed", secondTrims},
		{"second/a version has one winner", secondRace},
		{"second/a session's version has one winner", secondSessionRace},
		{"second/a header's version has one winner", secondHeaderRace},
		{"second/a job has one winner", secondPushJobRace},
		{"second/each sees what the other revoked", secondRevokes},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, Options: o, ended: map[Store]bool{}}
			s.store = s.keep(open(t))
			test.run(s)
		})
	}
}

// keep closes store when the test ends, unless reopen has.
func (s *suite) keep(store Store) Store {
	s.Cleanup(func() {
		if !s.ended[store] {
			s.noError(store.Close())
		}
	})
	return store
}

// reopen replaces s.store by the same database, opened anew.
func (s *suite) reopen() {
	old := s.store
	s.ended[old] = true
	s.store = s.keep(s.Reopen(s.T, old))
}

// second opens the database once more, or skips the test.
func (s *suite) second() Store {
	if s.Second == nil {
		s.Skip("this store has one opener")
	}
	return s.keep(s.Second(s.T, s.store))
}

func (s *suite) noError(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}
