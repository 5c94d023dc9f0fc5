package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// legacyCall makes one of the original system's session calls as a GET with
// everything in the query, and as a POST with the parameters in the body; both
// must have the same outcome, which it returns.
func (m *mesh) legacyCall(id, at, call string, params ...string) (status int, body string) {
	m.t.Helper()
	return m.legacyCallWith(m.mint(id, id, time.Hour), at, call, params...)
}

func (m *mesh) legacyCallWith(key, at, call string, params ...string) (status int, body string) {
	m.t.Helper()
	form := url.Values{}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		form.Set(name, value)
	}
	base := "http://" + at + "/" + call
	status, body = m.fetch(http.MethodPost, base+"?auth_key="+key, form)
	form.Set("auth_key", key)
	if call == "create_session" && !strings.HasPrefix(form.Get("_session_info_"), `["`) {
		return status, body // each makes one of another id
	}
	if s, b := m.fetch(http.MethodGet, base+"?"+form.Encode(), nil); s != status || b != body {
		m.t.Errorf("%s %v: as POST %d %s, as GET %d %s", call, params, status, body, s, b)
	}
	return status, body
}

func (m *mesh) fetch(method, url string, form url.Values) (int, string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, url, strings.NewReader(form.Encode()))
	if err != nil {
		m.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := m.network.Client().Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Cache-Control") != "no-store" {
		m.t.Errorf("%s: %v, %v", url, resp.Header, err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(body), "\n")
}

// legacySession makes a session by the legacy call and returns its id.
func (m *mesh) legacySession(owner, at string, params ...string) string {
	m.t.Helper()
	status, id := m.legacyCall(owner, at, "create_session", params...)
	if status != http.StatusOK || !envelope.ValidID(id) {
		m.t.Fatalf("created %d %q", status, id)
	}
	return id
}

func TestLegacySessionCalls(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		open := m.legacySession("alice", "a", "anyone_can_join=True")
		closed := m.legacySession("alice", "b", "anyone_can_join=False", "is_anonymous=", "session_type=0")
		if again := m.legacySession("alice", "b"); again == closed || open == closed {
			t.Error("two sessions have one id")
		}
		pass(3 * time.Second)
		for _, tt := range []struct {
			who, at, call, params string
			want                  string // the reply, or the code of the refusal
		}{
			{"bob", "b", "join_session", "session_id=" + open, `["bob",null]`},
			{"bob", "a", "join_session", "session_id=" + open, `["bob",null]`},
			{"bob", "a", "join_session", "session_id=" + open + "&node_id=bob", `["bob",null]`},
			{"bob", "a", "join_session", "session_id=" + open + "&anonymous_id=b", "conflict"},
			{"carol", "a", "join_session", "session_id=" + open + "&anonymous_id=a%20b", "bad_request"},
			{"carol", "a", "join_session", "session_id=" + closed, "not_found"},
			{"carol", "a", "join_session", "session_id=none", "not_found"},
			{"carol", "a", "join_session", "session_id=a%20b", "bad_request"},
			{"carol", "a", "join_session", "", "bad_request"},
			{"carol", "a", "join_session", "session_id=" + open + "&node_id=dave", "not_found"},
			{"bob", "a", "join_session", "session_id=" + open + "&node_id=dave", "forbidden"},
			{"carol", "a", "get_session_info", "session_id=" + open, "not_found"},
			{"carol", "a", "get_session_info", "session_id=none", "not_found"},
			{"carol", "b", "unjoin_session", "session_id=" + open, "not_found"},
			{"bob", "b", "reveal_anonymity", "session_id=" + open, "null"}, // there is none
			{"carol", "b", "reveal_anonymity", "session_id=" + open, "not_found"},
			{"carol", "b", "reveal_anonymity", "session_id=none", "not_found"},
			{"bob", "b", "create_session", "session_game_master_node_id=a b", "bad_request"},
			{"bob", "b", "create_session", "notify_only_last_few_users=5000", "bad_request"},
			{"bob", "b", "create_session", `_session_info_=["r",[["carol"]]]`, "forbidden"},
			{"bob", "b", "unjoin_session", "session_id=" + open, "null"},
			{"bob", "a", "unjoin_session", "session_id=" + open, "null"},
			{"bob", "a", "get_session_info", "session_id=" + open, "not_found"},
			{"bob", "a", "join_session", "session_id=" + open, `["bob",null]`},
		} {
			var params []string
			if tt.params != "" {
				params = strings.Split(tt.params, "&")
			}
			for i, p := range params {
				params[i], _ = url.PathUnescape(p)
			}
			status, body := m.legacyCall(tt.who, tt.at, tt.call, params...)
			var refusal struct {
				Code   envelope.Code
				Status int
			}
			if status != http.StatusOK && json.Unmarshal([]byte(body), &refusal) == nil {
				body = string(refusal.Code)
			}
			if body != tt.want || refusal.Status != 0 && refusal.Status != status {
				t.Errorf("%s: %s %s: got %d %s, want %s", tt.who, tt.call, tt.params, status, body, tt.want)
			}
		}
		status, body := m.legacyCall("bob", "b", "get_session_info", "session_id="+open)
		var info map[string]any
		if err := json.Unmarshal([]byte(body), &info); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		if at, _ := info["created_at"].(float64); at < float64(time.Now().Unix()-60) || at > float64(time.Now().Unix()) {
			t.Errorf("created at %v, now it is %v", info["created_at"], time.Now().Unix())
		}
		delete(info, "created_at")
		slices.SortFunc(info["node_ids"].([]any), func(a, b any) int { return cmp.Compare(a.(string), b.(string)) })
		want := map[string]any{
			"session_id": open, "node_id": "alice", "session_type": 0.0, "session_game_master_node_id": nil,
			"notify_only_last_few_users": -1.0, "anyone_can_join": true,
			"node_ids": []any{"alice", "bob"}, "current_node_info": []any{"bob", nil},
		}
		if fmt.Sprint(info) != fmt.Sprint(want) {
			t.Errorf("got\n%v, want\n%v", info, want)
		}
	})
}

// A game has the master that its maker names, who may be yet to join, or else its
// maker; legacy clients' messages reach it and nobody else.
func TestLegacyGame(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		own := m.legacySession("alice", "a", "session_type=1")
		named := m.legacySession("alice", "a", "session_game_master_node_id=bob", "anyone_can_join=True")
		var info struct {
			Type   int              `json:"session_type"`
			Master *envelope.NodeID `json:"session_game_master_node_id"`
		}
		check := func(id string, want envelope.NodeID) {
			t.Helper()
			_, body := m.legacyCall("alice", "b", "get_session_info", "session_id="+id)
			if err := json.Unmarshal([]byte(body), &info); err != nil || info.Type != 1 || info.Master == nil || *info.Master != want {
				t.Errorf("%s: %v, want the master %s", body, err, want)
			}
		}
		check(own, "alice")
		check(named, "bob")
		carol := m.collector("carol", "b")
		m.must("carol", "/v1/sessions/"+named+"/join", "")
		alice := m.client("alice", "a").connected(m)
		pass(time.Minute) // the one named is not lost before it comes
		alice.send(to(room(named), "1", "waits"))
		m.must("bob", "/v1/sessions/"+named+"/join", "")
		bob := m.client("bob", "b").connected(m)
		status, body := m.legacyCallWith(m.mintApp(theApp), "b", "create_session", "session_game_master_node_id=bob",
			`_session_info_=["listed",[["alice"],["bob"],["carol"]]]`)
		if status != http.StatusOK {
			t.Fatal(body)
		}
		check("listed", "bob")
		pass(time.Second)
		alice.send(to(room(named), "2", "arrives"))
		alice.send(to(room("listed"), "1", "also"))
		pass(time.Second)
		if got := bob.payloads(); !slices.Equal(got, []string{"arrives", "also"}) {
			t.Errorf("the master got %q", got)
		}
		for _, f := range carol.frames() {
			if !f.msg.HasType {
				t.Errorf("a player got %s", f.text)
			}
		}
		bob.close()
		m.within(10*time.Second, "another master", func() bool { return m.master(named) == "alice" })
	})
}

func TestBadLegacySessionCalls(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		expired := m.mint("bob", "bob", time.Minute)
		pass(10 * time.Minute)
		key := m.mint("bob", "bob", time.Hour)
		for _, call := range []string{"create_session", "join_session", "unjoin_session", "get_session_info", "reveal_anonymity"} {
			for name, auth := range map[string]string{
				"no key": "", "a wrong key": key + "x", "a validation token": m.ticket("bob", "bob", "a"),
				"an expired key": expired,
			} {
				if status, body := m.legacyCallWith(auth, "a", call, "session_id=r"); status != http.StatusUnauthorized {
					t.Errorf("%s with %s: %d %s", call, name, status, body)
				}
			}
			if status, body := m.fetch("GET", "http://a/"+call+"?auth_key="+key+"&session_id=%zz", nil); status != http.StatusBadRequest || strings.Contains(body, key) {
				t.Errorf("%s with a bad escape: %d %s", call, status, body)
			}
			large := url.Values{"session_id": {strings.Repeat("x", envelope.DefaultMaxFrame)}}
			if status, _ := m.fetch("POST", "http://a/"+call+"?auth_key="+key, large); status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s with a large body: %d", call, status)
			}
		}
	})
}

// Anonymous members have an alias in place of their id, at every server and in
// every call, until they reveal themselves.
func TestLegacyAnonymity(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		room := m.legacySession("alice", "a", "anyone_can_join=True", "is_anonymous=True", "notify_only_last_few_users=7")
		owner := m.legacyName("alice", "b", room)
		old := m.collector("dave", "b")
		call := func(who, at, name, params, want string) {
			t.Helper()
			if _, body := m.legacyCall(who, at, name, strings.Split("session_id="+room+params, "&")...); body != want {
				t.Errorf("%s: %s%s: got %s, want %s", who, name, params, body, want)
			}
		}
		zorro := room + "~zorro"
		call("dave", "a", "join_session", "", `["dave",null]`)
		pass(3 * time.Second)
		call("bob", "a", "join_session", "&anonymous_id=zorro", `["bob","`+zorro+`"]`)
		call("bob", "b", "join_session", "&is_anonymous=True", `["bob","`+zorro+`"]`)
		call("bob", "b", "join_session", "&anonymous_id="+zorro, `["bob","`+zorro+`"]`)
		status, _ := m.legacyCall("carol", "b", "join_session", "session_id="+room, "anonymous_id=zorro")
		if status != http.StatusConflict {
			t.Errorf("an alias in use: %d", status)
		}
		call("carol", "b", "join_session", "&is_anonymous=True", `["carol","`+m.legacyName("carol", "a", room)+`"]`)
		_, body := m.legacyCall("dave", "a", "get_session_info", "session_id="+room)
		var info struct {
			Owner  string    `json:"node_id"`
			Nodes  []string  `json:"node_ids"`
			Own    [2]string `json:"current_node_info"`
			Notify int       `json:"notify_only_last_few_users"`
		}
		err := json.Unmarshal([]byte(body), &info)
		slices.Sort(info.Nodes)
		carol := m.legacyName("carol", "a", room)
		want := []string{owner, zorro, carol, "dave"}
		slices.Sort(want)
		if err != nil || info.Owner != owner || !slices.Equal(info.Nodes, want) || info.Own != [2]string{"dave"} || info.Notify != 7 {
			t.Errorf("%s, %v; want %q", body, err, want)
		}

		bob := m.collector("bob", "b")
		bob.send(`{"id":"1","dest_session_id":"` + room + `","payload":"hidden"}`)
		bob.send(`{"id":"2","dest_session_id":"` + room + `","dest_id":"dave","payload":"to you"}`)
		old.send(`{"id":"3","dest_session_id":"` + room + `","dest_id":"` + zorro + `","payload":"to the alias"}`)
		old.send(`{"id":"4","dest_session_id":"` + room + `","dest_id":"bob","payload":"to the id"}`)
		pass(3 * time.Second)
		call("bob", "b", "reveal_anonymity", "", "null")
		bob.send(`{"id":"5","dest_session_id":"` + room + `","payload":"seen"}`)
		m.settle()
		call("carol", "a", "unjoin_session", "", "null")
		pass(3 * time.Second)
		var got, private []string
		for _, f := range old.frames() {
			said := fmt.Sprintf("%d %s of %q %s", f.msg.Type, f.msg.SrcNode, f.msg.SrcClient, f.msg.Body)
			if f.msg.DestNode == "" {
				got = append(got, said)
			} else {
				private = append(private, said)
			}
		}
		if want := []string{
			`100 ` + zorro + ` of "" `, `100 ` + carol + ` of "" `, `0 ` + zorro + ` of "" "payload":"hidden"`,
			`104 ` + zorro + ` of "bob" "payload":{"node_id":"bob","client_id":"bob"}`, `0 ` + zorro + ` of "bob" "payload":"seen"`,
			`103 ` + carol + ` of "" `,
		}; !slices.Equal(got, want) {
			t.Errorf("dave got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		slices.Sort(private)
		if want := []string{`-5  of "" `, `0 ` + zorro + ` of "" "payload":"to you"`}; !slices.Equal(private, want) {
			t.Errorf("dave got for itself %q, want %q", private, want)
		}
		heard := slices.ContainsFunc(bob.frames(), func(f frame) bool {
			return string(f.msg.DestNode) == zorro && f.msg.SrcNode == "dave" && strings.Contains(f.text, "to the alias")
		})
		if !heard {
			t.Errorf("bob got %v", bob.frames())
		}
	})
}

// legacyName returns the name by which a device joins, or is in, a session.
func (m *mesh) legacyName(id, at, room string) string {
	m.t.Helper()
	_, body := m.legacyCall(id, at, "join_session", "session_id="+room, "is_anonymous=True")
	var joined [2]string
	if err := json.Unmarshal([]byte(body), &joined); err != nil || joined[0] != id || !strings.HasPrefix(joined[1], room+"~") {
		m.t.Fatal(body, err)
	}
	return joined[1]
}

// The app makes a session of named and anonymous members, and adds others.
func TestLegacyAnonymityByApp(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		app := m.mintApp("app")
		call := func(name string, params ...string) string {
			t.Helper()
			_, body := m.legacyCallWith(app, "a", name, params...)
			return body
		}
		if id := call("create_session", `_session_info_=["r",[["alice"],["bob","zorro"],["carol",null]]]`, "anyone_can_join=True"); id != "r" {
			t.Fatal(id)
		}
		if got := call("join_session", "session_id=r", "node_id=dave", "anonymous_id=batman"); got != `["dave","r~batman"]` {
			t.Error(got)
		}
		m.legacyCall("eve", "b", "join_session", "session_id=r", "anonymous_id=eva")
		for _, guess := range []string{"anonymous_id=eva", "anonymous_id=other", "is_anonymous=True"} { // the app does not hear whose it is
			if got := call("join_session", "session_id=r", "node_id=eve", guess); !strings.Contains(got, "conflict") || strings.Contains(got, "eva") {
				t.Errorf("%s: %s", guess, got)
			}
		}
		// A master with an alias is named by that.
		for range 2 {
			if id := call("create_session", `_session_info_=["g",[["alice"],["bob","zorro"]]]`, "session_game_master_node_id=bob"); id != "g" {
				t.Fatal(id)
			}
		}
		if _, body := m.legacyCall("alice", "b", "get_session_info", "session_id=g"); !strings.Contains(body, `"session_game_master_node_id":"g~zorro"`) || strings.Contains(body, "bob") {
			t.Error(body)
		}
		for _, who := range []string{"alice", "bob"} {
			got := m.nodeIDs(m.mint(who, who, time.Hour), "b", "r")
			if want := []string{"alice", "carol", "r~batman", "r~eva", "r~zorro"}; !slices.Equal(got, want) {
				t.Errorf("%s sees %q", who, got)
			}
		}
	})
}

// collector is a legacy connection of which all messages are noted.
type collector struct {
	*raw
	mu  sync.Mutex
	got []frame // guarded by mu
}

func (m *mesh) collector(id, at string) *collector {
	c := &collector{raw: m.legacy(id, at)}
	go func() {
		for {
			_, b, err := c.ws.Read(context.Background())
			if err != nil {
				return
			}
			f := frame{text: string(b)}
			parser := envelope.Parser{From: envelope.FromServer}
			f.msg, err = parser.Parse(b)
			if errors.Is(err, envelope.ErrControl) { // what was wrong with its own
				continue
			}
			if err != nil {
				m.t.Errorf("%s: %s: %v", id, b, err)
			}
			c.mu.Lock()
			c.got = append(c.got, f)
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *collector) frames() []frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// Who joins and who leaves is told to the others, wherever they are, with what
// the original told: who, which session, which type and when.
func TestLegacyNotices(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		room := m.legacySession("alice", "a", "anyone_can_join=1")
		alice := m.collector("alice", "b")
		pass(3 * time.Second)
		m.legacyCall("bob", "c", "join_session", "session_id="+room)
		bob := m.collector("bob", "c")
		pass(3 * time.Second)
		if _, err := m.api("carol", "carol", "a").JoinSession(t.Context(), roomID(room)); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		m.legacyCall("bob", "a", "unjoin_session", "session_id="+room)
		pass(3 * time.Second)
		if _, err := m.api("carol", "carol", "c").LeaveSession(t.Context(), roomID(room)); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		for name, want := range map[*collector][]string{
			alice: {"100 bob", "100 carol", "103 bob", "103 carol"},
			bob:   {"100 carol"},
		} {
			var got []string
			for _, f := range name.frames() {
				var notice struct {
					Type    int     `json:"type"`
					Source  string  `json:"src_id"`
					Session string  `json:"dest_session_id"`
					Time    float64 `json:"timestamp"`
					Payload any     `json:"payload"`
				}
				if err := json.Unmarshal([]byte(f.text), &notice); err != nil || notice.Session != room || notice.Time == 0 || notice.Payload != nil {
					t.Errorf("got %s, %v", f.text, err)
				}
				got = append(got, fmt.Sprint(notice.Type, " ", notice.Source))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// Who is not in a session hears so, in the same words whether it exists or not,
// and nothing of what it said goes anywhere.
func TestLegacyNotMember(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		room := m.legacySession("alice", "a", "anyone_can_join=1")
		alice := m.collector("alice", "a")
		m.legacyCall("bob", "a", "join_session", "session_id="+room)
		m.legacyCall("bob", "a", "unjoin_session", "session_id="+room)
		pass(5 * time.Second)
		before := len(alice.frames())
		refused := m.at("b").Stats().Refusals()[envelope.NotFound]
		for _, who := range []string{"bob", "eve"} { // once a member, and never
			old := m.collector(who, "b")
			var want []envelope.Envelope
			for i, dest := range []string{
				`"dest_session_id":"` + room + `"`, `"dest_session_id":"none"`,
				`"dest_session_id":"` + room + `","dest_id":"alice"`, `"dest_session_id":"none","dest_id":"alice"`,
			} {
				for _, more := range []string{`,"id":"%d"`, ``, `,"id":"%d","type":0`, `,"id":"%d","type":1`} {
					if more != "" {
						more = fmt.Sprintf(strings.ReplaceAll(more, "%d", "%[1]d"), i*10+len(more))
					}
					frame := "{" + dest + more + `,"payload":"secret"}`
					var e envelope.Parser
					e.From = envelope.FromServer
					about, err := e.Parse([]byte(frame))
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, envelope.Envelope{
						ID: about.ID, DestNode: about.DestNode, DestSession: about.DestSession, HasType: true, Type: envelope.TypeNotMember,
					})
					old.send(frame)
				}
			}
			pass(5 * time.Second)
			got := old.frames()
			if len(got) != len(want) {
				t.Fatalf("%s: %d answers to %d messages", who, len(got), len(want))
			}
			for i, f := range got {
				if f.msg.Timestamp == 0 {
					t.Errorf("%s: no time in %s", who, f.text)
				}
				f.msg.Timestamp = 0
				if fmt.Sprint(f.msg) != fmt.Sprint(want[i]) {
					t.Errorf("%s: got %s, want %+v", who, f.text, want[i])
				}
			}
			_ = old.ws.CloseNow()
		}
		if n := m.at("b").Stats().Refusals()[envelope.NotFound] - refused; n != 32 {
			t.Errorf("%d refusals were counted, want 32", n)
		}
		if got := alice.frames(); len(got) != before {
			t.Errorf("alice got %v", got[before:])
		}
		// A member that names somebody who is none hears the same of that one.
		m.legacyCall("bob", "b", "join_session", "session_id="+room)
		old := m.legacy("bob", "b")
		old.send(`{"id":"1","dest_session_id":"` + room + `","dest_id":"eve","payload":"x"}`)
		old.answer(envelope.TypeNotMember, "1", deviceAddr("eve"))
		// Others have an error with a code.
		r := m.raw("eve", "a")
		r.hello("")
		r.control("caught_up")
		r.send(`{"id":"1","dest_session_id":"` + room + `","payload":"x"}`)
		if nack := r.control("nack"); nack.ID != "1" || nack.Code != envelope.NotFound {
			t.Errorf("got %+v", nack)
		}
	})
}
