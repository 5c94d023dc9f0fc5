package session

import (
	"cmp"
	"context"
	"slices"
	"time"
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

// begin returns the stay that begins with the joining entry seq. Late joiners
// may see what has followed the header; one that has been set since the device
// joined stands for all that was before it.
func (s *Sessions) begin(ctx context.Context, ses Session, seq uint64) (Span, error) {
	h, err := s.header(ctx, ses.ID) // after the entry: none below it is missed
	stay := Span{From: seq, Header: h.Seq}
	if ses.FromHeader && h.Seq > 0 && h.Seq+1 < seq {
		stay.Since = h.Seq + 1
	}
	return stay, err
}

// In a session of more than so many members, who joined last is believed for
// as long as memberships are: reading them all for each who joins would cost the
// square of their number.
const (
	manyMembers = 1000
	maxLatest   = 10_000 // sessions remembered
)

// latest is from which joining entry on members are told.
type latest struct {
	from  uint64
	count int // as many as are told
	until time.Time
}

// notified returns from which joining entry on a member is told, as it
// happens, that another one joins or leaves: from that of the one who is, of
// so many as the settings say, the last but that many. 0 is for all.
func (s *Sessions) notified(ctx context.Context, ses Session, who Member) (uint64, error) {
	if ses.NotifyLast == 0 {
		return 0, nil
	}
	now := time.Now()
	s.mu.Lock()
	known, ok := s.latest.Get(ses.ID)
	s.mu.Unlock()
	if ok && known.count == ses.NotifyLast && now.Before(known.until) {
		return known.from, nil
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
	from := joined[ses.NotifyLast-1]
	if len(members) > manyMembers {
		s.mu.Lock()
		s.latest.Add(ses.ID, latest{from, ses.NotifyLast, now.Add(trust)})
		s.mu.Unlock()
	}
	return from, nil
}
