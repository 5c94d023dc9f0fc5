package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// receiptsHeard keeps the receipts that a device was told.
type receiptsHeard struct {
	mu  sync.Mutex
	got []client.Receipt
}

func (h *receiptsHeard) add(r client.Receipt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, r)
}

// take returns what came since the last call, in the form "state seq device".
func (h *receiptsHeard) take(m *mesh) (all []string) {
	m.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.got {
		all = append(all, fmt.Sprintf("%s %d %s", map[bool]string{true: "read", false: "delivered"}[r.Read], r.Seq, r.Node))
	}
	h.got = nil
	return all
}

// asking starts a device that keeps the receipts it is told.
func (m *mesh) asking(clientID, id, at string) (*device, *receiptsHeard) {
	m.t.Helper()
	h := new(receiptsHeard)
	return m.deviceWith(clientID, id, client.Options{OnReceipt: h.add}, at).connected(m), h
}

func wantReceipts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// withReceipt is to, asking for receipts.
func withReceipt(addr envelope.Address, id string) envelope.Envelope {
	e := to(addr, id, id)
	e.Receipt = true
	return e
}

// Delivered and read reach the sender from another server: for the newest
// message only, forward only, and only to those who asked.
func TestReceipts(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, aliceTold := m.asking("alice", "alice", "a")
		carol, carolTold := m.asking("carol", "carol", "b")
		bob := m.raw("bob", "b")
		bob.hello("")
		bob.control("caught_up")
		for i := range 5 {
			alice.send(withReceipt(user("bob"), fmt.Sprint(i)))
			bob.message(fmt.Sprint(i))
		}
		carol.send(to(user("bob"), "c", "not asked for"))
		bob.message("not asked for")
		wantReceipts(t, "before the acknowledgement", aliceTold.take(m))
		steps := []struct {
			frame string
			want  []string
		}{
			{`{"control":"ack","cursors":{"client:bob":3}}`, []string{"delivered 3 bob"}},
			{`{"control":"ack","cursors":{"client:bob":3}}`, nil},
			{`{"control":"ack","cursors":{"client:bob":2}}`, nil},
			{`{"control":"read","cursors":{"client:bob":2}}`, []string{"read 2 bob"}},
			{`{"control":"read","cursors":{"client:bob":1}}`, nil},
			{`{"control":"read","cursors":{"client:bob":4}}`, []string{"read 4 bob"}}, // and so delivered
			{`{"control":"ack","cursors":{"client:bob":4}}`, nil},
			{`{"control":"ack","cursors":{"client:bob":6}}`, []string{"delivered 5 bob"}},
			{`{"control":"read","cursors":{"client:bob":99}}`, []string{"read 5 bob"}}, // the log has 6
			{`{"control":"read","cursors":{"client:carol":99,"node:bob":99,"session:none":1}}`, nil},
		}
		for _, step := range steps {
			bob.send(step.frame)
			pass(2 * time.Second)
			wantReceipts(t, step.frame, aliceTold.take(m), step.want...)
		}
		wantReceipts(t, "who did not ask", carolTold.take(m))
		cursors, err := m.store.Cursors(t.Context(), "bob")
		want := inbox.Cursor{Node: "bob", Log: user("bob"), Delivered: 6, Read: 6}
		if err != nil || !slices.Equal(cursors, []inbox.Cursor{want}) {
			t.Errorf("cursors are %v, %v", cursors, err)
		}
		if n := m.at("b").stats.Receipts.Load(); n != 5 {
			t.Errorf("%d receipts counted", n)
		}
	})
}

// Where only moderators may see who is in a session, nobody else is told who
// reads what it has sent there.
func TestReceiptsHidden(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		m.must("carol", "/v1/sessions/r/join", "")
		alice, aliceTold := m.asking("alice", "alice", "a")
		bob, bobTold := m.asking("bob", "bob", "a")
		carol := m.listens("carol", "b")
		for i, tt := range []struct {
			list       string
			alice, bob []string
		}{
			{"members", []string{"delivered 5 bob", "delivered 5 carol"}, []string{"delivered 6 alice", "delivered 6 carol"}},
			{"moderators", []string{"delivered 8 bob", "delivered 8 carol"}, nil},
			{"members", []string{"delivered 11 bob", "delivered 11 carol"}, []string{"delivered 12 alice", "delivered 12 carol"}},
		} {
			if code, text := m.do(http.MethodPatch, "alice", "a", "/v1/sessions/r", `{"member_list":"`+tt.list+`"}`); code != "" {
				t.Fatal(text)
			}
			if i == 0 { // nothing has changed
				m.must("alice", "/v1/messages", `{"dest_session_id":"r","payload":""}`)
			}
			pass(time.Second)
			alice.send(withReceipt(room("r"), fmt.Sprint("a", i)))
			pass(time.Second)
			bob.send(withReceipt(room("r"), fmt.Sprint("b", i)))
			carol.take()
			carol.send(`{"control":"ack","cursors":{"session:r":99}}`)
			pass(2 * time.Second)
			for _, of := range []struct {
				told *receiptsHeard
				want []string
			}{{aliceTold, tt.alice}, {bobTold, tt.bob}} {
				got := of.told.take(m)
				slices.Sort(got)
				wantReceipts(t, tt.list, got, of.want...)
			}
		}
	})
}

// The receipt names the message, its log, and who has it.
func TestReceiptSays(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		_, h := m.asking("alice", "alice", "a")
		m.device("bob", "bob-phone", "a").connected(m)
		if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), withReceipt(user("bob"), "7")); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		want := client.Receipt{ID: "7", Log: user("bob"), Seq: 1, Node: "bob-phone", Client: "bob"}
		if !slices.Equal(h.got, []client.Receipt{want}) {
			t.Errorf("told %+v", h.got)
		}
	})
}

// Each device gives its own receipts; a sender's other devices give none.
func TestReceiptsOfDevices(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice-phone", "a")
		laptop := m.device("alice", "alice-laptop", "b").connected(m)
		phone := m.device("bob", "bob-phone", "b").connected(m)
		tablet := m.device("bob", "bob-tablet", "a").connected(m)
		alice.send(withReceipt(user("bob"), "1"))
		alice.send(withReceipt(user("alice"), "2"))
		alice.send(withReceipt(deviceAddr("alice-laptop"), "3"))
		pass(3 * time.Second)
		got := h.take(m)
		slices.Sort(got)
		wantReceipts(t, "delivered", got, "delivered 1 bob-phone", "delivered 1 bob-tablet")
		tablet.MarkRead(user("bob"), 1)
		laptop.MarkRead(user("alice"), 1)
		pass(3 * time.Second)
		wantReceipts(t, "read on one", h.take(m), "read 1 bob-tablet")
		phone.MarkRead(user("bob"), 1)
		pass(3 * time.Second)
		wantReceipts(t, "read on the other", h.take(m), "read 1 bob-phone")
	})
}

// In a session every member's device gives receipts, to each sender for its own.
func TestReceiptsInSession(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, aliceTold := m.asking("alice", "alice", "a")
		bob, bobTold := m.asking("bob", "bob", "b")
		carol, carolTold := m.asking("carol", "carol", "b")
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*device{bob, carol} {
			if _, err := d.JoinSession(t.Context(), "room"); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * time.Second)
		first := alice.send(withReceipt(room("room"), "1")).Seq
		second := bob.send(withReceipt(room("room"), "2")).Seq
		pass(3 * time.Second)
		got := aliceTold.take(m)
		slices.Sort(got)
		wantReceipts(t, "alice", got, fmt.Sprintf("delivered %d bob", first), fmt.Sprintf("delivered %d carol", first))
		got = bobTold.take(m)
		slices.Sort(got)
		wantReceipts(t, "bob", got, fmt.Sprintf("delivered %d alice", second), fmt.Sprintf("delivered %d carol", second))
		carol.MarkRead(room("room"), second)
		pass(3 * time.Second)
		wantReceipts(t, "alice", aliceTold.take(m), fmt.Sprintf("read %d carol", first))
		wantReceipts(t, "bob", bobTold.take(m), fmt.Sprintf("read %d carol", second))
		wantReceipts(t, "carol", carolTold.take(m))
	})
}

// Who has left a session is not told what its members do there.
func TestReceiptsAfterLeaving(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, aliceTold := m.asking("alice", "alice", "a")
		bob, _ := m.asking("bob", "bob", "b")
		if _, err := bob.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.JoinSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		seq := alice.send(withReceipt(room("room"), "1")).Seq
		pass(3 * time.Second)
		wantReceipts(t, "a member", aliceTold.take(m), fmt.Sprintf("delivered %d bob", seq))
		if _, err := alice.LeaveSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		bob.MarkRead(room("room"), seq)
		pass(3 * time.Second)
		wantReceipts(t, "no member", aliceTold.take(m))
		if _, err := alice.JoinSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		seq = alice.send(withReceipt(room("room"), "2")).Seq
		pass(3 * time.Second)
		wantReceipts(t, "a member again", aliceTold.take(m), fmt.Sprintf("delivered %d bob", seq))
	})
}

// The acknowledgement comes with the hello of the next connection, on another
// server than the delivery.
func TestReceiptsAfterResume(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice", "a")
		bob := m.raw("bob", "a")
		bob.hello("")
		bob.control("caught_up")
		for i := range 3 {
			alice.send(withReceipt(deviceAddr("bob"), fmt.Sprint(i)))
			bob.message(fmt.Sprint(i))
		}
		_ = bob.ws.CloseNow()
		pass(2 * time.Second)
		wantReceipts(t, "not acknowledged", h.take(m))

		bob = m.raw("bob", "b")
		bob.hello(`,"cursors":{"node:bob":2}`)
		bob.message("2")
		bob.control("caught_up")
		pass(2 * time.Second)
		wantReceipts(t, "handled before", h.take(m), "delivered 2 bob")
		bob.send(`{"control":"read","cursors":{"node:bob":1}}`) // of the connection before
		pass(2 * time.Second)
		wantReceipts(t, "read before", h.take(m), "read 1 bob")
		bob.send(`{"control":"read","cursors":{"node:bob":3}}`)
		pass(2 * time.Second)
		wantReceipts(t, "all read", h.take(m), "read 3 bob")
		_ = bob.ws.CloseNow()

		bob = m.raw("bob", "a")
		bob.hello(`,"cursors":{"node:bob":3}`)
		bob.control("read")
		bob.control("caught_up")
		pass(2 * time.Second)
		wantReceipts(t, "known before", h.take(m))
	})
}

// Without a connection, or past one: the log tells who asked.
func TestReceiptsWithoutConnection(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice", "a")
		do := func(cmd gateway.Command) {
			t.Helper()
			who := envelope.Principal{Node: "bob", Client: "bob"}
			if ev, err := m.at("b").Do(t.Context(), who, cmd); err != nil || ev != (gateway.Done{}) {
				t.Fatalf("got %v, %v", ev, err)
			}
			pass(2 * time.Second)
		}
		at := func(seq uint64) []envelope.Position {
			return []envelope.Position{{Log: deviceAddr("bob"), Seq: seq}, {Log: deviceAddr("carol"), Seq: 9}, {Log: room("none"), Seq: 4}}
		}
		for i := range 3 {
			alice.send(withReceipt(deviceAddr("bob"), fmt.Sprint(i)))
		}
		do(gateway.Acknowledge{Cursors: at(2)})
		wantReceipts(t, "acknowledged", h.take(m), "delivered 2 bob")
		do(gateway.Acknowledge{Cursors: at(1)})
		wantReceipts(t, "behind", h.take(m))
		do(gateway.MarkRead{Cursors: at(1)})
		wantReceipts(t, "read", h.take(m), "read 1 bob")
		do(gateway.MarkRead{Cursors: at(99)})
		wantReceipts(t, "all read", h.take(m), "read 3 bob")
		do(gateway.Acknowledge{Cursors: at(3)})
		wantReceipts(t, "read already", h.take(m))

		bob := m.raw("bob", "b")
		bob.hello("")
		bob.control("read")
		bob.control("caught_up")
		alice.send(withReceipt(deviceAddr("bob"), "4"))
		bob.message("4")
		do(gateway.MarkRead{Cursors: at(4)}) // beside the connection, and told once
		wantReceipts(t, "beside a connection", h.take(m), "read 4 bob")
		bob.send(`{"control":"read","cursors":{"node:bob":4}}`)
		pass(2 * time.Second)
		wantReceipts(t, "once more over it", h.take(m))
		if cursors, _ := m.store.Cursors(t.Context(), "carol"); len(cursors) != 0 {
			t.Errorf("moved another device's %v", cursors)
		}
	})
}

// What a connection remembers is bounded; what it has forgotten, its log says,
// and of a log the newest entries are looked at.
func TestReceiptsOverflow(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice", "a")
		early, earlyTold := m.asking("early", "early", "a")
		late, lateTold := m.asking("late", "late", "a")
		bob := m.raw("bob", "b")
		bob.hello("")
		bob.control("caught_up")
		n := 0
		send := func(d *device) {
			n++
			d.send(withReceipt(deviceAddr("bob"), fmt.Sprint(n)))
			bob.message(fmt.Sprint(n))
		}
		send(early)
		for range 49 {
			send(alice)
		}
		send(late)
		for n < maxRemembered+110 {
			send(alice)
		}
		forgotten := uint64(n - maxRemembered) // 110; of these the last 100 are looked at
		if got := m.at("b").stats.ReceiptsForgotten.Load(); got != forgotten {
			t.Errorf("%d forgotten, want %d", got, forgotten)
		}
		bob.send(fmt.Sprintf(`{"control":"ack","cursors":{"node:bob":%d}}`, n))
		pass(2 * time.Second)
		wantReceipts(t, "alice", h.take(m), fmt.Sprintf("delivered %d bob", n))
		wantReceipts(t, "late", lateTold.take(m), "delivered 51 bob")
		wantReceipts(t, "early", earlyTold.take(m))
		if got := m.at("b").stats.ReceiptsUnknown.Load(); got != forgotten-lookBack {
			t.Errorf("%d not looked at, want %d", got, forgotten-lookBack)
		}
		c := m.at("b").conns.device("bob")
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.receipts.asked) != maxRemembered || len(c.receipts.moves) != 0 {
			t.Errorf("remembers %d, and %d to tell", len(c.receipts.asked), len(c.receipts.moves))
		}
	})
}

// A client that does not acknowledge for itself gives receipts by the pings
// that it answers.
func TestReceiptsOfLegacyClients(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice", "a")
		bob := m.legacy("bob", "b")
		alice.send(withReceipt(deviceAddr("bob"), "1"))
		bob.message("1")
		go func() { _, _ = bob.next(5 * time.Second) }() // answers pings
		pass(3 * time.Second)
		wantReceipts(t, "alice", h.take(m), "delivered 1 bob")
		pass(5 * time.Second)
	})
}

// A message that may have come too late gives no receipt.
func TestReceiptsOfExpired(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice, h := m.asking("alice", "alice", "a")
		bob := m.raw("bob", "a")
		bob.hello("")
		bob.control("caught_up")
		e := withReceipt(deviceAddr("bob"), "1")
		e.TTL = 5
		alice.send(e)
		bob.message("1")
		e.ID = "2"
		alice.send(e)
		bob.message("1")
		bob.send(`{"control":"ack","cursors":{"node:bob":1}}`)
		pass(6 * time.Second)
		wantReceipts(t, "in time", h.take(m), "delivered 1 bob")
		bob.send(`{"control":"ack","cursors":{"node:bob":2}}`)
		pass(time.Second)
		wantReceipts(t, "too late", h.take(m))
		_, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, gateway.MarkRead{Cursors: []envelope.Position{{Log: deviceAddr("bob"), Seq: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		wantReceipts(t, "read too late", h.take(m))
	})
}

// Nothing comes before the answer to hello, not even a receipt.
func TestNoticeBeforeHello(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		a := m.at("a")
		alice := m.raw("alice", "a")
		pass(10 * time.Millisecond)
		c := a.conns.device("alice")
		if err := c.attach(t.Context(), []envelope.Address{deviceAddr("alice")}, nil); err != nil {
			t.Fatal(err)
		}
		before := a.stats.DroppedNotice.Load()
		m.at("b").notify(deviceAddr("alice"), "", gateway.Receipt{Log: deviceAddr("bob"), Seq: 1, Node: "bob", Client: "bob"})
		pass(100 * time.Millisecond)
		if a.stats.DroppedNotice.Load() != before+1 {
			t.Error("the notice was not dropped")
		}
		alice.hello("")
		alice.control("caught_up")
	})
}

// lookUp respects the stays of a device in a session, and a context that ends.
func TestLookUp(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		a := m.at("a")
		for i := range 6 {
			e := withReceipt(room("room"), fmt.Sprint(i))
			e.SrcNode, e.SrcClient = envelope.NodeID(fmt.Sprint("sender", i/2)), "senders"
			if _, err := a.appendNotice(t.Context(), room("room"), &e); err != nil {
				t.Fatal(err)
			}
		}
		reader := envelope.Principal{Node: "bob", Client: "bob"}
		mv := move{log: room("room"), upto: 6, unknown: 6, stays: stays{spans: []session.Span{{From: 2, Until: 3}, {From: 6}}}}
		var got []string
		for _, x := range a.lookUp(t.Context(), reader, mv) {
			got = append(got, fmt.Sprint(x.src, " ", x.seq))
		}
		if want := []string{"sender0 2", "sender1 3", "sender2 6"}; !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("over"))
		for range maxLookUps {
			a.lookUps <- struct{}{}
		}
		if found := a.lookUp(ctx, reader, mv); len(found) != 0 || a.stats.ReceiptsUnknown.Load() != 6 {
			t.Errorf("found %v, %d unknown", found, a.stats.ReceiptsUnknown.Load())
		}
		for range maxLookUps {
			<-a.lookUps
		}
	})
}
