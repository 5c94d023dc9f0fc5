package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

func nack(e envelope.Envelope, code envelope.Code, retry time.Duration) envelope.Control {
	return envelope.Control{Control: envelope.ControlNack, ID: e.ID, Code: code, RetryMS: retry.Milliseconds()}
}

// sendAll sends messages without waiting and returns their errors so far, by id.
func sendAll(t *testing.T, c *client.Client, messages ...envelope.Envelope) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	for _, e := range messages {
		// The client's goroutines call back one at a time here: the reader, or
		// after it the end of the connection.
		if err := c.SendAsync(t.Context(), e, func(_ client.Ack, err error) { errs[e.ID] = err }); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	return errs
}

func TestUnansweredIsSentAgainInOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var arrived []string
		s := &clienttest.Server{OnMessage: func(_ *clienttest.Conn, e envelope.Envelope) bool {
			arrived = append(arrived, e.ID)
			return len(arrived) <= 6 && e.ID != "x-1" // taken, but not said so
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		errs := sendAll(t, c, toDevice("x", 1), toDevice("x", 2), toDevice("y", 1), toDevice("x", 3),
			envelope.Envelope{ID: "v", DestNode: "y", Class: envelope.Volatile}, toDevice("y", 2))
		if len(errs) != 1 {
			t.Errorf("answered: %v", errs)
		}
		s.Conn("bob").Abort()
		pass(time.Second)
		want := []string{"x-1", "x-2", "y-1", "x-3", "v", "y-2", "x-2", "y-1", "x-3", "y-2"}
		if !slices.Equal(arrived, want) {
			t.Errorf("arrived %v\nwant    %v", arrived, want)
		}
		for id, err := range errs {
			if unknown := errors.Is(err, client.ErrUnknown); unknown != (id == "v") || !unknown && err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if len(errs) != 6 {
			t.Errorf("answered: %v", errs)
		}
	})
}

// TestRefusedForNow has a server that refuses one message to x for the time
// being and, as promised, what comes behind it, until that one comes again.
func TestRefusedForNow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		type arrival struct {
			at time.Duration
			id string
		}
		var arrived []arrival
		start := time.Now()
		refuse := 2
		held := false
		s := &clienttest.Server{OnMessage: func(c *clienttest.Conn, e envelope.Envelope) bool {
			arrived = append(arrived, arrival{time.Since(start), e.ID})
			if e.DestNode != "x" {
				return false
			}
			if e.ID == "x-2" && refuse > 0 {
				refuse--
				held = true
				c.WriteControl(nack(e, envelope.Busy, 300*time.Millisecond))
				return true
			}
			if held && e.ID != "x-2" {
				c.WriteControl(nack(e, envelope.Busy, 100*time.Millisecond))
				return true
			}
			held = false
			return false
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		start = time.Now()
		errs := sendAll(t, c, toDevice("x", 1), toDevice("x", 2), toDevice("x", 3), toDevice("y", 1), toDevice("x", 4))
		more := sendAll(t, c, toDevice("x", 5), toDevice("y", 2)) // x is held, y is not
		pass(time.Second)
		if got := s.Log(envelope.NodeID("x").Address()); !slices.Equal(got, bodies(1, 5)) {
			t.Errorf("log of x %v", got)
		}
		if len(errs) != 5 || len(more) != 2 {
			t.Errorf("answered %v %v", errs, more)
		}
		last := slices.IndexFunc(arrived, func(a arrival) bool { return a.id == "y-2" })
		if arrived[last].at != 0 {
			t.Errorf("y waited: %v", arrived)
		}
		var again []string
		for _, a := range arrived[last+1:] {
			if a.at != 300*time.Millisecond && a.at != 600*time.Millisecond {
				t.Errorf("%s came at %v", a.id, a.at)
			}
			if a.at == 600*time.Millisecond {
				again = append(again, a.id)
			}
		}
		if want := []string{"x-2", "x-3", "x-4", "x-5"}; !slices.Equal(again, want) {
			t.Errorf("at last came %v", again)
		}
	})
}

// TestRefusedWaitsForWhatIsOnItsWay has answers that take long: the refused
// message must not be sent again before those behind it are answered, since
// one of them may be refused still and would come after later ones.
func TestRefusedWaitsForWhatIsOnItsWay(t *testing.T) {
	for _, behind := range []string{envelope.ControlAck, envelope.ControlNack} {
		inWorld(t, func(t *testing.T, w *world) {
			var arrived []string
			s := &clienttest.Server{OnMessage: func(_ *clienttest.Conn, e envelope.Envelope) bool {
				arrived = append(arrived, e.ID)
				return true
			}}
			w.serve("a", s)
			c := w.start(client.Options{})
			synctest.Wait()
			sendAll(t, c, toDevice("x", 1), toDevice("x", 2))
			s.Conn("bob").WriteControl(nack(toDevice("x", 1), envelope.Busy, 10*time.Millisecond))
			pass(time.Second)
			sendAll(t, c, toDevice("x", 3))
			if want := []string{"x-1", "x-2"}; !slices.Equal(arrived, want) {
				t.Errorf("before the answer: %v", arrived)
			}
			want := []string{"x-1", "x-2", "x-1", "x-3"}
			answer := envelope.Control{Control: behind, ID: "x-2", Seq: 1, Log: "node:x"}
			if behind == envelope.ControlNack {
				answer = nack(toDevice("x", 2), envelope.Busy, 10*time.Millisecond)
				want = []string{"x-1", "x-2", "x-1", "x-2", "x-3"}
			}
			s.Conn("bob").WriteControl(answer)
			pass(20 * time.Millisecond)
			if !slices.Equal(arrived, want) {
				t.Errorf("after %s: %v", behind, arrived)
			}
		})
	}
}

// TestRefusedHoldsBackWhatIsNotWritten has a server that takes its time over
// the first message, so that the others queue up, refuses it, and reads on only
// when that has been heard.
func TestRefusedHoldsBackWhatIsNotWritten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var arrived []string
		s := &clienttest.Server{OnMessage: func(c *clienttest.Conn, e envelope.Envelope) bool {
			arrived = append(arrived, e.ID)
			if len(arrived) == 1 {
				time.Sleep(time.Second)
				c.WriteControl(nack(e, envelope.Busy, 2*time.Second))
				time.Sleep(time.Second)
				return true
			}
			if len(arrived) == 2 {
				c.WriteControl(nack(e, envelope.Busy, time.Millisecond))
				return true
			}
			return false
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		sendAll(t, c, toDevice("x", 1), toDevice("x", 2), toDevice("x", 3), toDevice("x", 4), toDevice("y", 1))
		pass(time.Minute)
		if want := []string{"x-1", "x-2", "y-1", "x-1", "x-2", "x-3", "x-4"}; !slices.Equal(arrived, want) {
			t.Errorf("arrived %v", arrived)
		}
	})
}

func TestRefusedForGood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		seen := 0
		s := &clienttest.Server{OnMessage: func(c *clienttest.Conn, e envelope.Envelope) bool {
			seen++
			f := nack(e, envelope.Forbidden, 0)
			f.Detail = "no"
			c.WriteControl(f)
			return true
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		_, err := c.Send(t.Context(), toDevice("x", 1))
		pass(time.Minute)
		if e, ok := errors.AsType[*envelope.Error](err); !ok || e.Code != envelope.Forbidden || e.Detail != "no" || seen != 1 {
			t.Errorf("%v, sent %d times", err, seen)
		}
	})
}

func TestInflightIsBounded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &clienttest.Server{OnMessage: func(*clienttest.Conn, envelope.Envelope) bool { return true }}
		w.serve("a", s)
		c := w.start(client.Options{MaxInflight: 2})
		synctest.Wait()
		sendAll(t, c, toDevice("x", 1), toDevice("x", 2))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.SendAsync(ctx, toDevice("x", 3), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlAck, ID: "x-1", Seq: 1, Log: "node:x"})
		synctest.Wait()
		if err := c.SendAsync(t.Context(), toDevice("x", 2), nil); !errors.Is(err, client.ErrDuplicateID) {
			t.Error(err)
		}
		if err := c.SendAsync(t.Context(), toDevice("x", 3), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestVolatile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		c := w.start(client.Options{MaxInflight: 1})
		tick := envelope.Envelope{DestNode: "bob", Class: envelope.Volatile, Body: []byte(`"n":1`)}
		if _, err := c.Send(t.Context(), tick); !errors.Is(err, client.ErrNotConnected) {
			t.Error(err)
		}
		w.serve("a", s)
		pass(time.Minute)
		for range 3 { // each gives its slot back
			if _, err := c.Send(t.Context(), tick); err != nil {
				t.Fatal(err)
			}
		}
		tick.ID = "1"
		if ack, err := c.Send(t.Context(), tick); err != nil || ack != (client.Ack{ID: "1"}) {
			t.Errorf("%+v, %v", ack, err)
		}
		receive(t, c, 4)
	})
}

func TestCloseEndsSends(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &clienttest.Server{OnMessage: func(*clienttest.Conn, envelope.Envelope) bool { return true }}
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		errs := sendAll(t, c, toDevice("x", 1))
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errs["x-1"]; !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Send(t.Context(), toDevice("x", 2)); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error("the second time", err)
		}
	})
}

func TestSendHTTP(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("b", s)
		c := w.start(client.Options{Servers: []string{"http://a", "http://b"}})
		for n := range 2 { // the same message
			ack, err := c.SendHTTP(t.Context(), toDevice("x", 1))
			if err != nil || ack.Seq != 1 || ack.ID != "x-1" || fmt.Sprint(ack.Log) != "node:x" {
				t.Errorf("%d: %+v, %v", n, ack, err)
			}
		}
		if _, err := c.JoinSession(t.Context(), "s"); envelope.CodeOf(err) != envelope.NotFound {
			t.Error(err)
		}
	})
}
