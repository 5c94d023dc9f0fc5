package session

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// farFromLimit is with how many seats left nobody counts them.
const farFromLimit = 100

// admit gives a membership that is about to be written leave to take a seat,
// so that a limit holds whatever several servers do at once.
//
// The seats taken are the rows that say so; no count is kept beside them that
// a crash could falsify. The session's row only puts admissions in order: its
// Version changes with each, and the next one comes after the row of the one
// before has been written, or never can be. So what is counted is all there is.
// Far from the limit it is enough to know how many there are at most, which
// takes no counting.
// ErrChanged: somebody else came first.
func (s *Sessions) admit(ctx context.Context, ses Session, m Member) error {
	if ses.Admitted != "" && ses.Admitted != m.Node {
		if err := s.forestall(ctx, ses); err != nil {
			return err
		}
	}
	most := ses.MostSeats
	if most == 0 || most+farFromLimit > ses.MemberLimit {
		members, err := s.store.Members(ctx, ses.ID)
		if err != nil {
			return err
		}
		if most = taken(members, ses.Owner, m.Node); most >= ses.MemberLimit {
			return envelope.Errorf(envelope.Conflict, "the session is full")
		}
	}
	ses.Admitted, ses.AdmittedVersion, ses.MostSeats = m.Node, m.Version, most+1
	ses.Version++
	return s.store.UpdateSession(ctx, ses)
}

// forestall makes sure that the membership admitted last is written or cannot
// be written any more: it raises the version that its server counts on. That
// one starts over.
func (s *Sessions) forestall(ctx context.Context, ses Session) error {
	m, err := s.member(ctx, ses.ID, ses.Admitted)
	if err != nil || m.Version >= ses.AdmittedVersion {
		return err
	}
	if m.Version == 0 {
		m.State = Left
	}
	m.Version++
	return s.store.PutMember(ctx, m)
}

// taken returns how many seats others than a device have. One is kept for an
// owner that has left: without it nobody could act as owner any more.
func taken(members []Member, owner, except envelope.NodeID) int {
	n := 0
	for _, m := range members {
		kept := m.Node == owner && m.State == Left && len(m.Spans) > 0
		if m.Node != except && (m.seated() || kept) {
			n++
		}
	}
	return n
}

// seats returns how many devices other than one are members or about to be.
func (s *Sessions) seats(ctx context.Context, id envelope.SessionID, except envelope.NodeID) (int, error) {
	members, err := s.store.Members(ctx, id)
	n := 0
	for _, m := range members {
		if m.seated() && m.Node != except {
			n++
		}
	}
	return n, err
}

// An allowance bounds the entries that changes of one row may cause in the
// session's log, where no quota holds for them: so many at once, and in the
// long run one in so much time. Leaving is always allowed; it takes a joining.
const (
	allowance      = 60
	allowanceEvery = 30 * time.Second

	// Of headers, which have an allowance of their own. A large one is worth
	// several, one for each headerUnit bytes begun.
	headerAllowance = 60
	headerEvery     = 2 * time.Second
	headerUnit      = 8 << 10
)

// spend takes one change from an allowance.
func spend(paid *int64, who envelope.Principal) error {
	return spendOf(paid, who, 1, allowance, allowanceEvery)
}

// spendHeader takes a header of that size from its allowance.
func spendHeader(paid *int64, who envelope.Principal, size int) error {
	return spendOf(paid, who, 1+int64(size)/headerUnit, headerAllowance, headerEvery)
}

// spendOf takes n changes from an allowance of so many at once and, in the
// long run, one in so much time; the last may go beyond what is left, and is
// waited for afterwards. What is kept of it is the time, in Unix
// milliseconds, up to which the changes so far have used it (the virtual
// scheduling of ITU-T I.371). The app's own calls cost nothing.
func spendOf(paid *int64, who envelope.Principal, n, atOnce int64, each time.Duration) error {
	if who.App {
		return nil
	}
	now, every := time.Now().UnixMilli(), each.Milliseconds()
	if over := *paid - now - (atOnce-1)*every; over > 0 {
		return &envelope.Error{Code: envelope.RateLimited, Detail: "too many changes of the session", RetryMS: over}
	}
	*paid = max(*paid, now) + n*every
	return nil
}
