package node

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// play makes a game whose owner and first member is its master, and lets others
// join.
func (m *mesh) play(id, master string, players ...string) {
	m.t.Helper()
	m.must(master, "/v1/sessions", fmt.Sprintf(`{"session_id":%q,"kind":"game"}`, id))
	for _, p := range players {
		m.must(p, "/v1/sessions/"+id+"/join", "")
	}
}

// volatile is a message to a session that is not stored.
func volatile(session envelope.SessionID, body string) envelope.Envelope {
	e := to(session.Address(), "", body)
	e.Class = envelope.Volatile
	return e
}

// Members' messages reach the master and nobody else, the master's reach all,
// stored or not, whatever servers they are at.
func TestGameRouting(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.play("g", "master", "ann", "bob")
		master := m.client("master", "a").connected(m)
		ann := m.client("ann", "b").connected(m)
		bob := m.client("bob", "c").connected(m)
		pass(time.Second)
		ann.send(to(room("g"), "1", "ann, stored"))
		ann.send(volatile("g", "ann, not stored"))
		bob.send(to(room("g"), "1", "bob, stored"))
		master.send(to(room("g"), "1", "to all, stored"))
		master.send(volatile("g", "to all, not stored"))
		pass(time.Second)
		for _, tt := range []struct {
			of   *device
			want []string
		}{
			{master, []string{"ann, not stored", "ann, stored", "bob, stored"}},
			{ann, []string{"to all, not stored", "to all, stored"}},
			{bob, []string{"to all, not stored", "to all, stored"}},
		} {
			got := tt.of.payloads()
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			for _, msg := range tt.of.messages() {
				if !msg.HasType && msg.DestSession != "g" {
					t.Errorf("not from the session: %+v", msg.Envelope)
				}
			}
		}

		// Between the master and a member privately, both ways; between others not.
		private := func(by *device, dest envelope.NodeID, id string, class envelope.Class) error {
			e := to(room("g"), id, "private")
			e.DestNode, e.Class = dest, class
			return second(by.Send(t.Context(), e))
		}
		for i, class := range []envelope.Class{envelope.Durable, envelope.Volatile} {
			id := fmt.Sprint("p", i)
			for _, err := range []error{private(master, "ann", id, class), private(bob, "master", id, class)} {
				if err != nil {
					t.Error(err)
				}
			}
			if err := private(ann, "bob", id, class); envelope.CodeOf(err) != envelope.Forbidden {
				t.Errorf("between players: %v", err)
			}
			if err := private(ann, "eve", id, class); envelope.CodeOf(err) != envelope.NotFound {
				t.Errorf("to who is not there: %v", err)
			}
		}
		pass(time.Second)
		for d, want := range map[*device]int{master: 2, ann: 2, bob: 0} {
			got := 0
			for _, msg := range d.payloads() {
				if msg == "private" {
					got++
				}
			}
			if got != want {
				t.Errorf("%d private messages, want %d", got, want)
			}
		}

		// The history shows each the same.
		for _, tt := range []struct{ device, want string }{
			{"master", "ann, stored|bob, stored|to all, stored"},
			{"ann", "ann, stored|to all, stored"},
			{"bob", "bob, stored|to all, stored"},
		} {
			for _, query := range []string{"", "&before=0"} {
				_, text := m.do(http.MethodGet, tt.device, "c", "/v1/messages?log=session:g"+query, "")
				var got []string
				for _, part := range strings.Split(text, `"payload":"`)[1:] {
					got = append(got, part[:strings.Index(part, `"`)])
				}
				slices.Sort(got)
				if strings.Join(got, "|") != tt.want {
					t.Errorf("%s reads %q, want %q: %s", tt.device, got, tt.want, text)
				}
			}
		}
	})
}

// What a player sends the master is not there for others, whatever way they ask:
// nor are receipts, traces, edits and deletions of it.
func TestGameIsBetweenPlayerAndMaster(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("owner", "/v1/sessions", `{"session_id":"g","kind":"game","successors":"nobody"}`)
		for _, id := range []string{"master", "ann", "bob"} {
			m.must(id, "/v1/sessions/g/join", "")
		}
		m.must("owner", "/v1/sessions/g/master", `{"node_id":"master"}`) // 5
		ann, bob, master := m.listens("ann", "a"), m.listens("bob", "b"), m.listens("master", "b")
		owner := m.listens("owner", "a")
		for _, l := range []*listener{ann, bob, master, owner} {
			l.take()
		}
		m.must("ann", "/v1/messages", `{"id":"1","dest_session_id":"g","receipt":true,"payload":"secret 1"}`) // 6
		m.must("ann", "/v1/messages", `{"id":"2","dest_session_id":"g","edits":6,"payload":"secret 2"}`)      // 7
		m.must("ann", "/v1/messages", `{"id":"3","dest_session_id":"g","payload":"secret 3"}`)                // 8
		m.must("ann", "/v1/messages", `{"id":"4","dest_session_id":"g","deletes":8}`)                         // 9
		m.must("master", "/v1/messages", `{"id":"1","dest_session_id":"g","receipt":true,"payload":"all 1"}`) // 10
		has(t, "the master", master.take(), "secret 1", "secret 2", `"deletes":8`)
		for _, l := range []*listener{ann, bob, owner} {
			if got := l.take(); strings.Contains(got, "secret") || strings.Contains(got, `"deletes"`) || !strings.Contains(got, "all 1") {
				t.Errorf("another got %s", got)
			}
			l.send(`{"control":"read","cursors":{"session:g":10}}`)
		}
		if got := ann.take(); strings.Contains(got, `"receipt"`) {
			t.Errorf("receipts of who did not get it: %s", got)
		}
		if got := master.take(); strings.Count(got, `"state":"read"`) != 3 {
			t.Errorf("receipts of what all got: %s", got)
		}
		master.send(`{"control":"read","cursors":{"session:g":9}}`)
		if got := ann.take(); !strings.Contains(got, `"node_id":"master"`) || strings.Count(got, `"receipt"`) == 0 {
			t.Errorf("the master's receipt: %s", got)
		}

		// Without a connection it is the same.
		for _, l := range []*listener{bob, master} {
			_ = l.ws.CloseNow()
		}
		ann.take()
		m.must("ann", "/v1/messages", `{"id":"5","dest_session_id":"g","receipt":true,"payload":"secret 5"}`) // 11
		m.must("bob", "/v1/cursors", `{"read":{"session:g":11}}`)
		if got := ann.take(); strings.Contains(got, `"receipt"`) {
			t.Errorf("a receipt by a call of who did not get it: %s", got)
		}
		m.must("master", "/v1/cursors", `{"read":{"session:g":11}}`)
		if got := ann.take(); !strings.Contains(got, `"node_id":"master"`) {
			t.Errorf("the master's receipt by a call: %s", got)
		}

		if _, text := m.do(http.MethodGet, "ann", "a", "/v1/messages/1/trace?dest_session_id=g", ""); strings.Count(text, `"node_id"`) != 1 ||
			!strings.Contains(text, `"node_id":"master","delivered":true,"read":true`) {
			t.Errorf("a trace to the master: %s", text)
		}
		if _, text := m.do(http.MethodGet, "master", "a", "/v1/messages/1/trace?dest_session_id=g", ""); strings.Count(text, `"node_id"`) != 3 {
			t.Errorf("a trace to all: %s", text)
		}

		// Nobody deletes or edits what is not there for it, nor says to others by an
		// edit what it said to one.
		for i, tt := range []struct {
			by, revises string
			want        envelope.Code
		}{
			{"owner", `"deletes":6`, envelope.NotFound},
			{"bob", `"deletes":6`, envelope.NotFound},
			{"bob", `"edits":6,"payload":"x"`, envelope.NotFound},
			{"owner", `"edits":10,"payload":"x"`, envelope.Forbidden},
			{"bob", `"deletes":10`, envelope.Forbidden},
			{"owner", `"deletes":10`, ""},
		} {
			code, text := m.do(http.MethodPost, tt.by, "b", "/v1/messages", fmt.Sprintf(`{"id":"x%d","dest_session_id":"g",%s}`, i, tt.revises))
			if code != tt.want {
				t.Errorf("%s %s: %q, want %q: %s", tt.by, tt.revises, code, tt.want, text)
			}
		}
		has(t, "a deletion of what all got", ann.take(), `"deletes":10`)
		m.must("master", "/v1/messages", `{"id":"2","dest_session_id":"g","payload":"all 2"}`) // 13
		m.must("owner", "/v1/sessions/g/master", `{"node_id":"ann"}`)
		ann.take() // by then the other server has heard of it, too
		for by, revises := range map[string]string{"ann": `"edits":11,"payload":"x"`, "master": `"edits":13,"payload":"x"`} {
			if code, text := m.do(http.MethodPost, by, "b", "/v1/messages", fmt.Sprintf(`{"id":"y","dest_session_id":"g",%s}`, revises)); code != envelope.Forbidden {
				t.Errorf("%s %s: %s", by, revises, text)
			}
		}

		// A legacy client that fetches gets no more.
		legacy := m.legacy("bob", "a")
		legacy.send(`{"type":-101,"payload":{"fetch_inbox_messages":true,"fetch_inbox_messages_from_time_stamp":1}}`)
		for answered := false; !answered; {
			f, err := legacy.next(time.Minute)
			if err != nil || strings.Contains(f.text, "secret") {
				t.Fatalf("%v, fetched %s", err, f.text)
			}
			if answered = f.msg.Type == envelope.TypeConfigReply; answered && !strings.Contains(f.text, "all 2") {
				t.Errorf("fetched %s", f.text)
			}
		}
	})
}
