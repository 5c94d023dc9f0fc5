package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func TestAcrossServers(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		start := time.Now()
		ack := alice.send(to(deviceAddr("bob"), "1", "hi"))
		m.within(100*time.Millisecond, "bob has it", func() bool { return len(bob.texts()) == 1 })
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
		got := bob.messages()[0]
		if got.SrcNode != "alice" || got.SrcClient != "alice" || got.Seq != ack.Seq || ack.Seq != 1 || ack.Log != deviceAddr("bob") || text(got.Envelope) != "hi" {
			t.Errorf("got %+v, ack %+v", got, ack)
		}
	})
}

func TestClientWithDevicesOnTwoServers(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		phone := m.device("bob", "bob-phone", "b").connected(m)
		laptop := m.device("bob", "bob-laptop", "c").connected(m)
		alice := m.client("alice", "a").connected(m)
		alice.send(to(user("bob"), "1", "for both"))
		alice.send(to(deviceAddr("bob-phone"), "2", "for one"))
		phone.send(to(user("bob"), "3", "from the phone")) // gets no copy of its own
		pass(time.Second)
		if got := slices.Sorted(slices.Values(phone.texts())); !slices.Equal(got, []string{"for both", "for one"}) { // of two logs, in either order
			t.Errorf("phone got %q", got)
		}
		if got := laptop.texts(); !slices.Equal(got, []string{"for both", "from the phone"}) {
			t.Errorf("laptop got %q", got)
		}
	})
}

func TestSessionAcrossServers(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		var members []*device
		for _, id := range []string{"a", "b", "c"} {
			members = append(members, m.client("at-"+id, id).connected(m))
		}
		if _, err := members[0].CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, d := range members[1:] {
			if _, err := d.JoinSession(t.Context(), "room"); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Second)
		for i := range 9 {
			members[i%3].send(to(room("room"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		pass(time.Second)
		for i, d := range members {
			var want []string
			for k := range 9 {
				if k%3 != i {
					want = append(want, fmt.Sprint(k))
				}
			}
			var got []string
			for _, msg := range d.messages() {
				if !msg.HasType {
					got = append(got, text(msg.Envelope))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("member %d got %q, want %q", i, got, want)
			}
		}
	})
}

// What waits for a device is there wherever it connects: in order, once it is
// acknowledged never again, and unacknowledged again under the same number.
func TestWaitingMessages(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 250 { // more than a page
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		bob := m.raw("bob", "c")
		if h := bob.hello(""); h.Heads["node:bob"] != 250 || h.NodeID != "c" || h.Epoch == "" || h.Window != windowMessages || h.PingS != 25 {
			t.Errorf("hello is %+v", h)
		}
		var seqs []uint64
		for i := range 250 {
			seqs = append(seqs, bob.message(fmt.Sprint(i)).Seq)
		}
		for i, seq := range seqs {
			if seq != uint64(i+1) {
				t.Fatalf("message %d has seq %d", i, seq)
			}
		}
		if c := bob.control("caught_up"); c.Heads["node:bob"] != 250 {
			t.Errorf("caught up to %v", c.Heads)
		}
		bob.send(`{"control":"ack","cursors":{"node:bob":248}}`)
		pass(time.Second)
		_ = bob.ws.CloseNow()

		bob = m.raw("bob", "b")
		bob.hello("")
		if e := bob.message("248"); e.Seq != 249 {
			t.Errorf("seq %d, want 249", e.Seq)
		}
		bob.message("249")
		bob.control("caught_up")
		alice.send(to(deviceAddr("bob"), "live", "live"))
		if e := bob.message("live"); e.Seq != 251 {
			t.Errorf("seq %d, want 251", e.Seq)
		}
		bob.send(`{"control":"ack","cursors":{"node:bob":99999}}`) // counts up to what was sent
		pass(time.Second)
		cursors, err := m.store.Cursors(t.Context(), "bob")
		if err != nil || len(cursors) != 1 || cursors[0].Delivered != 251 {
			t.Errorf("cursors are %v, %v", cursors, err)
		}
	})
}

// The same id twice is one message, also through different servers and over
// HTTP; another body under the same id is a conflict.
func TestRepeatedSend(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.client("bob", "b").connected(m)
		var r *raw
		for _, at := range []string{"a", "b", "a"} {
			pass(time.Second) // of two connections at the same moment either may be the newer one
			r = m.raw("alice", at)
			r.send(`{"id":"1","dest_id":"bob","payload":"hi"}`)
			if ack := r.control("ack"); ack.Seq != 1 || ack.Log != "node:bob" || ack.ID != "1" {
				t.Errorf("ack is %+v", ack)
			}
		}
		r.send(`{"id":"1","dest_id":"bob","payload":"other"}`)
		if nack := r.control("nack"); nack.Code != envelope.Conflict || nack.ID != "1" {
			t.Errorf("nack is %+v", nack)
		}
		for _, at := range []string{"b", "a"} { // over HTTP just as well
			api := m.api("alice", "alice", at)
			if ack, err := api.SendHTTP(t.Context(), to(deviceAddr("bob"), "1", "hi")); err != nil || ack.Seq != 1 || ack.Log != deviceAddr("bob") {
				t.Errorf("at %s: %+v, %v", at, ack, err)
			}
			if _, err := api.SendHTTP(t.Context(), to(deviceAddr("bob"), "1", "other")); envelope.CodeOf(err) != envelope.Conflict {
				t.Errorf("another body at %s: %v", at, err)
			}
		}
		pass(time.Second)
		if got := bob.texts(); !slices.Equal(got, []string{"hi"}) {
			t.Errorf("bob got %q", got)
		}
	})
}
