package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// follow answers frames about topics as a server does that keeps n of each.
func follow(n uint64) func(*clienttest.Conn, envelope.Control) {
	return func(c *clienttest.Conn, f envelope.Control) {
		if f.Control != envelope.ControlSubscribe {
			return
		}
		told := envelope.Control{Control: envelope.ControlSubscribed, ID: f.ID, Topics: f.Topics, Cursors: make(map[string]uint64)}
		for _, id := range f.Topics {
			log := id.Address().String()
			at, ok := f.Cursors[log]
			if !ok {
				at = n
			}
			told.Cursors[log] = at
		}
		c.WriteControl(told)
	}
}

// Subscribe has its answer though more waits for the user than the client reads
// ahead; after a reconnect the position goes with it.
func TestSubscribe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var asked []envelope.Control
		s := new(clienttest.Server)
		s.OnControl = func(c *clienttest.Conn, f envelope.Control) {
			asked = append(asked, f)
			follow(7)(c, f)
		}
		w.serve("a", s)
		for n := range 400 {
			s.Deliver(toBob(n))
		}
		c := w.start(client.Options{Buffer: 10})
		synctest.Wait()
		if err := c.Subscribe(t.Context(), "topic:a", "topic:b"); err != nil {
			t.Fatal(err)
		}
		if err := c.Subscribe(t.Context(), "topic:b"); err != nil || len(asked) != 1 {
			t.Errorf("asked %+v, %v", asked, err)
		}
		receive(t, c, 400)
		s.Conn("bob").WriteMessage(envelope.Envelope{DestSession: "topic:a", SrcNode: "ann", Seq: 8, Body: []byte(`"n":8`)})
		receive(t, c, 1)
		c.Ack(client.Message{}) // nothing
		s.Conn("bob").Abort()
		pass(30e9)
		if len(asked) != 2 || fmt.Sprint(asked[1].Topics) != "[topic:a topic:b]" || asked[1].Epoch != "first" ||
			fmt.Sprint(asked[1].Cursors) != "map[session:topic:a:7 session:topic:b:7]" {
			// The last message counts as handled when the next one is asked for.
			t.Errorf("asked %+v", asked)
		}
		c.Unsubscribe("topic:a", "topic:c")
		pass(1e9)
		if len(asked) != 3 || asked[2].Control != envelope.ControlUnsubscribe || fmt.Sprint(asked[2].Topics) != "[topic:a]" {
			t.Errorf("asked %+v", asked)
		}
	})
}

func TestSubscribeRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		refusals := 0
		s.OnControl = func(c *clienttest.Conn, f envelope.Control) {
			if refusals++; refusals == 1 {
				c.WriteControl(envelope.Control{Control: envelope.ControlNack, ID: f.ID, Code: envelope.Busy, RetryMS: 10})
				return
			}
			c.WriteControl(envelope.Control{Control: envelope.ControlNack, ID: f.ID, Code: envelope.Forbidden})
		}
		w.serve("a", s)
		c := w.start(client.Options{})
		if err := c.Subscribe(t.Context(), "topic:a"); envelope.CodeOf(err) != envelope.Forbidden || refusals != 2 {
			t.Errorf("%v after %d refusals", err, refusals)
		}
		if err := c.Subscribe(t.Context(), "a"); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("what is no topic: %v", err)
		}
		s.OnControl = nil
		ctx, cancel := context.WithTimeout(t.Context(), 1e9)
		defer cancel()
		if err := c.Subscribe(ctx, "topic:a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without an answer: %v", err)
		}
		done := make(chan error)
		go func() { done <- c.Subscribe(t.Context(), "topic:b") }()
		synctest.Wait()
		c.Unsubscribe("topic:b")
		if err := <-done; !errors.Is(err, client.ErrUnsubscribed) {
			t.Errorf("unsubscribed meanwhile: %v", err)
		}
		go func() { done <- c.Subscribe(t.Context(), "topic:b") }()
		synctest.Wait()
		_ = c.Close(t.Context())
		if err := <-done; !errors.Is(err, client.ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if err := c.Subscribe(t.Context(), "topic:b"); !errors.Is(err, client.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
