package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
)

// faultyStore is one server's way to the store that all share.
type faultyStore struct {
	*embedded.Store
	dead atomic.Bool

	mu     sync.Mutex
	before func(op string) error                       // guarded by mu; an error means: not done
	after  func(op string) error                       // guarded by mu; an error means: done, and the answer lost
	append func(log envelope.Address, id string) error // guarded by mu; refuses an Append
	delay  func(op string) time.Duration               // guarded by mu
	// guarded by mu; takes an Append over by answering true: it calls done then
	take func(log envelope.Address, id string, done func(uint64, error)) bool
	// guarded by mu; before an event is acknowledged that was put into the outbox
	hookDelay time.Duration
	// guarded by mu; refuses to tell the memberships of a device
	memberships func(node envelope.NodeID) error
}

var errAway = envelope.BusyError(100, "the store is away", nil)

// kill makes the store fail in everything: its server is dead.
func (s *faultyStore) kill() { s.dead.Store(true) }

// set changes the faults.
func (s *faultyStore) set(change func(s *faultyStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *faultyStore) do(ctx context.Context, op string, f func() error) error {
	s.mu.Lock()
	before, after, delay := s.before, s.after, s.delay
	s.mu.Unlock()
	if delay != nil {
		select {
		case <-time.After(delay(op)):
		case <-ctx.Done():
			return envelope.BusyError(100, "the store did not answer", context.Cause(ctx))
		}
	}
	if s.dead.Load() {
		return errAway
	}
	if before != nil {
		if err := before(op); err != nil {
			return err
		}
	}
	if err := f(); err != nil {
		return err
	}
	if delay != nil { // the answer takes its time as well
		time.Sleep(delay(op))
	}
	if s.dead.Load() {
		return errAway
	}
	if after != nil {
		return after(op)
	}
	return nil
}

func (s *faultyStore) Append(log envelope.Address, env *envelope.Envelope, done func(uint64, error)) {
	s.mu.Lock()
	refuse, take, slow := s.append, s.take, s.hookDelay
	s.mu.Unlock()
	if s.dead.Load() {
		done(0, errAway)
		return
	}
	if refuse != nil {
		if err := refuse(log, env.ID); err != nil {
			done(0, err)
			return
		}
	}
	if take != nil && take(log, env.ID, done) {
		return
	}
	s.Store.Append(log, env, func(seq uint64, err error) {
		if s.dead.Load() {
			seq, err = 0, errAway
		}
		if slow > 0 && log.Kind == envelope.KindHook {
			time.AfterFunc(slow, func() { done(seq, err) })
			return
		}
		done(seq, err)
	})
}

func (s *faultyStore) Read(ctx context.Context, log envelope.Address, after uint64, limit, maxBytes int) (page []envelope.Envelope, err error) {
	err = s.do(ctx, "read", func() error { page, err = s.Store.Read(ctx, log, after, limit, maxBytes); return err })
	return page, err
}

func (s *faultyStore) ReadMany(ctx context.Context, after map[envelope.Address]uint64, limit, maxBytes int) (pages map[envelope.Address][]envelope.Envelope, err error) {
	err = s.do(ctx, "read", func() error { pages, err = s.Store.ReadMany(ctx, after, limit, maxBytes); return err })
	return pages, err
}

func (s *faultyStore) ReadEach(ctx context.Context, log envelope.Address, seqs []uint64, maxBytes int) (entries []envelope.Envelope, err error) {
	err = s.do(ctx, "read", func() error { entries, err = s.Store.ReadEach(ctx, log, seqs, maxBytes); return err })
	return entries, err
}

func (s *faultyStore) Revisions(ctx context.Context, of map[envelope.Address][]inbox.Range) (found map[envelope.Address][]inbox.Revision, err error) {
	err = s.do(ctx, "revisions", func() error { found, err = s.Store.Revisions(ctx, of); return err })
	return found, err
}

func (s *faultyStore) Heads(ctx context.Context, from map[envelope.Address]uint64) (heads map[envelope.Address]uint64, err error) {
	err = s.do(ctx, "heads", func() error { heads, err = s.Store.Heads(ctx, from); return err })
	return heads, err
}

func (s *faultyStore) Cursors(ctx context.Context, node envelope.NodeID) (cursors []inbox.Cursor, err error) {
	err = s.do(ctx, "cursors", func() error { cursors, err = s.Store.Cursors(ctx, node); return err })
	return cursors, err
}

func (s *faultyStore) Advance(ctx context.Context, cursors []inbox.Cursor) error {
	return s.do(ctx, "advance", func() error { return s.Store.Advance(ctx, cursors) })
}

func (s *faultyStore) Claim(ctx context.Context, r graph.Record, prev string) error {
	return s.do(ctx, "claim", func() error { return s.Store.Claim(ctx, r, prev) })
}

func (s *faultyStore) Renew(ctx context.Context, r graph.Record) error {
	return s.do(ctx, "renew", func() error { return s.Store.Renew(ctx, r) })
}

func (s *faultyStore) Release(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.do(ctx, "release", func() error { return s.Store.Release(ctx, id, boot) })
}

func (s *faultyStore) Servers(ctx context.Context) (records []graph.Record, err error) {
	err = s.do(ctx, "servers", func() error { records, err = s.Store.Servers(ctx); return err })
	return records, err
}

func (s *faultyStore) PutEdges(ctx context.Context, edges []graph.Edge) error {
	return s.do(ctx, "put edges", func() error { return s.Store.PutEdges(ctx, edges) })
}

func (s *faultyStore) DeleteEdges(ctx context.Context, edges []graph.Edge) error {
	return s.do(ctx, "delete edges", func() error { return s.Store.DeleteEdges(ctx, edges) })
}

func (s *faultyStore) Edges(ctx context.Context, addrs ...envelope.Address) (edges []graph.Edge, err error) {
	err = s.do(ctx, "edges", func() error { edges, err = s.Store.Edges(ctx, addrs...); return err })
	return edges, err
}

func (s *faultyStore) PutSightings(ctx context.Context, sightings []graph.Sighting) error {
	return s.do(ctx, "put sightings", func() error { return s.Store.PutSightings(ctx, sightings) })
}

func (s *faultyStore) Sightings(ctx context.Context, addrs ...envelope.Address) (sightings []graph.Sighting, err error) {
	err = s.do(ctx, "sightings", func() error { sightings, err = s.Store.Sightings(ctx, addrs...); return err })
	return sightings, err
}

func (s *faultyStore) EdgesOf(ctx context.Context, id envelope.ServerID, boot string) (edges []graph.Edge, err error) {
	err = s.do(ctx, "edges of", func() error { edges, err = s.Store.EdgesOf(ctx, id, boot); return err })
	return edges, err
}

func (s *faultyStore) DropEdges(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.do(ctx, "drop edges", func() error { return s.Store.DropEdges(ctx, id, boot) })
}

func (s *faultyStore) Create(ctx context.Context, ses session.Session) error {
	return s.do(ctx, "create", func() error { return s.Store.Create(ctx, ses) })
}

func (s *faultyStore) Session(ctx context.Context, id envelope.SessionID) (ses session.Session, err error) {
	err = s.do(ctx, "session", func() error { ses, err = s.Store.Session(ctx, id); return err })
	return ses, err
}

func (s *faultyStore) List(ctx context.Context, after envelope.SessionID, limit int) (some []session.Session, err error) {
	err = s.do(ctx, "list", func() error { some, err = s.Store.List(ctx, after, limit); return err })
	return some, err
}

func (s *faultyStore) UpdateSession(ctx context.Context, of session.Session) error {
	return s.do(ctx, "update session", func() error { return s.Store.UpdateSession(ctx, of) })
}

func (s *faultyStore) PutMember(ctx context.Context, m session.Member) error {
	return s.do(ctx, "put member", func() error { return s.Store.PutMember(ctx, m) })
}

func (s *faultyStore) Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (m session.Member, err error) {
	err = s.do(ctx, "member", func() error { m, err = s.Store.Member(ctx, id, node); return err })
	return m, err
}

func (s *faultyStore) PutHeader(ctx context.Context, h session.Header) error {
	return s.do(ctx, "put header", func() error { return s.Store.PutHeader(ctx, h) })
}

func (s *faultyStore) Headers(ctx context.Context, ids []envelope.SessionID) (headers []session.Header, err error) {
	err = s.do(ctx, "headers", func() error { headers, err = s.Store.Headers(ctx, ids); return err })
	return headers, err
}

func (s *faultyStore) Members(ctx context.Context, id envelope.SessionID) (ms []session.Member, err error) {
	err = s.do(ctx, "members", func() error { ms, err = s.Store.Members(ctx, id); return err })
	return ms, err
}

func (s *faultyStore) Memberships(ctx context.Context, node envelope.NodeID) (ms []session.Member, err error) {
	s.mu.Lock()
	refuse := s.memberships
	s.mu.Unlock()
	if refuse != nil {
		if err := refuse(node); err != nil {
			return nil, err
		}
	}
	err = s.do(ctx, "memberships", func() error { ms, err = s.Store.Memberships(ctx, node); return err })
	return ms, err
}

func (s *faultyStore) PutRevocation(ctx context.Context, r auth.Revocation) error {
	return s.do(ctx, "revocations", func() error { return s.Store.PutRevocation(ctx, r) })
}

func (s *faultyStore) Revocations(ctx context.Context, known uint64) (all []auth.Revocation, version uint64, err error) {
	err = s.do(ctx, "revocations", func() error { all, version, err = s.Store.Revocations(ctx, known); return err })
	return all, version, err
}
