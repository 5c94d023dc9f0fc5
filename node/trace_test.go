package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

type traceAnswer struct {
	ID, Log   string
	Seq       uint64
	Accepted  int64
	Trimmed   bool
	Delivered int
	Read      int
	Readers   []struct {
		NodeID    string `json:"node_id"`
		Delivered bool
		Read      bool
		Server    string
		Written   bool
	}
	Servers []string
}

func (a *traceAnswer) readers() string {
	var all []string
	for _, r := range a.Readers {
		all = append(all, fmt.Sprintf("%s %v %v", r.NodeID, r.Delivered, r.Read))
	}
	return strings.Join(all, ", ")
}

// What has been trimmed is said to be.
func TestTraceOfTrimmed(t *testing.T) {
	inMeshOf(t, 1, keeping(inbox.Limits{Entries: 2}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		sent := time.Now().UnixMilli()
		for i := range 5 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), "x"))
		}
		pass(5 * time.Minute) // floor 4
		for id, trimmed := range map[string]bool{"0": true, "2": true, "3": false, "4": false} {
			var a traceAnswer
			if code := m.ask("alice", "a", "/v1/messages/"+id+"/trace?dest_id=bob", &a); code != "" || a.Trimmed != trimmed || a.Accepted != sent {
				t.Errorf("%s: %s, %+v", id, code, a)
			}
		}
	})
}

// Who has left a session still learns that its message was taken, not who
// reads it.
func TestTraceAfterLeaving(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice, bob := m.api("alice", "alice", "a"), m.api("bob", "bob", "a")
		if _, err := bob.CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if code := m.post("alice", "a", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":""}`); code != "" {
			t.Fatal(code)
		}
		for _, want := range []string{"bob false false", ""} {
			var a traceAnswer
			if code := m.ask("alice", "a", "/v1/messages/1/trace?dest_session_id=r", &a); code != "" || a.Seq != 3 || a.readers() != want {
				t.Errorf("%s, %+v; want readers %q", code, a, want)
			}
			if _, err := alice.LeaveSession(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Where only moderators may see who is in a session, a trace does not name its
// readers to others.
func TestTraceHidden(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r","member_list":"moderators"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		for device, want := range map[string]string{"alice": "bob false false", "bob": ""} {
			m.must(device, "/v1/messages", `{"id":"1","dest_session_id":"r","payload":""}`)
			var a traceAnswer
			if code := m.ask(device, "b", "/v1/messages/1/trace?dest_session_id=r", &a); code != "" || a.Seq == 0 || a.readers() != want {
				t.Errorf("%s: %s, %+v; want readers %q", device, code, a, want)
			}
		}
	})
}

func TestTrace(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		ctx := t.Context()
		if _, err := alice.CreateSession(ctx, "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"bob", "carl"} {
			if _, err := m.api(id, id, "b").JoinSession(ctx, "r"); err != nil {
				t.Fatal(err)
			}
		}
		sent := time.Now().UnixMilli()
		alice.send(to(room("r"), "1", "one"))
		ack := alice.send(to(deviceAddr("bob"), "1", "the same id elsewhere"))
		if _, err := m.api("dora", "dora", "b").JoinSession(ctx, "r"); err != nil { // who comes later has no part in it
			t.Fatal(err)
		}
		trace := func(device, query string, header ...string) (a traceAnswer, code envelope.Code) {
			t.Helper()
			code = m.ask(device, "b", "/v1/messages/1/trace?"+query, &a, header...)
			return a, code
		}
		a, code := trace("alice", "dest_session_id=r")
		if code != "" || a.ID != "1" || a.Log != "session:r" || a.Seq != 4 || a.Accepted != sent || a.Trimmed || a.readers() != "bob false false, carl false false" || a.Servers != nil {
			t.Errorf("%s, at %d: %+v", code, sent, a)
		}
		a, code = trace("alice", "dest_id=bob")
		if code != "" || a.Seq != ack.Seq || a.Log != "node:bob" || a.readers() != "bob false false" {
			t.Errorf("%s: %+v", code, a)
		}

		if code := m.post("bob", "a", "/v1/cursors", `{"delivered":{"session:r":4,"node:bob":1},"read":{"node:bob":1}}`); code != "" {
			t.Fatal(code)
		}
		pass(3 * time.Second) // until it is written
		if a, _ = trace("alice", "dest_session_id=r"); a.readers() != "bob true false, carl false false" || a.Delivered != 1 || a.Read != 0 {
			t.Errorf("acknowledged: %+v", a)
		}
		if a, _ = trace("alice", "dest_id=bob"); a.readers() != "bob true true" || a.Delivered != 1 || a.Read != 1 {
			t.Errorf("read: %+v", a)
		}

		// The app may ask for anybody's, and is told where the readers are.
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
			Client: "app", Node: "app", App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		app := []string{"Authorization", "Bearer " + key}
		m.client("carl", "b").connected(m)
		pass(time.Second)
		if a, code = trace("app", "dest_session_id=r&src_id=alice", app...); code != "" || a.Seq != 4 || !slices.Equal(a.Servers, []string{"a", "b"}) {
			t.Errorf("the app: %s, %+v", code, a)
		}
		if bob, carl := a.Readers[0], a.Readers[1]; bob.Server != "" || bob.Written || carl.NodeID != "carl" || carl.Server != "b" || !carl.Written {
			t.Errorf("readers %+v", a.Readers)
		}
		alice.send(to(deviceAddr("erin"), "1", "waits"))
		readable := func(yes bool) {
			m.at("b").store.set(func(f *faultyStore) {
				f.before = func(op string) error {
					if op == "read" && !yes {
						return envelope.BusyError(1, "", nil)
					}
					return nil
				}
			})
		}
		readable(false)
		m.client("erin", "b").connected(m)
		for _, written := range []bool{false, true} {
			pass(5 * time.Second)
			if a, code = trace("app", "dest_id=erin&src_id=alice", app...); code != "" || len(a.Readers) != 1 || a.Readers[0].Server != "b" || a.Readers[0].Written != written {
				t.Errorf("%s, %+v, written should be %v", code, a, written)
			}
			readable(true)
		}
		for _, q := range []struct {
			device, query string
			want          envelope.Code
		}{
			{"alice", "dest_session_id=none", envelope.NotFound},
			{"alice", "dest_client_id=bob", envelope.NotFound},
			{"bob", "dest_session_id=r", envelope.NotFound},
			{"bob", "dest_session_id=r&src_id=alice", envelope.NotFound},
			{"bob", "dest_id=bob&src_id=alice", envelope.NotFound},
			{"alice", "", envelope.BadRequest},
			{"alice", "dest_id=a%20b", envelope.BadRequest},
			{"alice", "dest_id=bob&dest_client_id=bob", envelope.BadRequest},
		} {
			if _, code := trace(q.device, q.query); code != q.want {
				t.Errorf("%s asks %q: %q", q.device, q.query, code)
			}
		}
	})
}
