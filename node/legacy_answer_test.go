package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// answer reads the next frame, which must be a message of that type about that
// destination.
func (r *raw) answer(typ int64, id string, dest envelope.Address) {
	r.t.Helper()
	f, err := r.next(time.Minute)
	if err != nil || f.msg.Type != typ || f.msg.ID != id || f.msg.Dest() != dest || f.msg.Seq != 0 || f.msg.SrcNode != "" {
		r.t.Fatalf("got %q, %v; want type %d about %s to %s", f.text, err, typ, id, dest)
	}
}

func TestLegacyAnswers(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.device("bob", "bob-phone", "b").connected(m)
		m.device("carol", "carol-phone", "b").connected(m).close()
		pass(3 * time.Second)
		old := m.legacy("alice", "a")
		old.send(`{"id":"1","dest_id":"bob-phone","payload":"x"}`)
		old.send(`{"id":"2","dest_client_id":"bob","payload":"x"}`)
		m.within(time.Second, "bob has them", func() bool { return len(bob.texts()) == 2 })
		for i, tt := range []struct {
			dest envelope.Address
			typ  int64
		}{
			{deviceAddr("carol-phone"), envelope.TypeOffline},
			{user("carol"), envelope.TypeOffline},
			{deviceAddr("nobody"), envelope.TypeUnknown},
			{user("nobody"), envelope.TypeUnknown},
		} {
			id := fmt.Sprint("away-", i)
			e := to(tt.dest, id, "x")
			old.send(string(e.AppendRequest(nil)))
			old.answer(tt.typ, id, tt.dest)
			if got, err := m.store.Read(t.Context(), tt.dest, 0, 10, 1<<20); err != nil || len(got) != 1 {
				t.Errorf("%s: stored %v, %v", tt.dest, got, err)
			}
		}
		old.send(`{"dest_id":"nobody","payload":"without an id"}`)
		old.answer(envelope.TypeUnknown, "", deviceAddr("nobody"))
		bob.close()
		pass(time.Second)
		old.send(`{"id":"3","dest_id":"bob-phone","payload":"x"}`)
		old.answer(envelope.TypeOffline, "3", deviceAddr("bob-phone"))
	})
}

// Only a stored message to a device or user has an answer, and only for who
// knows no presence.
func TestNoLegacyAnswer(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.api("alice", "alice", "a")
		_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
		if _, err := m.api("carol", "carol", "a").JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		frames := []string{
			`{"id":"1","dest_id":"carol","type":0,"payload":"volatile"}`,
			`{"id":"2","dest_session_id":"r","payload":"to a session"}`,
			`{"id":"3","dest_id":"carol","dest_session_id":"r","payload":"to a member"}`,
		}
		old := m.legacy("alice", "a")
		for _, f := range frames {
			old.send(f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for {
			_, b, err := old.ws.Read(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				break
			}
			var got struct{ Type int64 }
			if err == nil {
				err = json.Unmarshal(b, &got)
			}
			if err != nil || got.Type < 0 {
				t.Fatalf("got %q, %v", b, err)
			}
		}
		r := m.raw("dave", "a")
		r.hello("")
		r.control("caught_up")
		r.send(`{"id":"1","dest_id":"carol","payload":"x"}`)
		r.control("ack")
		r.quiet(10 * time.Second)
	})
}

// A store that does not say who is connected costs the answer and nothing else.
func TestLegacyAnswerWithoutStore(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		old := m.legacy("alice", "a")
		pass(time.Second)
		m.at("a").store.set(func(f *faultyStore) { f.before = failNth("sightings", 1) })
		old.send(`{"id":"1","dest_id":"carol","payload":"x"}`)
		pass(time.Second)
		if n := m.at("a").Stats().DroppedNotice.Load(); n != 1 {
			t.Errorf("%d answers were dropped", n)
		}
		old.send(`{"id":"2","dest_id":"carol","payload":"x"}`)
		old.answer(envelope.TypeUnknown, "2", deviceAddr("carol"))
		if got, err := m.store.Read(t.Context(), deviceAddr("carol"), 0, 10, 1<<20); err != nil || len(got) != 2 {
			t.Errorf("stored %v, %v", got, err)
		}
	})
}
