package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// mintApp returns an auth key of the app.
func (m *mesh) mintApp(id string) string {
	m.t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(id), Node: envelope.NodeID(id), App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

// nodeIDs returns what get_session_info says of the members, in order.
func (m *mesh) nodeIDs(key, at, room string) []string {
	m.t.Helper()
	status, body := m.legacyCallWith(key, at, "get_session_info", "session_id="+room)
	var info struct {
		NodeIDs []string `json:"node_ids"`
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != http.StatusOK {
		m.t.Fatalf("%d %s: %v", status, body, err)
	}
	slices.Sort(info.NodeIDs)
	return info.NodeIDs
}

// The app makes a session of others, who need do nothing for it. It is not a
// member itself, unless it lists itself.
func TestLegacySessionOfOthers(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		app := m.mintApp("app")
		var found struct {
			Addr string `json:"addr"`
			Key  string `json:"validation_key"`
		}
		_, body := m.fetch(http.MethodGet, "http://a/connectV3?get_pre_connection_info=True&auth_key="+app, nil)
		if err := json.Unmarshal([]byte(body), &found); err != nil {
			t.Fatal(err)
		}
		appSocket := m.dial("ws://" + found.Addr + "/connectV3?auth_key=" + app + "&validation_key=" + found.Key)
		alice, bob := m.collector("alice", "a"), m.collector("bob", "b")
		pass(time.Second)
		for range 2 {
			status, body := m.legacyCallWith(app, "b", "create_session", `_session_info_=["pair",[["alice"],["bob"]]]`)
			if status != http.StatusOK || body != "pair" {
				t.Fatalf("created %d %s", status, body)
			}
			pass(3 * time.Second)
		}
		for _, key := range []string{app, m.mint("alice", "alice", time.Hour)} {
			if got := m.nodeIDs(key, "a", "pair"); !slices.Equal(got, []string{"alice", "bob"}) {
				t.Errorf("members %q", got)
			}
		}
		alice.send(`{"id":"1","dest_session_id":"pair","payload":"hi bob"}`)
		bob.send(`{"id":"1","dest_session_id":"pair","dest_id":"alice","payload":"hi alice"}`)
		pass(3 * time.Second)
		for _, tt := range []struct {
			who  *collector
			want []string
		}{
			{alice, []string{"100 alice ", "100 bob ", "0 bob hi alice"}},
			{bob, []string{"100 bob ", "0 alice hi bob"}},
		} {
			var got []string
			for _, f := range tt.who.frames() {
				got = append(got, fmt.Sprintf("%d %s %s", f.msg.Type, f.msg.SrcNode, text(f.msg)))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		}
		appSocket.send(`{"id":"1","dest_session_id":"pair","payload":"x"}`)
		appSocket.answer(envelope.TypeNotMember, "1", room("pair"))

		status, id := m.legacyCallWith(app, "a", "create_session", `_session_info_=[null,[["app"],["carol"]]]`)
		if got := m.nodeIDs(app, "b", id); status != http.StatusOK || !slices.Equal(got, []string{"app", "carol"}) {
			t.Errorf("%d %s: members %q", status, id, got)
		}
	})
}

// The app adds others; an owner invites them, and they join by themselves.
func TestLegacyJoinForOthers(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		app, alice := m.mintApp("app"), m.mint("alice", "alice", time.Hour)
		room := m.legacySession("alice", "a")
		for _, tt := range []struct {
			name, key, node string
			status          int
			body            string // or the code
			members         []string
		}{
			{"an outsider", m.mint("eve", "eve", time.Hour), "eve-2", 404, "not_found", []string{"alice"}},
			{"the owner", alice, "bob", 202, `["bob",null]`, []string{"alice"}},
			{"the one invited", m.mint("bob", "bob", time.Hour), "", 200, `["bob",null]`, []string{"alice", "bob"}},
			{"the owner again", alice, "bob", 200, `["bob",null]`, []string{"alice", "bob"}},
			{"a member", m.mint("bob", "bob", time.Hour), "carol", 403, "forbidden", []string{"alice", "bob"}},
			{"the app", app, "carol", 200, `["carol",null]`, []string{"alice", "bob", "carol"}},
			{"the app with no id", app, "a b", 400, "bad_request", []string{"alice", "bob", "carol"}},
			{"the owner with no id", alice, "a b", 400, "bad_request", []string{"alice", "bob", "carol"}},
		} {
			params := []string{"session_id=" + room}
			if tt.node != "" {
				params = append(params, "node_id="+tt.node)
			}
			status, body := m.legacyCallWith(tt.key, "b", "join_session", params...)
			var refusal struct{ Code string }
			if status >= 400 && json.Unmarshal([]byte(body), &refusal) == nil {
				body = refusal.Code
			}
			if status != tt.status || body != tt.body {
				t.Errorf("%s: got %d %s, want %d %s", tt.name, status, body, tt.status, tt.body)
			}
			if got := m.nodeIDs(alice, "a", room); !slices.Equal(got, tt.members) {
				t.Errorf("%s: then the members are %q, want %q", tt.name, got, tt.members)
			}
		}
	})
}
