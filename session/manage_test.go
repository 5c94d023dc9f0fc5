package session_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
)

// breaking is a store of which a test can make calls fail.
type breaking struct {
	*embedded.Store
	fail func(op string) error // before the call, and with "after " once it is done; nil never
}

var errAway = envelope.BusyError(100, "away", nil)

func (b *breaking) try(op string, call func() error) error {
	if b.fail != nil {
		if err := b.fail(op); err != nil {
			return err
		}
	}
	if err := call(); err != nil || b.fail == nil {
		return err
	}
	return b.fail("after " + op)
}

func (b *breaking) PutMember(ctx context.Context, m session.Member) error {
	return b.try("put", func() error { return b.Store.PutMember(ctx, m) })
}

func (b *breaking) UpdateSession(ctx context.Context, s session.Session) error {
	return b.try("update", func() error { return b.Store.UpdateSession(ctx, s) })
}

// nth returns a fault of the n-th call.
func nth(op string, n int) func(string) error {
	return func(called string) error {
		if called == op {
			if n--; n == 0 {
				return errAway
			}
		}
		return nil
	}
}

// group makes a session of alice with some members.
func (w *world) group(t *testing.T, members ...string) {
	t.Helper()
	if _, err := w.Create(t.Context(), who("alice"), "r", session.Settings{AnyoneCanJoin: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range members {
		if _, err := w.Join(t.Context(), who(id), "r", session.As{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) wantOwner(t *testing.T, want envelope.NodeID) {
	t.Helper()
	if ses, err := w.store.Session(t.Context(), "r"); err != nil || ses.Owner != want {
		t.Errorf("the owner is %s, %v; want %s", ses.Owner, err, want)
	}
}

// A change that breaks off at any step is done once, whoever completes it: by
// repeating the call, or by looking.
func TestInterruptedChanges(t *testing.T) {
	ctx := t.Context()
	alice := who("alice")
	calls := map[string]func(s *session.Sessions) (session.State, error){
		"kick": func(s *session.Sessions) (session.State, error) {
			m, err := s.Kick(ctx, alice, "r", "bob")
			return m.State, err
		},
		"ban": func(s *session.Sessions) (session.State, error) {
			m, err := s.Ban(ctx, alice, "r", "bob")
			return m.State, err
		},
		"role": func(s *session.Sessions) (session.State, error) {
			m, err := s.SetRole(ctx, alice, "r", "bob", session.Moderator)
			return m.State, err
		},
		"transfer": func(s *session.Sessions) (session.State, error) {
			m, err := s.Transfer(ctx, alice, "r", "bob")
			return m.State, err
		},
		"settings": func(s *session.Sessions) (session.State, error) {
			limit := 9
			_, err := s.Update(ctx, alice, "r", envelope.Settings{MemberLimit: &limit})
			return 0, err
		},
	}
	want := map[string]session.State{"kick": session.Left, "ban": session.Banned, "role": session.Joined, "transfer": session.Joined}
	for name, call := range calls {
		for _, op := range []string{"put", "after put", "update", "after update", "entry"} {
			for n := 1; n <= 2; n++ {
				t.Run(fmt.Sprint(name, " ", op, " ", n), func(t *testing.T) {
					w := newWorld(t)
					w.group(t, "bob")
					broken := &breaking{Store: w.store, fail: nth(op, n)}
					if op == "entry" {
						w.err = errAway
					}
					_, err := call(session.New(broken, w.append, nil))
					w.err = nil
					failed := err != nil
					if failed && envelope.CodeOf(err) != envelope.Busy {
						t.Fatal(err)
					}
					if n == 2 { // somebody looks before it is tried again
						_, _ = w.Of(ctx, "bob")
						_, _, _ = w.Get(ctx, alice, "r")
					}
					state, err := call(w.Sessions)
					if err != nil || state != want[name] {
						t.Errorf("again: %v, %v (failed before: %v)", state, err, failed)
					}
					log, err := w.store.Read(ctx, envelope.SessionID("r").Address(), 0, 100, 1<<20)
					if err != nil || len(log) != 3 {
						t.Errorf("%d entries, %v", len(log), err)
					}
				})
			}
		}
	}
}

// A transfer that was begun and overtaken by another one does not take the
// session away from its new owner later.
func TestTransferOvertaken(t *testing.T) {
	w := newWorld(t)
	w.group(t, "bob", "carol")
	broken := &breaking{Store: w.store, fail: nth("update", 1)}
	if _, err := session.New(broken, w.append, nil).Transfer(t.Context(), who("alice"), "r", "bob"); envelope.CodeOf(err) != envelope.Busy {
		t.Fatal(err)
	}
	if _, err := w.Transfer(t.Context(), who("alice"), "r", "carol"); err != nil {
		t.Fatal(err)
	}
	m, err := w.Stays(t.Context(), "r", "bob")
	if err != nil || m.State != session.Joined || m.Role != session.Ordinary {
		t.Errorf("bob is %+v, %v", m, err)
	}
	w.wantOwner(t, "carol")
}

// Who is becoming the owner cannot be put out meanwhile.
func TestBanDuringTransfer(t *testing.T) {
	w := newWorld(t)
	w.group(t, "bob", "mo")
	if _, err := w.SetRole(t.Context(), who("alice"), "r", "mo", session.Moderator); err != nil {
		t.Fatal(err)
	}
	broken := &breaking{Store: w.store, fail: nth("update", 1)}
	if _, err := session.New(broken, w.append, nil).Transfer(t.Context(), who("alice"), "r", "bob"); envelope.CodeOf(err) != envelope.Busy {
		t.Fatal(err)
	}
	if _, err := w.Ban(t.Context(), who("mo"), "r", "bob"); envelope.CodeOf(err) != envelope.Forbidden {
		t.Errorf("got %v", err)
	}
	w.wantOwner(t, "bob")
}

// Of two transfers at once one is made, and the session has one owner.
func TestConcurrentTransfers(t *testing.T) {
	for range 20 {
		w := newWorld(t)
		w.group(t, "bob", "carol")
		errs := make([]error, 2)
		var all sync.WaitGroup
		for i, to := range []envelope.NodeID{"bob", "carol"} {
			all.Go(func() { _, errs[i] = w.Transfer(t.Context(), who("alice"), "r", to) })
		}
		all.Wait()
		ses, members, err := w.Get(t.Context(), who("alice"), "r")
		if err != nil {
			t.Fatal(err)
		}
		owners := 0
		for _, m := range members {
			if ses.RoleOf(m) == session.Owner {
				owners++
			}
		}
		won := map[envelope.NodeID]int{"bob": 0, "carol": 1}[ses.Owner]
		if owners != 1 || ses.Owner == "alice" || errs[won] != nil || envelope.CodeOf(errs[1-won]) != envelope.Forbidden {
			t.Fatalf("%d owners, %s; %v", owners, ses.Owner, errs)
		}
	}
}

// The owner goes last, stays the owner, and may come back.
func TestOwnerLeaves(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.Create(ctx, who("alice"), "r", session.Settings{}, session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(ctx, envelope.Principal{Node: "app", App: true}, "r", who("bob"), session.Ordinary, session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Leave(ctx, who("alice"), "r"); envelope.CodeOf(err) != envelope.Conflict {
		t.Errorf("got %v", err)
	}
	if _, err := w.Leave(ctx, who("bob"), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Leave(ctx, who("alice"), "r"); err != nil {
		t.Fatal(err)
	}
	w.wantOwner(t, "alice")
	if _, err := w.Join(ctx, who("bob"), "r", session.As{}); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := w.Join(ctx, who("alice"), "r", session.As{}); err != nil {
		t.Fatal(err)
	}
}

// A limited session keeps a seat for its owner, who alone can act as that.
func TestSeatOfTheOwner(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.Create(ctx, who("alice"), "r", session.Settings{AnyoneCanJoin: true, MemberLimit: 2}, session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Leave(ctx, who("alice"), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Join(ctx, who("bob"), "r", session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Join(ctx, who("carol"), "r", session.As{}); envelope.CodeOf(err) != envelope.Conflict {
		t.Errorf("in the owner's seat: %v", err)
	}
	if _, err := w.Join(ctx, who("alice"), "r", session.As{}); err != nil {
		t.Error(err)
	}
}

// An owner that comes back may write, whatever it was invited as.
func TestOwnerInvited(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t)
	if _, err := w.Leave(ctx, who("alice"), "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Invite(ctx, envelope.Principal{Node: "app", App: true}, "r", "alice", session.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Join(ctx, who("alice"), "r", session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, &envelope.Envelope{SrcNode: "alice", DestSession: "r"}); err != nil {
		t.Error(err)
	}
}

// Who has a seat is listed, also when its join has broken off: so that a
// moderator can take the seat back from a device that does not return.
func TestSeatOfInterruptedJoin(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.Create(ctx, who("alice"), "r", session.Settings{AnyoneCanJoin: true, MemberLimit: 2}, session.As{}); err != nil {
		t.Fatal(err)
	}
	w.err = errAway
	if _, err := w.Join(ctx, who("bob"), "r", session.As{}); envelope.CodeOf(err) != envelope.Busy {
		t.Fatal(err)
	}
	w.err = nil
	if _, err := w.Join(ctx, who("carol"), "r", session.As{}); envelope.CodeOf(err) != envelope.Conflict {
		t.Fatal(err)
	}
	_, members, err := w.Get(ctx, who("alice"), "r")
	if err != nil || len(members) != 2 {
		t.Errorf("members: %+v, %v", members, err)
	}
	if _, err := w.Kick(ctx, who("alice"), "r", "bob"); err != nil {
		t.Error(err)
	}
	if _, err := w.Join(ctx, who("carol"), "r", session.As{}); err != nil {
		t.Error(err)
	}
}

// A role that restricts is not lost by leaving; one that allows is.
func TestRoleAfterRejoin(t *testing.T) {
	for was, want := range map[session.Role]session.Role{
		session.Reader: session.Reader, session.Moderator: session.Ordinary, session.Ordinary: session.Ordinary,
	} {
		w := newWorld(t)
		w.group(t, "bob")
		if _, err := w.SetRole(t.Context(), who("alice"), "r", "bob", was); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Leave(t.Context(), who("bob"), "r"); err != nil {
			t.Fatal(err)
		}
		if m, err := w.Join(t.Context(), who("bob"), "r", session.As{}); err != nil || m.Role != want {
			t.Errorf("%v came back as %v, %v", was, m.Role, err)
		}
	}
}

// A server that sees the log takes away at once what a role has allowed.
func TestObserveRole(t *testing.T) {
	w := newWorld(t)
	w.group(t, "bob")
	write := func() envelope.Code {
		_, err := w.Resolve(t.Context(), &envelope.Envelope{SrcNode: "bob", DestSession: "r"})
		return envelope.CodeOf(err)
	}
	if code := write(); code != "" {
		t.Fatal(code)
	}
	elsewhere := session.New(w.store, w.append, nil)
	if _, err := elsewhere.SetRole(t.Context(), who("alice"), "r", "bob", session.Reader); err != nil {
		t.Fatal(err)
	}
	log, err := w.store.Read(t.Context(), envelope.SessionID("r").Address(), 2, 1, 1<<20)
	if err != nil || len(log) != 1 {
		t.Fatal(log, err)
	}
	w.Observe(&log[0])
	if code := write(); code != envelope.Forbidden {
		t.Errorf("got %q", code)
	}
}

// An invitation is told once, however often it is made.
func TestInvitedOnce(t *testing.T) {
	w := newWorld(t)
	w.group(t)
	for range 3 {
		if _, err := w.Invite(t.Context(), who("alice"), "r", "bob", session.Reader); err != nil {
			t.Fatal(err)
		}
	}
	log, err := w.store.Read(t.Context(), envelope.NodeID("bob").Address(), 0, 100, 1<<20)
	if err != nil || len(log) != 1 || log[0].Type != envelope.TypeInvited {
		t.Errorf("told %v, %v", log, err)
	}
}
