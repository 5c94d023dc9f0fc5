package embedded

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, group session.Session) error {
	return s.doRow(ctx, synced, sessionKey(group.ID), func(b *pebble.Batch) error {
		var was session.Session
		there, err := getJSON(b, sessionKey(group.ID), &was)
		if err != nil {
			return err
		}
		if there {
			return session.ErrExists
		}
		return setJSON(b, sessionKey(group.ID), group)
	})
}

// UpdateSession implements session.Store.
func (s *Store) UpdateSession(ctx context.Context, group session.Session) error {
	return s.doRow(ctx, synced, sessionKey(group.ID), func(b *pebble.Batch) error {
		var was session.Session
		there, err := getJSON(b, sessionKey(group.ID), &was)
		if err != nil {
			return err
		}
		if !there || group.Version != was.Version+1 {
			return session.ErrChanged
		}
		return setJSON(b, sessionKey(group.ID), group)
	})
}

// Session implements session.Store.
func (s *Store) Session(ctx context.Context, id envelope.SessionID) (session.Session, error) {
	var group session.Session
	return group, s.find(ctx, sessionKey(id), &group)
}

// List implements session.Store.
func (s *Store) List(ctx context.Context, behind envelope.SessionID, limit int) ([]session.Session, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	lower := append(sessionKey(behind), endOfID) // no id goes on with that
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after([]byte{rowSession})})
	if err != nil {
		return nil, readError(err)
	}
	var some []session.Session
	for valid := it.First(); valid && len(some) < limit; valid = it.Next() {
		var group session.Session
		value, err := it.ValueAndErr()
		if err == nil {
			err = json.Unmarshal(value, &group)
		}
		if err != nil {
			return nil, readError(errors.Join(fmt.Errorf("%w: row %q: %w", errDamaged, it.Key(), err), it.Close()))
		}
		some = append(some, group)
	}
	if err := it.Close(); err != nil { // also what ended the loop
		return nil, readError(err)
	}
	return some, nil
}

// find reads a row of package session.
func (s *Store) find(ctx context.Context, key []byte, v any) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	there, err := getJSON(s.db, key, v)
	if err == nil && !there {
		err = session.ErrNotFound
	}
	// The bound comes after the row, as in page. What was read may be the answer
	// to somebody who asks for a change and finds it made.
	if w := s.writing.Load(); w != nil && w.rows[string(key)] {
		return cmp.Or(s.await(ctx, w), err)
	}
	return err
}

// writing are the rows that are being written.
type writing struct {
	rows map[string]bool
	done chan struct{} // closed when they are durable, or nobody is to wait any longer
}

// await waits until rows are durable.
func (s *Store) await(ctx context.Context, w *writing) error {
	select {
	case <-w.done:
	case <-ctx.Done():
		return envelope.BusyError(0, "gave up waiting for the store", ctx.Err())
	}
	if s.writing.Load() == w {
		return envelope.BusyError(retryStalledMS, "the store does not answer at present", s.Err())
	}
	return nil
}

// PutMember implements session.Store.
func (s *Store) PutMember(ctx context.Context, m session.Member) error {
	return s.doRow(ctx, synced, memberKey(m.Session, m.Node), func(b *pebble.Batch) error {
		var was session.Member // of version 0 when there is none
		if _, err := getJSON(b, memberKey(m.Session, m.Node), &was); err != nil {
			return err
		}
		if m.Version != was.Version+1 {
			return session.ErrChanged
		}
		if err := b.Set(membershipKey(m), nil, nil); err != nil {
			return err
		}
		return setJSON(b, memberKey(m.Session, m.Node), m)
	})
}

// Member implements session.Store.
func (s *Store) Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (session.Member, error) {
	var m session.Member
	return m, s.find(ctx, memberKey(id, node), &m)
}

// Members implements session.Store.
func (s *Store) Members(ctx context.Context, id envelope.SessionID) ([]session.Member, error) {
	return scanJSON[session.Member](ctx, s, memberPrefix(id))
}

// Memberships implements session.Store.
func (s *Store) Memberships(ctx context.Context, device envelope.NodeID) ([]session.Member, error) {
	var all []session.Member
	err := s.scan(ctx, membershipPrefix(device), func(rest, _ []byte) error {
		node := envelope.NodeID(rest)
		id, _, alias := node.Alias()
		if !alias {
			id, node = envelope.SessionID(rest), device
		}
		m, err := s.Member(ctx, id, node)
		all = append(all, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
