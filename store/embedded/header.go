package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// PutHeader implements session.Store.
func (s *Store) PutHeader(ctx context.Context, h session.Header) error {
	h.Payload, h.Next = slices.Clone(h.Payload), slices.Clone(h.Next) // the update may outlive the call
	return s.doRow(ctx, synced, headerKey(h.Session), func(b *pebble.Batch) error {
		var was session.Header // of version 0 when there is none
		if _, err := getJSON(b, headerKey(h.Session), &was); err != nil {
			return err
		}
		if h.Version != was.Version+1 {
			return session.ErrChanged
		}
		return setJSON(b, headerKey(h.Session), h)
	})
}

// Headers implements session.Store.
func (s *Store) Headers(ctx context.Context, ids []envelope.SessionID) ([]session.Header, error) {
	var all []session.Header
	for _, id := range ids {
		var h session.Header
		err := s.find(ctx, headerKey(id), &h)
		switch {
		case err == nil:
			all = append(all, h)
		case !errors.Is(err, session.ErrNotFound):
			return nil, err
		}
	}
	return all, nil
}
