package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
	"github.com/allsparkrt/allspark/store/embedded"
)

// Of many joins at once one alias comes, whatever names they ask for.
func TestConcurrentAliases(t *testing.T) {
	for round := range 5 {
		w := newWorld(t)
		w.group(t)
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				server := session.New(w.store, w.append, nil)
				_, err := server.Join(t.Context(), who("bob"), "r", []session.As{anyName, as("x"), as("y")}[i%3])
				if code := envelope.CodeOf(err); code != "" && code != envelope.Conflict {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if notes := w.notes(t); len(notes) != 2 {
			t.Errorf("round %d: %q", round, notes)
		}
	}
}

// A name is taken by one of those who ask for it at once.
func TestConcurrentChosenName(t *testing.T) {
	w := newWorld(t)
	w.group(t)
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = session.New(w.store, w.append, nil).Join(t.Context(), who(fmt.Sprint("d", i)), "r", as("zorro"))
		})
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		switch envelope.CodeOf(err) {
		case "":
			won++
		case envelope.Conflict:
		default:
			t.Error(err)
		}
	}
	if notes := w.notes(t); won != 1 || !slices.Equal(notes, []string{"100 alice", "100 r~zorro"}) {
		t.Errorf("%d won; %q", won, notes)
	}
}

// slow is a store whose reads of memberships take until others have read, too.
type slow struct {
	*embedded.Store
	meet func()
}

func (s *slow) Member(ctx context.Context, id envelope.SessionID, node envelope.NodeID) (session.Member, error) {
	m, err := s.Store.Member(ctx, id, node)
	s.meet()
	return m, err
}

// A device is in by one of its names at a time, also when it, or the app for
// it, asks for both at once at two servers.
func TestConcurrentNameAndAlias(t *testing.T) {
	for _, added := range []bool{false, true} {
		for round := range 12 {
			w := newWorld(t)
			ctx := t.Context()
			w.group(t)
			w.put(t, "bob", "left both")
			yield := &slow{Store: w.store, meet: rendezvous(2, round%6)}
			var all sync.WaitGroup
			errs := make([]error, 2)
			all.Go(func() {
				s := session.New(yield, w.append, nil)
				if added {
					_, errs[0] = s.Add(ctx, app, "r", who("bob"), session.Ordinary, session.As{})
				} else {
					_, errs[0] = s.Join(ctx, who("bob"), "r", session.As{})
				}
			})
			all.Go(func() { _, errs[1] = session.New(yield, w.append, nil).Join(ctx, who("bob"), "r", anyName) })
			all.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("added %v, round %d: %v; %q", added, round, errs, w.notes(t))
			}
			for _, err := range errs {
				if err != nil && envelope.CodeOf(err) != envelope.Conflict {
					t.Error(err)
				}
			}
		}
	}
}

// rendezvous lets n goroutines go on together at their k-th call, or alone when
// the others do not come so far.
func rendezvous(n, k int) func() {
	var mu sync.Mutex
	calls, together := 0, make(chan struct{})
	return func() {
		mu.Lock()
		calls++
		mine := calls
		if mine == (k+1)*n {
			close(together)
		}
		mu.Unlock()
		if mine > k*n && mine < (k+1)*n {
			select {
			case <-together:
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// What an anonymous device does that breaks off at any step is done once, by
// repeating it or by looking, under one alias.
func TestInterruptedAliases(t *testing.T) {
	ctx, bob := t.Context(), who("bob")
	for name, tt := range map[string]struct {
		state string
		call  func(s *session.Sessions) (session.Member, error)
		want  []string
	}{
		"join": {
			"none", func(s *session.Sessions) (session.Member, error) { return s.Join(ctx, bob, "r", as("bob")) },
			[]string{"100 alice", "100 r~bob"},
		},
		"join again": {
			"left both", func(s *session.Sessions) (session.Member, error) { return s.Join(ctx, bob, "r", anyName) },
			[]string{"100 alice", "100 r~bob", "103 r~bob", "100 bob", "103 bob", "100 r~bob"},
		},
		"join by name": {
			"left by alias", func(s *session.Sessions) (session.Member, error) { return s.Join(ctx, bob, "r", session.As{}) },
			[]string{"100 alice", "100 r~bob", "103 r~bob", "100 bob"},
		},
		"leave": {
			"by alias", func(s *session.Sessions) (session.Member, error) { return s.Leave(ctx, bob, "r") },
			[]string{"100 alice", "100 r~bob", "103 r~bob"},
		},
		"reveal": {
			"by alias", func(s *session.Sessions) (session.Member, error) { return s.Reveal(ctx, bob, "r") },
			[]string{"100 alice", "100 r~bob", "104 r~bob"},
		},
		"add": {
			"none",
			func(s *session.Sessions) (session.Member, error) {
				return s.Add(ctx, app, "r", bob, session.Ordinary, as("bob"))
			},
			[]string{"100 alice", "100 r~bob"},
		},
	} {
		for _, op := range []string{"put", "after put", "entry", "after entry"} {
			for n := 1; n <= 5; n++ {
				t.Run(fmt.Sprint(name, " ", op, " ", n), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					w.group(t)
					w.put(t, "bob", tt.state)
					fault := nth(op, n)
					broken := &breaking{Store: w.store, fail: fault}
					_, err := tt.call(session.New(broken, func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
						if err := fault("entry"); err != nil {
							return 0, err
						}
						seq, err := w.append(ctx, log, env)
						return seq, errors.Join(err, fault("after entry"))
					}, nil))
					if err != nil && envelope.CodeOf(err) != envelope.Busy {
						t.Fatal(err)
					}
					if n%2 == 0 { // somebody looks before it is tried again
						_, _ = w.Of(ctx, "bob")
						_, _, _ = w.Get(ctx, who("alice"), "r")
					}
					if _, err := tt.call(w.Sessions); err != nil {
						t.Error(err)
					}
					if notes := w.notes(t); !slices.Equal(notes, tt.want) {
						t.Errorf("got %q, want %q", notes, tt.want)
					}
				})
			}
		}
	}
}

// A session that its maker owns anonymously is made once, wherever that breaks off.
func TestInterruptedAnonymousCreate(t *testing.T) {
	ctx := t.Context()
	open := session.Settings{AnyoneCanJoin: true}
	for _, op := range []string{"put", "after put", "entry"} {
		for n := 1; n <= 4; n++ {
			w := newWorld(t)
			fault := nth(op, n)
			broken := session.New(&breaking{Store: w.store, fail: fault}, func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
				if err := fault("entry"); err != nil {
					return 0, err
				}
				return w.append(ctx, log, env)
			}, nil)
			_, first := broken.Create(ctx, who("alice"), "r", open, anyName)
			ses, err := w.Create(ctx, who("alice"), "r", open, anyName)
			in, _, ok := ses.Owner.Alias()
			if err != nil || !ok || in != "r" {
				t.Errorf("%s %d: after %v: owner %q, %v", op, n, first, ses.Owner, err)
			}
			if _, err := w.Create(ctx, who("bob"), "r", open, anyName); envelope.CodeOf(err) != envelope.Conflict {
				t.Errorf("by another: %v", err)
			}
			if _, err := w.Create(ctx, who("alice"), "r", open, session.As{}); envelope.CodeOf(err) != envelope.Conflict {
				t.Errorf("by name: %v", err)
			}
			if notes := w.notes(t); !slices.Equal(notes, []string{"100 " + string(ses.Owner)}) {
				t.Errorf("%s %d: %q", op, n, notes)
			}
		}
	}
}
