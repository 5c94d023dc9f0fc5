package client_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// refuseCalls counts pre-connection calls and refuses them.
func refuseCalls(at *[]time.Time, e *envelope.Error) *clienttest.Server {
	return &clienttest.Server{Nodes: func(envelope.NodeID) ([]string, error) {
		*at = append(*at, time.Now())
		return nil, e
	}}
}

func TestBackoffIsFullJitter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var calls []time.Time
		w.serve("a", refuseCalls(&calls, envelope.Errorf(envelope.Busy, "")))
		w.start(client.Options{Rand: rand.NewPCG(7, 7)})
		pass(10 * time.Minute)
		longest := time.Duration(0)
		below := 0
		for i := range calls[1:] {
			ceiling := 15 * time.Second
			if i < 8 {
				ceiling = min(ceiling, 100*time.Millisecond<<i)
			}
			wait := calls[i+1].Sub(calls[i])
			if wait > ceiling {
				t.Errorf("wait %d is %v, over %v", i, wait, ceiling)
			}
			if wait < ceiling/2 {
				below++
			}
			longest = max(longest, wait)
		}
		// Jitter over the whole range: about half of the waits are in its lower half.
		if n := len(calls) - 1; below < n/4 || below > n*3/4 || longest < 10*time.Second {
			t.Errorf("%d of %d waits in the lower half, longest %v", below, n, longest)
		}
	})
}

func TestRetryHintIsHonoured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var calls []time.Time
		w.serve("a", refuseCalls(&calls, envelope.BusyError(60_000, "", nil)))
		w.start(client.Options{})
		pass(150 * time.Second)
		if len(calls) != 3 || calls[1].Sub(calls[0]) < time.Minute {
			t.Errorf("calls at %v", calls)
		}
	})
}

func TestClosedAtOnceIsNotHammered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &clienttest.Server{OnHello: func(c *clienttest.Conn, _ envelope.Control) {
			time.AfterFunc(time.Millisecond, func() { c.Close(envelope.Busy.CloseCode()) })
		}}
		w.serve("a", s)
		w.start(client.Options{})
		pass(10 * time.Minute)
		if n := s.Calls(); n > 200 || n < 40 {
			t.Errorf("%d calls in ten minutes", n)
		}
	})
}

func TestCloseCodes(t *testing.T) {
	for code, comesBack := range map[int]bool{
		1000: true, 1001: true, 1008: false, 1009: false, 1011: true, 1012: true, 1013: true,
		3000: true, 4000: true, 4001: true, 4499: true,
		4500: false, 4501: true, 4502: false, 4505: false, 4999: false,
		0: true, // without a word: 1006
	} {
		inWorld(t, func(t *testing.T, w *world) {
			s := new(clienttest.Server)
			w.serve("a", s)
			c := w.start(client.Options{})
			pass(time.Minute)
			if code == 0 {
				s.Conn("bob").Abort()
			} else {
				s.Conn("bob").Close(code)
			}
			pass(time.Minute)
			if got := c.State() == client.Connected; got != comesBack {
				t.Errorf("%d: state %v", code, c.State())
			}
			calls := 1
			if comesBack {
				calls = 2
			}
			if s.Calls() != calls {
				t.Errorf("%d: %d calls", code, s.Calls())
			}
		})
	}
}

func TestFinalCloseTellsTheCode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		s.Conn("bob").Close(envelope.Revoked.CloseCode())
		if _, err := c.Receive(t.Context()); envelope.CodeOf(err) != envelope.Revoked {
			t.Error(err)
		}
		if _, err := c.Send(t.Context(), toBob(1)); envelope.CodeOf(err) != envelope.Revoked {
			t.Error(err)
		}
	})
}

func TestUnauthorized(t *testing.T) {
	t.Run("the call says so too", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			refuse := false
			s := new(clienttest.Server)
			s.Nodes = func(envelope.NodeID) ([]string, error) {
				if refuse {
					return nil, envelope.Errorf(envelope.Unauthorized, "")
				}
				return []string{"http://a"}, nil
			}
			w.serve("a", s)
			c := w.start(client.Options{})
			synctest.Wait()
			refuse = true
			s.Conn("bob").Close(envelope.Unauthorized.CloseCode())
			pass(time.Minute)
			if s.Calls() != 2 || c.State() != client.Closed {
				t.Errorf("%d calls, %v", s.Calls(), c.State())
			}
		})
	})
	t.Run("twice", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			s := new(clienttest.Server)
			w.serve("a", s)
			// A server refuses every token that comes with a query.
			s.Nodes = func(envelope.NodeID) ([]string, error) { return []string{"http://a/ws?"}, nil }
			c := w.start(client.Options{})
			pass(time.Minute)
			if s.Calls() != 2 || c.State() != client.Closed {
				t.Errorf("%d calls, %v", s.Calls(), c.State())
			}
		})
	})
}

func TestReconnectHint(t *testing.T) {
	for _, serverCloses := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			a, b := new(clienttest.Server), new(clienttest.Server)
			w.serve("a", a)
			w.serve("b", b)
			c := w.start(client.Options{})
			pass(time.Second)
			a.Deliver(toBob(1))
			receive(t, c, 1)
			conn := a.Conn("bob")
			conn.WriteControl(envelope.Control{Control: envelope.ControlReconnect, AfterMS: 5000, Nodes: []string{"http://b"}})
			if serverCloses {
				conn.Close(1001)
			}
			go func() { _, _ = c.Receive(t.Context()) }() // the first is handled
			pass(4999 * time.Millisecond)
			if b.Calls() != 0 || (a.Conn("bob") != nil) == serverCloses {
				t.Errorf("left early: %d calls, connection %v", b.Calls(), a.Conn("bob"))
			}
			pass(2 * time.Millisecond)
			if b.Conn("bob") == nil || a.Conn("bob") != nil || a.Calls() != 1 {
				t.Error("not where it was sent")
			}
		})
	}
}

func TestServersAreTriedInTurnAndLearned(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b, c := new(clienttest.Server), new(clienttest.Server)
		stopB := w.serve("b", b)
		w.serve("c", c)
		b.Nodes = func(envelope.NodeID) ([]string, error) { return []string{"http://down", "http://c"}, nil }
		cl := w.start(client.Options{Servers: []string{"http://a", "http://b"}})
		pass(time.Second)
		if c.Conn("bob") == nil {
			t.Fatal("not connected to the second best")
		}
		stopB()
		c.Conn("bob").Abort()
		pass(time.Minute)
		if c.Conn("bob") == nil || c.Calls() != 1 {
			t.Errorf("%v; %d calls at the server learned", cl.State(), c.Calls())
		}
	})
}

func TestSilentServerIsGivenUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var why error
		s := &clienttest.Server{PingS: 25}
		w.serve("a", s)
		c := w.start(client.Options{OnState: func(st client.State, err error) {
			if err != nil && why == nil {
				why = err
			}
		}})
		pass(time.Second)
		pass(58 * time.Second)
		if s.Calls() != 1 {
			t.Errorf("given up early: %v", why)
		}
		pass(2 * time.Second)
		if s.Calls() != 2 || c.State() != client.Connected {
			t.Errorf("%d calls, %v, %v", s.Calls(), c.State(), why)
		}
	})
}

func TestStates(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var states []client.State
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{OnState: func(st client.State, _ error) { states = append(states, st) }})
		synctest.Wait()
		s.Conn("bob").Abort()
		pass(time.Second)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := []client.State{client.Connected, client.Connecting, client.Connected, client.Connecting, client.Closed}
		if !slices.Equal(states, want) {
			t.Errorf("states %v", states)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := client.New(client.Options{AuthKey: "x"}); err == nil {
		t.Error("no servers, no error")
	}
	if _, err := client.New(client.Options{Servers: []string{"http://a"}}); err == nil || errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
}
