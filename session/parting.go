package session

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// AwaitParting waits, before a device joins, if it was in last by its other
// name: until no server can take it to be in by that any more because it has not
// heard yet that it has left. What the device sends once it has joined would go
// by that name there.
func (s *Sessions) AwaitParting(ctx context.Context, id envelope.SessionID, device envelope.NodeID, as As) error {
	if !envelope.ValidID(string(id)) {
		return errNoID
	}
	m, err := s.Stays(ctx, id, device)
	last := len(m.Spans) - 1
	if err != nil || m.in() || last < 0 || m.Spans[last].ByAlias == as.Anonymous {
		return err
	}
	select {
	case <-time.After(trust):
		return nil
	case <-ctx.Done():
		return envelope.BusyError(500, "gave up waiting", context.Cause(ctx))
	}
}
