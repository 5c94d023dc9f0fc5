package session

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Ended returns the guests in a session whose identities had ended at that time.
func (s *Sessions) Ended(ctx context.Context, id envelope.SessionID, at time.Time) ([]envelope.Principal, error) {
	members, err := s.store.Members(ctx, id)
	if err != nil {
		return nil, refuse(err)
	}
	var ended []envelope.Principal
	for _, m := range members {
		if until, guest := envelope.GuestEnds(string(m.Device)); guest && m.seated() && !until.After(at) {
			ended = append(ended, envelope.Principal{Node: m.Device, Client: m.Client, Guest: true})
		}
	}
	return ended, nil
}
