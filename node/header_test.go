package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// head sets a session's header.
func (m *mesh) head(by, at, id, document string) {
	m.t.Helper()
	if code, text := m.do(http.MethodPut, by, at, "/v1/sessions/"+id+"/header", document); code != "" {
		m.t.Fatalf("%s sets the header: %s", by, text)
	}
}

// story returns what a client has been told of a session: "2" an entry, "h2"
// its header, "g2" a gap.
func story(frames, session string) (all []string) {
	for f := range strings.Lines(frames) {
		var is struct {
			Control, Log   string
			Seq, Floor     uint64
			DestSession    string `json:"dest_session_id"`
			DestID, NodeID string
		}
		_ = json.Unmarshal([]byte(f), &is)
		switch {
		case is.Control == "header" && is.Log == "session:"+session:
			all = append(all, fmt.Sprint("h", is.Seq))
		case is.Control == "gap" && is.Log == "session:"+session:
			all = append(all, fmt.Sprint("g", is.Floor))
		case is.Control == "" && is.DestSession == session && is.Seq > 0:
			all = append(all, fmt.Sprint(is.Seq))
		}
	}
	return all
}

func TestHeaderFirst(t *testing.T) {
	say := func(m *mesh, seq int) {
		m.must("alice", "/v1/messages", fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":"%d"}`, seq, seq))
	}
	for _, tt := range []struct {
		name, settings string
		do             func(m *mesh) string // what bob's connection, or connections, got
		want           string
	}{
		{"joins while connected", "", func(m *mesh) string {
			bob := m.listens("bob", "b")
			say(m, 2)
			m.head("alice", "a", "r", "1") // 3
			say(m, 4)
			m.must("bob", "/v1/sessions/r/join", "") // 5
			say(m, 6)
			pass(time.Second)              // or it may be told the next one at first
			m.head("alice", "a", "r", "2") // 7
			return bob.take()
		}, "h3 6 7"},
		{"sees what follows the header", `,"late_joiners":"header"`, func(m *mesh) string {
			bob := m.listens("bob", "b")
			say(m, 2)
			m.head("alice", "a", "r", "1") // 3
			say(m, 4)
			m.must("bob", "/v1/sessions/r/join", "") // 5
			say(m, 6)
			return bob.take()
		}, "h3 4 6"},
		{"no header", `,"late_joiners":"header"`, func(m *mesh) string {
			say(m, 2)
			m.must("bob", "/v1/sessions/r/join", "") // 3
			say(m, 4)
			return m.listens("bob", "b").take()
		}, "4"},
		{"connects after it was set", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "") // 2
			say(m, 3)
			m.head("alice", "a", "r", "1") // 4
			return m.listens("bob", "b").take()
		}, "h4 3 4"},
		{"comes back", "", func(m *mesh) string {
			m.head("alice", "a", "r", "1")           // 2
			m.must("bob", "/v1/sessions/r/join", "") // 3
			bob := m.listens("bob", "b")
			say(m, 4)
			got := bob.take()
			_ = bob.ws.CloseNow()
			m.head("alice", "a", "r", "2") // 5
			again := m.listensWith("bob", "c", `"cursors":{"session:r":4}`)
			say(m, 6)
			return got + again.take()
		}, "h2 4 5 6"},
		{"comes back before it has seen anything", "", func(m *mesh) string {
			m.head("alice", "a", "r", "1")           // 2
			m.must("bob", "/v1/sessions/r/join", "") // 3
			bob := m.listens("bob", "b")
			got := bob.take()
			_ = bob.ws.CloseNow()
			return got + m.listens("bob", "c").take()
		}, "h2 h2"},
		{"from now", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "") // 2
			say(m, 3)
			m.head("alice", "a", "r", "1") // 4
			say(m, 5)
			bob := m.listensWith("bob", "b", `"resume":false`)
			got := bob.take()
			say(m, 6)
			return got + bob.take()
		}, "h4 6"},
		{"left before it was set", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "") // 2
			say(m, 3)
			m.must("bob", "/v1/sessions/r/leave", "") // 4
			m.head("alice", "a", "r", `"secret"`)     // 5
			return m.listens("bob", "b").take()
		}, "3"},
		{"left after it was set", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "")  // 2
			m.head("alice", "a", "r", "1")            // 3
			m.must("bob", "/v1/sessions/r/leave", "") // 4
			return m.listens("bob", "b").take()
		}, "h3 3"},
		{"left, and it was replaced", "", func(m *mesh) string {
			m.head("alice", "a", "r", "1")           // 2
			m.must("bob", "/v1/sessions/r/join", "") // 3
			say(m, 4)
			m.must("bob", "/v1/sessions/r/leave", "") // 5
			m.head("alice", "a", "r", `"secret"`)     // 6
			return m.listens("bob", "b").take()
		}, "h2 4"},
		{"joins again before it has acknowledged", "", func(m *mesh) string {
			bob := m.listens("bob", "b")
			m.must("bob", "/v1/sessions/r/join", "") // 2
			say(m, 3)
			m.must("bob", "/v1/sessions/r/leave", "") // 4
			m.head("alice", "a", "r", "1")            // 5
			say(m, 6)
			pass(time.Second)
			m.must("bob", "/v1/sessions/r/join", "") // 7
			say(m, 8)
			return bob.take()
		}, "3 h5 8"},
		{"joins again and sees what follows the header", `,"late_joiners":"header"`, func(m *mesh) string {
			m.head("alice", "a", "r", "1") // 2
			bob := m.listens("bob", "b")
			m.must("bob", "/v1/sessions/r/join", "") // 3
			say(m, 4)
			m.must("bob", "/v1/sessions/r/leave", "") // 5
			say(m, 6)
			pass(time.Second)
			m.must("bob", "/v1/sessions/r/join", "") // 7
			say(m, 8)
			return bob.take()
		}, "h2 4 h2 6 8"},
		{"a gap", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "") // 2
			for seq := 3; seq < 8; seq++ {
				say(m, seq)
			}
			bob := m.listensWith("bob", "b", `"cursors":{"session:r":3}`)
			got := bob.take()
			_ = bob.ws.CloseNow()
			m.head("alice", "a", "r", "1") // 8
			for seq := 9; seq < 12; seq++ {
				say(m, seq)
			}
			if err := m.store.Trim(m.t.Context(), room("r"), 10, time.Now()); err != nil {
				m.t.Fatal(err)
			}
			return got + m.listensWith("bob", "b", `"cursors":{"session:r":6}`).take()
		}, "4 5 6 7 g10 h8 10 11"},
		{"of another epoch", "", func(m *mesh) string {
			m.must("bob", "/v1/sessions/r/join", "") // 2
			m.head("alice", "a", "r", "1")           // 3
			m.at("b").inbox.Acknowledge("bob", room("r"), 3)
			return m.listensWith("bob", "b", `"epoch":"other","cursors":{"session:r":9}`).take()
		}, "g4 h3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				m.must("alice", "/v1/sessions", `{"session_id":"r"`+tt.settings+`}`)
				frames := tt.do(m)
				if got := strings.Join(story(frames, "r"), " "); got != tt.want || strings.Contains(frames, "secret") {
					t.Errorf("got %s, want %s, in\n%s", got, tt.want, frames)
				}
			})
		})
	}
}

// listensWith is listens with other members of the hello.
func (m *mesh) listensWith(id, at, hello string) *listener {
	m.t.Helper()
	return m.listening(m.raw(id, at), `{"control":"hello",`+hello+`}`)
}

// What late joiners see of the log they see in its history as well.
func TestHistoryFromHeader(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r","late_joiners":"header"}`)
		say := func(seq int) {
			m.must("alice", "/v1/messages", fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":"%d"}`, seq, seq))
		}
		say(2)
		m.head("alice", "a", "r", "1") // 3
		say(4)
		m.must("bob", "/v1/sessions/r/join", "")  // 5
		m.must("bob", "/v1/sessions/r/leave", "") // 6
		m.head("alice", "a", "r", "2")            // 7
		say(8)
		m.must("bob", "/v1/sessions/r/join", "") // 9
		say(10)
		for query, want := range map[string]string{
			"after=0&limit=100": "4 5 6 8 9 10", "after=5&limit=2": "6", "after=6&limit=2": "8 9",
			"before=0&limit=100": "4 5 6 8 9 10", "before=8&limit=2": "5 6", "before=9&limit=1": "8",
		} {
			_, page := m.do(http.MethodGet, "bob", "a", "/v1/messages?log=session:r&"+query, "")
			var of struct{ Messages []json.RawMessage }
			_ = json.Unmarshal([]byte(page), &of)
			var frames strings.Builder
			for _, raw := range of.Messages {
				frames.WriteString(string(raw) + "\n")
			}
			if got := strings.Join(story(frames.String(), "r"), " "); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
	})
}

// The calls, over HTTP.
func TestHeaderCalls(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r","as_anonymous":true,"alias":"boss"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		const path = "/v1/sessions/r/header"
		for _, tt := range []struct {
			method, by, body string
			code             envelope.Code
			want             string
		}{
			{"GET", "bob", "", envelope.NotFound, "no header"},
			{"GET", "eve", "", envelope.NotFound, "not yours"},
			{"PUT", "bob", "1", envelope.Forbidden, ""},
			{"PUT", "eve", "1", envelope.NotFound, ""},
			{"PUT", "alice", "", envelope.BadRequest, ""},
			{"PUT", "alice", `1,"id":"x"`, envelope.BadRequest, ""},
			{"PUT", "alice", `{"a":1,"a":2}`, envelope.BadRequest, ""},
			{"PUT", "alice", "\"\xff\"", envelope.BadRequest, ""},
			{"PUT", "alice", strings.Repeat("[", 40) + strings.Repeat("]", 40), envelope.BadRequest, ""},
			{"PUT", "alice", `"` + strings.Repeat("x", 64<<10) + `"`, envelope.TooLarge, ""},
			{"PUT", "alice", ` {"a" : "\u00e9"} `, "", `{"session_id":"r","seq":3,"node_id":"r~boss"}`},
			{"PUT", "alice", `{"a" : "\u00e9"}`, "", `"seq":3`},
			{"GET", "bob", "", "", `{"session_id":"r","seq":3,"node_id":"r~boss","payload":{"a" : "\u00e9"}}`},
			{"GET", theApp, "", "", `"seq":3`},
		} {
			code, text := m.do(tt.method, tt.by, "b", path, tt.body)
			if code != tt.code || !strings.Contains(text, tt.want) || strings.Contains(text, "alice") {
				t.Errorf("%s %s %.40q: %s %s", tt.method, tt.by, tt.body, code, text)
			}
		}
		frames := m.listens("bob", "a").take()
		has(t, "the header", frames, `{"control":"header","seq":3,"log":"session:r","node_id":"r~boss","payload":{"a" : "\u00e9"}}`)
		bob := m.api("bob", "bob", "b")
		if h, err := bob.Header(t.Context(), "r"); err != nil || h.Seq != 3 || string(h.Document) != `{"a" : "\u00e9"}` || h.Node != "r~boss" {
			t.Errorf("%+v, %v", h, err)
		}
		if h, err := m.api("alice", "alice", "b").SetHeader(t.Context(), "r", json.RawMessage("null")); err != nil || h.Seq != 4 || h.Log != room("r") {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

// Those who joined last are told that somebody joins or leaves; all find it in
// the history.
func TestTellLastFew(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r","notify_only_last_few_users":2}`) // 1
		var all []*listener
		ids := []string{"alice", "b", "c", "d"}
		for i, id := range ids {
			all = append(all, m.listens(id, string(rune('a'+i%3))))
			if i > 0 {
				m.must(id, "/v1/sessions/r/join", "") // 2 3 4
				pass(time.Second)
			}
		}
		m.must("e", "/v1/sessions/r/join", "")  // 5
		m.must("d", "/v1/sessions/r/leave", "") // 6
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"x"}`)
		for i, want := range []string{"2 3", "3 4 7", "4 5 6 7", "5"} {
			if got := strings.Join(story(all[i].take(), "r"), " "); got != want {
				t.Errorf("%s was told %s, want %s", ids[i], got, want)
			}
		}
		_ = all[1].ws.CloseNow()
		pass(time.Second)
		if got := story(m.listensWith("b", "a", `"cursors":{"session:r":2}`).take(), "r"); !slices.Equal(got, []string{"3", "4", "7"}) {
			t.Errorf("again: %s", got)
		}
		_, page := m.do(http.MethodGet, "alice", "a", "/v1/messages?log=session:r&after=0", "")
		if n := strings.Count(page, `"type":100`) + strings.Count(page, `"type":103`); n != 6 {
			t.Errorf("%d joins and leaves in the history: %s", n, page)
		}
	})
}

// A topic's header comes before what follows there; without one, and without
// rules, nothing does.
func TestTopicHeader(t *testing.T) {
	for name, settings := range map[string]string{"kept": `,"keep_count":10`, "not kept": ""} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				first := m.listens("first", "a")
				first.send(`{"control":"subscribe","topics":["topic:news"]}`)
				pass(time.Second)
				m.must(theApp, "/v1/sessions", `{"session_id":"topic:news","kind":"topic"`+settings+`}`)
				m.head(theApp, "b", "topic:news", `"one"`) // 1
				if code, _ := m.do(http.MethodPut, "first", "a", "/v1/sessions/topic:news/header", "1"); code != envelope.NotFound {
					t.Errorf("anybody sets a topic's header: %q", code)
				}
				later := m.listens("later", "c")
				later.send(`{"control":"subscribe","topics":["topic:news"]}`)
				pass(time.Second)
				m.head(theApp, "a", "topic:news", `"two"`) // 2
				pass(time.Second)                          // or it may be told the first, and then this one
				third := m.listens("third", "c")
				third.send(`{"control":"subscribe","topics":["topic:news"]}`)
				pass(time.Second)
				m.must(theApp, "/v1/messages", `{"id":"1","dest_session_id":"topic:news","payload":"x"}`)
				for i, l := range []*listener{first, later, third} {
					frames := l.take()
					want := []string{"1 2", "h1 2", "h2"}[i]
					if settings != "" {
						want += " 3"
					}
					if got := strings.Join(story(frames, "topic:news"), " "); got != want || !strings.Contains(frames, `"payload":"x"`) {
						t.Errorf("%d got %s, want %s, in\n%s", i, got, want, frames)
					}
				}
				if code, text := m.do(http.MethodGet, "anybody", "b", "/v1/sessions/topic:news/header", ""); code != "" || !strings.Contains(text, `"payload":"two"`) {
					t.Errorf("anybody reads %s", text)
				}
			})
		})
	}
}
