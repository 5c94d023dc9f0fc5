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
