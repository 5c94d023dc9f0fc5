package embedded

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// ReadMany implements inbox.Store. There is no way to another machine to save.
func (s *Store) ReadMany(ctx context.Context, after map[envelope.Address]uint64, limit, maxBytes int) (map[envelope.Address][]envelope.Envelope, error) {
	pages := make(map[envelope.Address][]envelope.Envelope, len(after))
	for log, seq := range after {
		if maxBytes <= 0 {
			break
		}
		page, err := s.Read(ctx, log, seq, limit, maxBytes)
		if err != nil {
			return nil, err
		}
		for i := range page {
			maxBytes -= len(page[i].Body)
		}
		if len(page) > 0 {
			pages[log] = page
		}
	}
	return pages, nil
}
