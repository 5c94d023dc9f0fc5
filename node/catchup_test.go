package node

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// apart is a store that leaves one log out when several are read together.
type apart struct {
	inbox.Store
	log envelope.Address
}

func (s *apart) ReadMany(ctx context.Context, after map[envelope.Address]uint64, limit, maxBytes int) (map[envelope.Address][]envelope.Envelope, error) {
	pages, err := s.Store.ReadMany(ctx, after, limit, maxBytes)
	delete(pages, s.log)
	return pages, err
}

// A log that cannot be read together with others does not wait until there is
// nothing more in those.
func TestLogLeftOut(t *testing.T) {
	config := func(c *Config) { c.Inbox = &apart{c.Inbox, user("bob")} }
	inMeshOf(t, 1, config, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 1000 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), "much"))
		}
		alice.send(to(user("bob"), "one", "one"))
		bob := m.raw("bob", "a")
		bob.hello("")
		for before := 0; ; before++ {
			f, err := bob.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if f.ctl.Control == "" && text(f.msg) == "one" {
				break
			}
			if before > 2*togetherEntries {
				t.Fatal("it is not among the first")
			}
		}
	})
}

// Who has not acknowledged a gap is told of it again, whatever else it has
// acknowledged.
func TestGapToldAgain(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "b").connected(m)
		phone := m.rawDevice("bob", "phone", "a")
		phone.hello("")
		phone.control("caught_up")
		alice.send(to(user("bob"), "1", "1"))
		phone.message("1")
		m.cut("a", "b")
		for i := 2; i <= 5; i++ {
			alice.send(to(user("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		// Its own message shows it that it has missed some, which are gone when it looks.
		store := m.at("a").store
		store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "read" {
					return errAway
				}
				return nil
			}
		})
		if _, err := m.api("bob", "phone", "a").SendHTTP(t.Context(), to(user("bob"), "6", "6")); err != nil {
			t.Fatal(err)
		}
		if err := m.store.Trim(t.Context(), user("bob"), 6, time.Now()); err != nil {
			t.Fatal(err)
		}
		store.set(func(f *faultyStore) { f.before = nil })
		phone.control("gap")
		phone.send(`{"control":"ack","cursors":{"client:bob":1}}`)
		pass(2 * time.Second)
		phone = m.rawDevice("bob", "phone", "a")
		phone.hello("")
		phone.control("gap")
	})
}

// One frame may acknowledge many logs.
func TestAcknowledgeManyLogs(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		want := make(map[envelope.Address]uint64)
		for i := range 30 {
			id := fmt.Sprint("room-", i)
			if _, err := m.api("alice", "alice", "a").CreateSession(t.Context(), envelope.SessionID(id), envelope.Settings{}); err != nil {
				t.Fatal(err)
			}
			m.joins("a", "bob", id, gateway.Alias{})
			for k := range i%3 + 1 {
				alice.send(to(room(id), fmt.Sprint(id, "-", k), "hi"))
			}
			want[room(id)] = 0
		}
		pass(time.Second)
		bob := m.raw("bob", "a")
		bob.hello("")
		for f, err := bob.next(time.Minute); f.ctl.Control != "caught_up"; f, err = bob.next(time.Minute) {
			if err != nil {
				t.Fatal(err)
			}
		}
		heads, err := m.store.Heads(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		for log := range want {
			want[log] = heads[log]
		}
		ack := envelope.Control{Control: envelope.ControlAck, Cursors: envelope.ByText(want)}
		bob.send(string(ack.AppendJSON(nil)))
		pass(2 * time.Second)
		cursors, err := m.store.Cursors(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[envelope.Address]uint64)
		for _, c := range cursors {
			got[c.Log] = c.Delivered
		}
		if !maps.Equal(got, want) {
			t.Errorf("acknowledged %v\nnoted %v", want, got)
		}
	})
}
