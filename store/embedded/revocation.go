package embedded

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/auth"
)

// revoked is the row that counts the changes to revocations.
const revoked = "revoked"

func revocationKey(r *auth.Revocation) []byte { return append([]byte{rowRevocation}, r.Name()...) }

// PutRevocation implements auth.RevocationStore.
func (s *Store) PutRevocation(ctx context.Context, r auth.Revocation) error {
	return s.do(ctx, synced, func(b *pebble.Batch) error {
		var was auth.Revocation
		if _, err := getJSON(b, revocationKey(&r), &was); err != nil {
			return err
		}
		row := r // the update may run again
		row.Cover(was)
		if err := setJSON(b, revocationKey(&row), row); err != nil {
			return err
		}
		var version uint64
		if _, err := getJSON(b, metaKey(revoked), &version); err != nil {
			return err
		}
		return setJSON(b, metaKey(revoked), version+1)
	})
}

// Revocations implements auth.RevocationStore.
func (s *Store) Revocations(ctx context.Context, known uint64) (all []auth.Revocation, version uint64, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	if _, err := getJSON(s.db, metaKey(revoked), &version); err != nil {
		return nil, 0, err
	}
	if version++; version == known { // 0 is what nobody knows
		return nil, version, nil
	}
	all, err = scanJSON[auth.Revocation](ctx, s, []byte{rowRevocation})
	return all, version, err
}

// DropRevocations implements auth.RevocationStore.
func (s *Store) DropRevocations(ctx context.Context, before int64) error {
	all, err := scanJSON[auth.Revocation](ctx, s, []byte{rowRevocation})
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Expires >= before {
			continue
		}
		err := s.do(ctx, lazy, func(b *pebble.Batch) error {
			var now auth.Revocation // it may have been written again
			there, err := getJSON(b, revocationKey(&r), &now)
			if err != nil || !there || now.Expires >= before {
				return err
			}
			return b.Delete(revocationKey(&r), nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
