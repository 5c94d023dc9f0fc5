package session

import (
	"cmp"
	"context"
	"slices"
)

// First returns the seq of the first entry that is seen in a stay.
func (s Span) First() uint64 {
	if s.Since != 0 {
		return s.Since
	}
	return s.From
}

// Sees reports whether the entry with that seq is seen in a stay.
func (s Span) Sees(seq uint64) bool { return seq >= s.First() && (s.Until == 0 || seq <= s.Until) }

// since returns where what a device sees begins that has joined with the entry
// seq: behind the session's header if late joiners see what has followed it,
// and 0 for with that entry. A header that has been set since the device
// joined stands for all that was before it.
func (s *Sessions) since(ctx context.Context, ses Session, seq uint64) (uint64, error) {
	if !ses.FromHeader {
		return 0, nil
	}
	h, err := s.header(ctx, ses.ID)
	if err != nil || h.Seq == 0 || h.Seq+1 >= seq {
		return 0, err
	}
	return h.Seq + 1, nil
}

// notified returns from which joining entry on a member is told, as it
// happens, that another one joins or leaves: from that of the one who is, of
// so many as the settings say, the last but that many. 0 is for all.
func (s *Sessions) notified(ctx context.Context, ses Session, who Member) (uint64, error) {
	if ses.NotifyLast == 0 {
		return 0, nil
	}
	members, err := s.store.Members(ctx, ses.ID)
	if err != nil {
		return 0, err
	}
	var joined []uint64
	for _, m := range members {
		if m.Node != who.Node && (m.in() || m.State == Leaving) && len(m.Spans) > 0 {
			joined = append(joined, m.Spans[len(m.Spans)-1].From)
		}
	}
	if len(joined) <= ses.NotifyLast {
		return 0, nil
	}
	slices.SortFunc(joined, func(a, b uint64) int { return cmp.Compare(b, a) })
	return joined[ses.NotifyLast-1], nil
}
