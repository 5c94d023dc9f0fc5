package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

func TestSendAndReceive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{})
		ack, err := c.Send(t.Context(), envelope.Envelope{DestNode: "bob", Body: []byte(`"n":1`)})
		if err != nil || ack.Seq != 1 || ack.Log != bob || ack.ID == "" {
			t.Fatalf("%+v, %v", ack, err)
		}
		m, err := c.Receive(t.Context())
		if err != nil || m.Seq != 1 || m.SrcNode != "bob" || m.ID != ack.ID || string(m.Body) != `"n":1` {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestSendRefusesWhatIsNoMessage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.start(client.Options{MaxFrame: 100})
		for _, tt := range []struct {
			e    envelope.Envelope
			code envelope.Code
		}{
			{envelope.Envelope{}, envelope.BadRequest},
			{envelope.Envelope{DestNode: `x","type":100`}, envelope.BadRequest},
			{envelope.Envelope{DestNode: "x", Body: []byte(`"n":1,"id":"y"`)}, envelope.BadRequest},
			{envelope.Envelope{DestNode: "x", Body: make([]byte, 100)}, envelope.TooLarge},
		} {
			if _, err := c.Send(t.Context(), tt.e); envelope.CodeOf(err) != tt.code {
				t.Errorf("%+v: %v", tt.e, err)
			}
		}
	})
}

func TestReceiveResumesAfterWhatWasHandled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var hellos []envelope.Control
		s := &clienttest.Server{OnHello: func(_ *clienttest.Conn, h envelope.Control) { hellos = append(hellos, h) }}
		w.serve("a", s)
		c := w.start(client.Options{})
		for n := range 5 {
			s.Deliver(toBob(n + 1))
		}
		got := receive(t, c, 3) // asking for the third, two are handled
		synctest.Wait()
		s.Conn("bob").Abort()
		pass(time.Second)
		s.Deliver(toBob(6))
		got = append(got, receive(t, c, 3)...) // 4 and 5 have come twice
		if want := bodies(1, 6); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		idle(t, c)
		synctest.Wait()
		if len(hellos) != 2 {
			t.Fatalf("hellos %+v", hellos)
		}
		if first := hellos[0]; first.Cursors != nil || first.Epoch != "" || !*first.Resume {
			t.Errorf("first hello %+v", first)
		}
		if again := hellos[1]; again.Cursors["node:bob"] != 2 || again.Epoch != "first" || !*again.Resume {
			t.Errorf("second hello %+v", again)
		}
	})
}

func TestCursorsGivenAndFromNow(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    client.Options
		want []string
	}{
		{"stored", client.Options{}, bodies(1, 4)},
		{"given", client.Options{Cursors: map[envelope.Address]uint64{bob: 2}, Epoch: "first"}, bodies(3, 4)},
		{"from now", client.Options{FromNow: true}, bodies(4, 4)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := new(clienttest.Server)
				w.serve("a", s)
				for n := range 3 {
					s.Deliver(toBob(n + 1))
				}
				c := w.start(tt.o)
				synctest.Wait()
				s.Conn("bob").Abort() // what is left out stays left out
				pass(time.Second)
				s.Deliver(toBob(4))
				if got := receive(t, c, len(tt.want)); !slices.Equal(got, tt.want) {
					t.Errorf("got %v", got)
				}
				idle(t, c)
			})
		})
	}
}

func TestDuplicatesAreDroppedPerLog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		conn := s.Conn("bob")
		for _, e := range []envelope.Envelope{
			{DestNode: "bob", Seq: 1, Body: []byte(`"n":1`)},
			{DestNode: "bob", Seq: 1, Body: []byte(`"n":1`)},
			{DestSession: "s", Seq: 1, Body: []byte(`"n":2`)},
			{DestNode: "bob", DestSession: "s", Seq: 2, Body: []byte(`"n":3`)}, // in bob's own log
			{DestNode: "bob", Seq: 2, Body: []byte(`"n":3`)},
			{DestNode: "bob", Body: []byte(`"n":4`)}, // not stored: never a duplicate
			{DestNode: "bob", Body: []byte(`"n":5`)},
		} {
			conn.WriteMessage(e)
		}
		if got := receive(t, c, 5); !slices.Equal(got, bodies(1, 5)) {
			t.Errorf("got %v", got)
		}
		idle(t, c)
	})
}

func TestGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var told []string
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{OnGap: func(g client.Gap) { told = append(told, fmt.Sprint(g.Log, g.Floor)) }})
		synctest.Wait()
		for n := 3; n <= 6; n++ {
			s.Conn("bob").WriteMessage(envelope.Envelope{DestNode: "bob", Seq: uint64(n), Body: fmt.Appendf(nil, `"n":%d`, n)})
		}
		synctest.Wait()
		receive(t, c, 2) // 3 is handled
		s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlGap, Log: "node:bob", Floor: 3})
		s.Conn("bob").WriteMessage(envelope.Envelope{DestNode: "bob", Seq: 2, Body: []byte(`"n":2`)})
		s.Conn("bob").WriteMessage(envelope.Envelope{DestNode: "bob", Seq: 3, Body: []byte(`"n":3`)})
		synctest.Wait() // the gap is known before 4 is handled
		receive(t, c, 2)
		if told != nil {
			t.Errorf("told of %v before its place", told)
		}
		// Handling 6, which is of the time before the gap, must not count.
		if got := receive(t, c, 1); got[0] != `"n":3` || len(told) != 1 || told[0] != "node:bob 3" {
			t.Errorf("got %v, gaps %v", got, told)
		}
		if n := c.Cursors()[bob]; n != 2 {
			t.Errorf("cursor %d", n)
		}
	})
}

// A gap that the user has not been told of comes again with the next
// connection, and is told once; what it skips is not handled before.
func TestGapIsHandledWhenTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		gaps := 0
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{OnGap: func(client.Gap) { gaps++ }})
		synctest.Wait()
		after := func() {
			s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlGap, Log: "node:bob", Floor: 50})
			s.Conn("bob").WriteMessage(envelope.Envelope{DestNode: "bob", Seq: 50, Body: []byte(`"n":50`)})
			synctest.Wait()
		}
		for n := 1; n <= 3; n++ {
			s.Deliver(toBob(n))
		}
		receive(t, c, 3) // 2 are handled
		after()
		if n := c.Cursors()[bob]; n != 2 {
			t.Errorf("cursor %d before the user was told", n)
		}
		s.Conn("bob").Abort()
		pass(time.Second)
		after()
		if got := receive(t, c, 1); got[0] != `"n":50` || gaps != 1 {
			t.Errorf("got %v, %d gaps", got, gaps)
		}
		if n := c.Cursors()[bob]; n != 49 {
			t.Errorf("cursor %d after the user was told", n)
		}
		idle(t, c)
	})
}

// A gap, and what is handled after it, is acknowledged as soon as anything else.
func TestGapIsAcknowledged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		acked := make(map[envelope.Address]uint64)
		s := &clienttest.Server{OnAck: func(_ *clienttest.Conn, cursors map[envelope.Address]uint64) { maps.Copy(acked, cursors) }}
		w.serve("a", s)
		c := w.start(client.Options{})
		synctest.Wait()
		s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlGap, Log: "node:bob", Floor: 50})
		s.Conn("bob").WriteMessage(envelope.Envelope{DestNode: "bob", Seq: 50, Body: []byte(`"n":50`)})
		receive(t, c, 1)
		pass(1100 * time.Millisecond)
		if acked[bob] != 49 {
			t.Errorf("acknowledged up to %d", acked[bob])
		}
		idle(t, c) // the one before is handled
		pass(1100 * time.Millisecond)
		if acked[bob] != 50 {
			t.Errorf("acknowledged up to %d", acked[bob])
		}
	})
}

func TestNewEpochStartsOver(t *testing.T) {
	for _, tt := range []struct {
		name string
		take int // before the change; one less is handled
		gaps int // told of the logs named in the hello
	}{
		{"known", 3, 1},
		{"nothing handled, so no cursor that the server could call wrong", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				gaps := 0
				s := new(clienttest.Server)
				w.serve("a", s)
				c := w.start(client.Options{OnGap: func(client.Gap) { gaps++ }})
				for n := range 3 {
					s.Deliver(toBob(n + 1))
				}
				got := receive(t, c, tt.take)
				synctest.Wait()
				s.NewEpoch("second")
				s.Conn("bob").Abort()
				pass(time.Second)
				s.Deliver(toBob(4))
				got = append(got, receive(t, c, 4-tt.take)...)
				if !slices.Equal(got, bodies(1, 4)) || gaps != tt.gaps || c.Epoch() != "second" {
					t.Errorf("got %v, %d gaps, epoch %q", got, gaps, c.Epoch())
				}
			})
		})
	}
}

func TestCaughtUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		s.Deliver(toBob(1))
		var heads map[envelope.Address]uint64
		c := w.start(client.Options{OnCaughtUp: func(h map[envelope.Address]uint64) { heads = h }})
		receive(t, c, 1)
		if heads != nil {
			t.Error("told before the last message was handled")
		}
		idle(t, c)
		if heads[bob] != 1 {
			t.Errorf("heads %v", heads)
		}
	})
}

func TestAckCadence(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		type told struct {
			at  time.Duration
			seq uint64
		}
		var acks []told
		start := time.Now()
		s := &clienttest.Server{OnAck: func(_ *clienttest.Conn, c map[envelope.Address]uint64) {
			acks = append(acks, told{time.Since(start), c[bob]})
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		for n := range 100 {
			s.Deliver(toBob(n + 1))
		}
		synctest.Wait()
		start = time.Now()
		receive(t, c, 33) // 32 handled
		synctest.Wait()
		receive(t, c, 7)
		pass(10 * time.Second)
		want := []told{{0, 32}, {time.Second, 39}}
		if !slices.Equal(acks, want) {
			t.Errorf("acks %v, want %v", acks, want)
		}
		receive(t, c, 1)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if last := acks[len(acks)-1]; last.seq != 40 || len(acks) != 3 {
			t.Errorf("acks %v", acks)
		}
		if _, err := c.Receive(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
		if c.State() != client.Closed {
			t.Error(c.State())
		}
	})
}

func TestManualAck(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{ManualAck: true})
		for n := range 3 {
			s.Deliver(toBob(n + 1))
		}
		var got []client.Message
		for range 3 {
			m, err := c.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		c.Ack(got[1])
		c.Ack(got[0]) // never backwards
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := s.Acked("bob")[bob]; n != 2 {
			t.Errorf("acknowledged %d", n)
		}
	})
}

func TestAcknowledgementLostWithTheConnectionIsRepeated(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		acks := 0
		s := &clienttest.Server{OnAck: func(*clienttest.Conn, map[envelope.Address]uint64) { acks++ }}
		w.serve("a", s)
		c := w.start(client.Options{})
		s.Deliver(toBob(1))
		s.Deliver(toBob(2))
		receive(t, c, 2)
		pass(2 * time.Second)
		s.Conn("bob").Abort()
		pass(10 * time.Second)
		if acks != 2 || s.Acked("bob")[bob] != 1 {
			t.Errorf("%d acks, cursors %v", acks, s.Acked("bob"))
		}
	})
}

func TestSlowUserHoldsUpTheServer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{Buffer: 10})
		synctest.Wait()
		const all = 3000 // more than the buffers on the way hold
		for n := range all {
			s.Deliver(toBob(n + 1))
		}
		pass(time.Minute)
		if held := s.Conn("bob").Queued(); held < all/2 {
			t.Errorf("only %d frames wait at the server", held)
		}
		if got := receive(t, c, all); !slices.Equal(got, bodies(1, all)) {
			t.Error("not what was sent")
		}
	})
}

func TestSendWhileNobodyReceives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{Buffer: 10})
		synctest.Wait()
		for n := range 3000 {
			s.Deliver(toBob(n + 1))
		}
		synctest.Wait()
		// The answer is behind the messages, and who waits for it does not receive.
		if _, err := c.Send(t.Context(), toDevice("carol", 1)); err != nil {
			t.Error(err)
		}
	})
}

func TestMessagesEndsWithTheReason(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		c := w.start(client.Options{})
		s.Deliver(toBob(1))
		var got []string
		for m, err := range c.Messages(t.Context()) {
			if err != nil {
				got = append(got, string(envelope.CodeOf(err)))
				continue
			}
			got = append(got, string(m.Body))
			s.Conn("bob").Close(envelope.Replaced.CloseCode())
		}
		if want := []string{`"n":1`, "replaced"}; !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

func TestDialGivesUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := client.Options{Servers: []string{"http://nowhere"}, AuthKey: "bob", HTTPClient: w.net.Client()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := client.Dial(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		w.serve("a", new(clienttest.Server))
		o.Servers, o.AuthKey = []string{"http://a"}, "not an id"
		if _, err := client.Dial(t.Context(), o); envelope.CodeOf(err) != envelope.Unauthorized {
			t.Error(err)
		}
	})
}
