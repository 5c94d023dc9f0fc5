package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// marksHeard keeps what a device hears of the user's reading.
type marksHeard struct {
	mu  sync.Mutex
	got []string
}

func (h *marksHeard) add(at map[envelope.Address]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for log, seq := range at {
		h.got = append(h.got, fmt.Sprint(log, " ", seq))
	}
}

func (h *marksHeard) take(m *mesh) []string {
	m.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.got
	h.got = nil
	slices.Sort(got)
	return got
}

func TestReadMarksReachOtherDevices(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		var h marksHeard
		want := func(what string, want ...string) {
			t.Helper()
			pass(2 * time.Second)
			if got := h.take(m); !slices.Equal(got, want) {
				t.Errorf("%s: heard %q, want %q", what, got, want)
			}
		}
		alice := m.client("alice", "a").connected(m)
		phone := m.device("bob", "bob-phone", "a").connected(m)
		laptop := m.deviceWith("bob", "bob-laptop", client.Options{OnRead: h.add}, "b").connected(m)
		if _, err := phone.CreateSession(t.Context(), "of-bob-phone", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			alice.send(to(user("bob"), fmt.Sprint(i), "x"))
		}
		pass(time.Second)
		phone.MarkRead(user("bob"), 3)
		want("the first", "client:bob 3")
		phone.MarkRead(user("bob"), 2)
		want("behind")
		phone.MarkRead(deviceAddr("bob-phone"), 1)
		phone.MarkRead(room("of-bob-phone"), 1)
		want("logs of the phone only")
		phone.MarkRead(user("bob"), 77)
		want("beyond the log", "client:bob 5")

		if _, err := laptop.JoinSession(t.Context(), "of-bob-phone"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		alice.send(to(user("bob"), "6", "x"))
		laptop.MarkRead(user("bob"), 6)
		want("its own")

		// A device that comes later learns where the user is, once and of what it follows.
		tablet := m.rawDevice("bob", "bob-tablet", "b")
		tablet.hello("")
		if c := tablet.control("read"); !maps.Equal(c.Cursors, map[string]uint64{"client:bob": 6}) {
			t.Errorf("a new device is told %v", c.Cursors)
		}
		for range 6 {
			tablet.message("x")
		}
		tablet.control("caught_up")
		_ = tablet.ws.CloseNow()

		// One that has left and comes again elsewhere, too.
		laptop.close()
		m.deviceWith("bob", "bob-laptop", client.Options{OnRead: h.add}, "a").connected(m)
		want("after coming again", "client:bob 6", "session:of-bob-phone 1")
		cursors, err := m.store.Cursors(t.Context(), inbox.UserReader("bob"))
		at := make(map[envelope.Address]inbox.Cursor)
		for _, c := range cursors {
			at[c.Log] = c
		}
		if err != nil || len(at) != 2 || at[user("bob")].Read != 6 || at[user("bob")].Delivered != 0 || at[room("of-bob-phone")].Read != 1 {
			t.Errorf("the user's cursors are %v, %v", cursors, err)
		}

		who := envelope.Principal{Node: "bob-phone", Client: "bob"}
		alice.send(to(user("bob"), "7", "x"))
		if _, err := m.at("b").Do(t.Context(), who, gateway.MarkRead{Cursors: []envelope.Position{{Log: user("bob"), Seq: 7}}}); err != nil {
			t.Fatal(err)
		}
		want("without a connection", "client:bob 7")
	})
}

// What has been read has been delivered: it does not come again.
func TestReadMarkAcknowledges(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 3 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		bob := m.raw("bob", "a")
		bob.hello("")
		for i := range 3 {
			bob.message(fmt.Sprint(i))
		}
		bob.control("caught_up")
		bob.send(`{"control":"read","cursors":{"node:bob":2}}`)
		pass(100 * time.Millisecond)
		_ = bob.ws.CloseNow()
		pass(2 * time.Second)
		bob = m.raw("bob", "b")
		bob.hello("")
		if c := bob.control("read"); c.Cursors["node:bob"] != 2 {
			t.Errorf("told %v", c.Cursors)
		}
		bob.message("2")
		bob.control("caught_up")
	})
}

// A session is marked up to the end of the last stay, and by members only.
func TestReadMarksInASessionThatWasLeft(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		owner := m.client("owner", "a").connected(m)
		bob := m.api("bob", "bob", "a")
		if _, err := owner.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		if _, err := bob.JoinSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
		left, err := bob.LeaveSession(t.Context(), "room")
		if err != nil {
			t.Fatal(err)
		}
		owner.send(to(room("room"), "1", "after"))
		for _, id := range []string{"bob", "eve"} {
			who := envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}
			if _, err := m.at("a").Do(t.Context(), who, gateway.MarkRead{Cursors: []envelope.Position{{Log: room("room"), Seq: 99}}}); err != nil {
				t.Fatal(err)
			}
		}
		cursors, err := m.store.Cursors(t.Context(), "bob")
		if err != nil || len(cursors) != 1 || cursors[0].Read != left.Seq {
			t.Errorf("cursors are %v, %v; left at %d", cursors, err, left.Seq)
		}
		if cursors, _ := m.store.Cursors(t.Context(), "eve"); len(cursors) != 0 {
			t.Errorf("one who never was a member has %v", cursors)
		}
	})
}

// A device that stands still hears of the newest mark when it goes on.
func TestReadMarkReachesASlowReader(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		phone := m.device("bob", "bob-phone", "a").connected(m)
		slow := m.rawDevice("bob", "bob-laptop", "a")
		slow.hello("")
		slow.control("caught_up")
		filler := strings.Repeat("x", 32<<10)
		const n = 60 // of which one window of 1 MiB waits
		for i := range n {
			alice.send(to(user("bob"), fmt.Sprint(i), filler))
		}
		for seq := range uint64(n) {
			phone.MarkRead(user("bob"), seq+1)
			pass(100 * time.Millisecond)
		}
		pass(2 * time.Second)
		var last uint64
		for messages := 0; messages < n || last < n; {
			f, err := slow.next(10 * time.Second)
			if err != nil {
				t.Fatalf("after %d messages and mark %d: %v", messages, last, err)
			}
			if f.ctl.Control == "" {
				messages++
				continue
			}
			if seq := f.ctl.Cursors["client:bob"]; f.ctl.Control != "read" || seq <= last {
				t.Fatalf("after mark %d came %+v", last, f.ctl)
			} else {
				last = seq
			}
		}
	})
}
