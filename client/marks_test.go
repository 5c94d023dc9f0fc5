package client_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// controls keeps what a client says to a server besides messages. Its fields
// are read when nothing runs.
type controls struct{ got []envelope.Control }

func (c *controls) take(_ *clienttest.Conn, f envelope.Control) { c.got = append(c.got, f) }

// marks returns the read marks told since the last call, frame by frame.
func (c *controls) marks() (all []map[string]uint64) {
	synctest.Wait()
	for _, f := range c.got {
		if f.Control == envelope.ControlRead {
			all = append(all, f.Cursors)
		}
	}
	c.got = nil
	return all
}

var (
	user = envelope.ClientID("u").Address()
	room = envelope.SessionID("s").Address()
)

func TestReadMarks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var said controls
		s := &clienttest.Server{OnControl: said.take}
		w.serve("a", s)
		c := w.start(client.Options{})
		check := func(what string, want ...map[string]uint64) {
			t.Helper()
			if got := said.marks(); !slices.EqualFunc(got, want, maps.Equal[map[string]uint64]) {
				t.Errorf("%s: told %v, want %v", what, got, want)
			}
		}
		c.MarkRead(user, 2) // before there is a connection
		pass(5 * time.Second)
		check("at first", map[string]uint64{"client:u": 2})

		c.MarkRead(user, 3)
		c.MarkRead(room, 7)
		c.MarkRead(user, 5)
		c.MarkRead(user, 4)               // behind
		c.MarkRead(envelope.Address{}, 9) // no log
		c.MarkRead(room, 1<<53+1)         // no seq
		pass(time.Second)
		check("together", map[string]uint64{"client:u": 5, "session:s": 7})
		c.MarkRead(user, 5)
		pass(time.Minute)
		check("nothing new")

		s.Conn("bob").Abort()
		pass(30 * time.Second)
		check("after a reconnect, once more", map[string]uint64{"client:u": 5, "session:s": 7})

		c.MarkRead(room, 8)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("before leaving", map[string]uint64{"session:s": 8})
	})
}

// A mark in a log that begins anew means nothing there.
func TestReadMarksAfterAGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var said controls
		s := &clienttest.Server{OnControl: said.take}
		w.serve("a", s)
		c := w.start(client.Options{})
		c.MarkRead(user, 20)
		c.MarkRead(room, 7)
		pass(5 * time.Second)
		said.marks()
		s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlGap, Log: "client:u", Floor: 1})
		s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlGap, Log: "session:s", Floor: 30})
		synctest.Wait()
		c.MarkRead(user, 2)
		pass(time.Second)
		if got := said.marks(); len(got) != 1 || !maps.Equal(got[0], map[string]uint64{"client:u": 2}) {
			t.Errorf("told %v", got)
		}
		s.NewEpoch("second")
		s.Conn("bob").Abort()
		pass(time.Minute)
		if got := said.marks(); len(got) != 0 {
			t.Errorf("told another store %v", got)
		}
	})
}

func TestReadElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		var got []map[envelope.Address]uint64
		c := w.start(client.Options{OnRead: func(at map[envelope.Address]uint64) { got = append(got, at) }})
		pass(5 * time.Second)
		tell := func(cursors map[string]uint64) {
			s.Conn("bob").WriteControl(envelope.Control{Control: envelope.ControlRead, Cursors: cursors})
			synctest.Wait()
		}
		c.MarkRead(room, 9)
		tell(map[string]uint64{"client:u": 3, "session:s": 4})
		tell(map[string]uint64{"client:u": 2})
		tell(map[string]uint64{"client:u": 3, "session:s": 12})
		tell(map[string]uint64{"nobody:u": 3})
		want := []map[envelope.Address]uint64{{user: 3}, {room: 12}}
		if !slices.EqualFunc(got, want, maps.Equal[map[envelope.Address]uint64]) {
			t.Errorf("heard %v, want %v", got, want)
		}
	})
}

func TestReceipts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &clienttest.Server{OnMessage: func(c *clienttest.Conn, e envelope.Envelope) bool {
			if e.Class != envelope.Volatile {
				return false
			}
			c.WriteControl(envelope.Control{Control: envelope.ControlAck, ID: e.ID, Offline: e.Receipt})
			return true
		}}
		w.serve("a", s)
		var got []client.Receipt
		c := w.start(client.Options{OnReceipt: func(r client.Receipt) { got = append(got, r) }})
		pass(5 * time.Second)
		told := envelope.Control{Control: envelope.ControlReceipt, ID: "1", Log: "client:u", Seq: 4, State: envelope.StateDelivered, NodeID: "phone", Client: "u"}
		for _, change := range []func(*envelope.Control){
			func(*envelope.Control) {},
			func(f *envelope.Control) { f.State = envelope.StateRead },
			func(f *envelope.Control) { f.State = "thrown away" },
			func(f *envelope.Control) { f.Log = "nobody" },
		} {
			f := told
			change(&f)
			s.Conn("bob").WriteControl(f)
		}
		synctest.Wait()
		want := client.Receipt{ID: "1", Log: user, Seq: 4, Node: "phone", Client: "u"}
		read := want
		read.Read = true
		if !slices.Equal(got, []client.Receipt{want, read}) {
			t.Errorf("told %+v", got)
		}
		for _, asked := range []bool{true, false} {
			ack, err := c.Send(t.Context(), envelope.Envelope{ID: "v", DestNode: "x", Class: envelope.Volatile, Receipt: asked})
			if err != nil || ack.Offline != asked {
				t.Errorf("answered %+v, %v", ack, err)
			}
		}
	})
}

// Frames that the client does not know, and members that it does not know in
// frames that it does, come from a newer server and do no harm.
func TestUnknownFrames(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := new(clienttest.Server)
		w.serve("a", s)
		var caught []map[envelope.Address]uint64
		c := w.start(client.Options{OnCaughtUp: func(heads map[envelope.Address]uint64) { caught = append(caught, heads) }})
		pass(5 * time.Second)
		for _, frame := range []string{
			`{"control":"weather","sky":"blue"}`,
			`{"control":"caught_up","heads":{"node:bob":77},"sky":"blue"}`,
			`{"control":"read","cursors":7}`,
			`{"control":"presence","presence":[{"client_id":"u","online":true,"mood":"good"}]}`,
			`{"control":"error","code":"bad_request","detail":"an older server: what is \"read\"?"}`,
		} {
			s.Conn("bob").WriteFrame(frame)
		}
		s.Deliver(toBob(1))
		if got := receive(t, c, 1); !slices.Equal(got, bodies(1, 1)) {
			t.Errorf("received %v", got)
		}
		if !slices.ContainsFunc(caught, func(heads map[envelope.Address]uint64) bool { return heads[bob] == 77 }) {
			t.Errorf("caught up to %v", caught)
		}
		if s.Calls() != 1 {
			t.Errorf("connected %d times", s.Calls())
		}
	})
}

// presenceServer answers presence frames: who is in online is.
func presenceServer(said *controls, online func(envelope.ClientID) bool) *clienttest.Server {
	return &clienttest.Server{OnControl: func(c *clienttest.Conn, f envelope.Control) {
		said.take(c, f)
		answer := envelope.Control{Control: envelope.ControlPresence}
		for _, id := range f.Clients {
			answer.Presence = append(answer.Presence, envelope.Presence{Client: id, Online: online(id)})
		}
		if f.Subscribe != nil && !*f.Subscribe {
			answer.Presence = nil
		}
		c.WriteControl(answer)
	}}
}

func TestPresence(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var said controls
		s := presenceServer(&said, func(id envelope.ClientID) bool { return id == "u" })
		w.serve("a", s)
		var heard []envelope.Presence
		c := w.start(client.Options{OnPresence: func(of []envelope.Presence) { heard = append(heard, of...) }})

		// Asked before there is a connection, and each once.
		got, err := c.Presence(t.Context(), "u", "v", "u")
		want := []envelope.Presence{{Client: "u", Online: true}, {Client: "v"}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
		if got, err := c.Presence(t.Context()); len(got) != 0 || err != nil {
			t.Errorf("of nobody: %v, %v", got, err)
		}
		if _, err := c.Presence(t.Context(), "bad id"); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("a bad id: %v", err)
		}
		synctest.Wait()
		heard, said.got = nil, nil

		c.SubscribePresence("v", "u", "bad id")
		c.SubscribePresence("u")
		c.SubscribeSessionPresence("s")
		pass(time.Second)
		subscriptions := func() (all []string) {
			for _, f := range said.got {
				if f.Subscribe == nil {
					t.Errorf("a question: %+v", f)
					continue
				}
				for _, id := range append(f.Clients, envelope.ClientID(f.Session)) {
					if id != "" {
						all = append(all, map[bool]string{true: "+", false: "-"}[*f.Subscribe]+string(id))
					}
				}
			}
			said.got = nil
			slices.Sort(all)
			return all
		}
		if got := subscriptions(); !slices.Equal(got, []string{"+s", "+u", "+v"}) {
			t.Errorf("subscribed to %v", got)
		}
		if !slices.Contains(heard, want[0]) || !slices.Contains(heard, want[1]) {
			t.Errorf("heard %v", heard)
		}
		c.UnsubscribePresence("v", "never")
		pass(time.Second)
		if got := subscriptions(); !slices.Equal(got, []string{"-v"}) {
			t.Errorf("took back %v", got)
		}
		s.Conn("bob").Abort()
		pass(30 * time.Second)
		if got := subscriptions(); !slices.Equal(got, []string{"+s", "+u"}) {
			t.Errorf("after a reconnect %v", got)
		}
		c.UnsubscribeSessionPresence("s")
		c.UnsubscribePresence("u")
		pass(time.Second)
		subscriptions()
		s.Conn("bob").Abort()
		pass(30 * time.Second)
		if got := subscriptions(); len(got) != 0 {
			t.Errorf("after the end of all %v", got)
		}
	})
}

// What is refused for now is asked again; what is refused for good ends the
// question and the subscription.
func TestPresenceRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var asked []time.Time
		refusal := envelope.Control{Control: envelope.ControlError, Code: envelope.Busy, RetryMS: 3000}
		s := &clienttest.Server{OnControl: func(c *clienttest.Conn, f envelope.Control) {
			asked = append(asked, time.Now())
			if len(asked) == 2 {
				c.Abort() // the question comes again on the next connection
				return
			}
			if len(asked) < 4 {
				c.WriteControl(refusal)
				return
			}
			c.WriteControl(envelope.Control{Control: envelope.ControlPresence, Presence: []envelope.Presence{{Client: f.Clients[0], LastSeen: 5}}})
		}}
		w.serve("a", s)
		c := w.start(client.Options{})
		got, err := c.Presence(t.Context(), "u")
		if err != nil || !reflect.DeepEqual(got, []envelope.Presence{{Client: "u", LastSeen: 5}}) || len(asked) != 4 {
			t.Fatalf("got %v, %v after %d attempts", got, err, len(asked))
		}
		if pause := asked[3].Sub(asked[2]); pause < 3*time.Second || pause > 4*time.Second {
			t.Errorf("asked again after %v", pause)
		}

		asked, refusal = nil, envelope.Control{Control: envelope.ControlError, Code: envelope.Forbidden}
		if _, err := c.Presence(t.Context(), "u"); envelope.CodeOf(err) != envelope.Forbidden || len(asked) != 1 {
			t.Errorf("got %v after %d attempts", err, len(asked))
		}
		asked = nil
		c.SubscribePresence("u")
		pass(10 * time.Second)
		s.Conn("bob").Abort()
		pass(30 * time.Second)
		if len(asked) != 1 {
			t.Errorf("subscribed %d times", len(asked))
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Presence(t.Context(), "u"); err != client.ErrClosed {
			t.Errorf("after the end: %v", err)
		}
	})
}
