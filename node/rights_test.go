package node

import (
	"bytes"
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// Of everything that can be asked for: which right bounds it, and what is let
// through besides. What has no row is refused to whoever has any rights.
func TestRightsOfCommands(t *testing.T) {
	message := func(e envelope.Envelope) gateway.Send { return gateway.Send{Envelope: &e} }
	change := func(action gateway.MemberAction) gateway.ChangeMember {
		return gateway.ChangeMember{ID: "room", Action: action, Node: "bob"}
	}
	news := []envelope.SessionID{"topic:news"}
	rows := map[string][]struct {
		cmd   gateway.Command
		bound string // by this right; "": by none
		in    string // an entry of that right that lets it through, without its last letter
	}{
		"Send": {
			{message(envelope.Envelope{DestNode: "bob"}), "send", "node:bob"},
			{message(envelope.Envelope{DestNode: "bob", Class: envelope.Volatile}), "send", "node:bob"},
			{message(envelope.Envelope{DestClient: "bob"}), "send", "client:bob"},
			{message(envelope.Envelope{DestSession: "room"}), "send", "session:room"},
			{message(envelope.Envelope{DestSession: "room", Edits: 3}), "send", "session:room"},
			{message(envelope.Envelope{DestSession: "room", DestNode: "bob"}), "send", "session:room"},
			{message(envelope.Envelope{DestSession: "room", DestNode: "room~zorro"}), "send", "session:room"},
			{message(envelope.Envelope{DestSession: "topic:news"}), "send", "session:topic:news"},
		},
		"SetHeader":       {{gateway.SetHeader{ID: "room"}, "send", "session:room"}},
		"UpdateSession":   {{gateway.UpdateSession{ID: "room"}, "send", "session:room"}},
		"CreateSession":   {{gateway.CreateSession{ID: "room"}, "create", ""}, {gateway.CreateSession{ID: "room"}, "join", "room"}},
		"JoinSession":     {{gateway.JoinSession{ID: "room"}, "join", "room"}},
		"Hello":           {{gateway.Hello{}, "", ""}, {gateway.Hello{Topics: news}, "join", "topic:news"}},
		"Subscribe":       {{gateway.Subscribe{Topics: news}, "join", "topic:news"}},
		"History":         {{gateway.History{Log: room("room")}, "", ""}, {gateway.History{Log: room("topic:news")}, "join", "topic:news"}},
		"GetHeader":       {{gateway.GetHeader{ID: "room"}, "", ""}, {gateway.GetHeader{ID: "topic:news"}, "join", "topic:news"}},
		"GetSession":      {{gateway.GetSession{ID: "room"}, "", ""}, {gateway.GetSession{ID: "topic:news"}, "join", "topic:news"}},
		"Refresh":         {{gateway.Refresh{}, "", ""}},
		"Unsubscribe":     {{gateway.Unsubscribe{Topics: news}, "", ""}},
		"LeaveSession":    {{gateway.LeaveSession{ID: "room"}, "", ""}},
		"RevealAnonymity": {{gateway.RevealAnonymity{ID: "room"}, "", ""}},
		"Acknowledge":     {{gateway.Acknowledge{}, "", ""}},
		"MarkRead":        {{gateway.MarkRead{}, "", ""}},
		"FetchPending":    {{gateway.FetchPending{PushToken: "token"}, "", ""}},
		"GetCursors":      {{gateway.GetCursors{}, "", ""}},
		"GetPresence":     {{gateway.GetPresence{Clients: []envelope.ClientID{"bob"}}, "", ""}},
		"Trace":           {{gateway.Trace{ID: "1", Dest: room("room")}, "", ""}},
		"Locate":          {{gateway.Locate{}, "", ""}},
		"PutPushToken":    {{gateway.PutPushToken{}, "", ""}},
		"DropPushToken":   {{gateway.DropPushToken{}, "", ""}},
		"Mute":            {{gateway.Mute{}, "", ""}},
		"TestPush":        {{gateway.TestPush{}, "", ""}},
	}
	for action := range gateway.MemberAction(32) {
		row := rows["SetHeader"][0]
		if row.cmd = change(action); action == gateway.Decline {
			row.bound = ""
		}
		rows["ChangeMember"] = append(rows["ChangeMember"], row)
	}
	for name := range named(t, "rights.go") {
		if commands(t)[name] && len(rows[name]) == 0 {
			t.Errorf("which right bounds %s?", name)
		}
	}

	no := false
	nothing := map[string]*envelope.Rights{
		"send": {Send: []string{}}, "join": {Join: []string{}}, "create": {Create: &no},
	}
	for name, of := range rows {
		for _, row := range of {
			may := func(r *envelope.Rights, app bool) bool {
				return mayDo(envelope.Principal{Node: "al", Client: "al", App: app, Rights: r}, row.cmd) == nil
			}
			if !may(nil, false) || !may(&envelope.Rights{}, false) || !may(&envelope.Rights{Rate: 1}, false) {
				t.Errorf("%s %+v is refused by rights that do not bound it", name, row.cmd)
			}
			for right, r := range nothing {
				joins := name == "CreateSession" && right != "send" // two rights bound that
				if got := may(r, false); got == (right == row.bound || joins) {
					t.Errorf("%s %+v without the right %q: %v", name, row.cmd, right, got)
				}
				if !may(r, true) {
					t.Errorf("%s %+v: the app is bound", name, row.cmd)
				}
			}
			with := func(pattern string) *envelope.Rights {
				if row.bound == "send" {
					return &envelope.Rights{Send: []string{"node:none", pattern}}
				}
				return &envelope.Rights{Join: []string{"none", pattern}}
			}
			if row.in == "" {
				continue
			}
			short := row.in[:len(row.in)-1]
			for pattern, want := range map[string]bool{row.in: true, short + "*": true, row.in + "*": true, short: false, row.in + "s": false} {
				if got := may(with(pattern), false); got != (want || row.bound == "") {
					t.Errorf("%s %+v with %q: %v", name, row.cmd, pattern, got)
				}
			}
		}
	}
	type unheardOf struct{ gateway.Command }
	if mayDo(envelope.Principal{Node: "al", Client: "al", Rights: &envelope.Rights{}}, unheardOf{}) == nil {
		t.Error("a command that nobody has thought of is let through")
	}
}

// named returns the names that a file takes from package gateway.
func named(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if of, ok := n.(*ast.SelectorExpr); ok {
			if from, ok := of.X.(*ast.Ident); ok && from.Name == "gateway" {
				names[of.Sel.Name] = true
			}
		}
		return true
	})
	return names
}

// mintRights is mint for an auth key with rights.
func (m *mesh) mintRights(id, rights string, valid time.Duration) string {
	m.t.Helper()
	r, err := envelope.ParseRights([]byte(rights))
	if err != nil {
		m.t.Fatal(err)
	}
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(id), Node: envelope.NodeID(id), Rights: r, Issued: time.Now(), Expires: time.Now().Add(valid),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

// An auth key with rights is bound by them on every way to a server, also at
// another server than the one that made the validation token.
func TestRightsOnEveryWay(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "b").connected(m)
		for _, id := range []envelope.SessionID{"lobby", "room-1"} {
			if _, err := alice.CreateSession(t.Context(), id, envelope.Settings{AnyoneCanJoin: new(true)}); err != nil {
				t.Fatal(err)
			}
		}
		key := m.mintRights("bob", `{"send":["session:lobby"],"join":["lobby","topic:*"],"create":false}`, time.Hour)
		bob := client.Guest{AuthKey: key}
		call := func(method, path, body string, want envelope.Code) {
			t.Helper()
			if code, text := m.guestCall(bob, method, "a", path, body); code != want {
				t.Errorf("%s %s %s: %s, want %q", method, path, body, text, want)
			}
		}
		call(http.MethodPost, "/v1/sessions/room-1/join", "", envelope.Forbidden)
		call(http.MethodPost, "/v1/sessions/lobby/join", "", "")
		call(http.MethodPost, "/v1/sessions", `{"session_id":"lobby"}`, envelope.Forbidden)
		call(http.MethodPost, "/v1/messages", `{"id":"1","dest_id":"alice","payload":1}`, envelope.Forbidden)
		call(http.MethodPost, "/v1/messages", `{"id":"2","dest_session_id":"lobby","payload":1}`, "")
		call(http.MethodGet, "/v1/messages?log=session:topic:news", "", "")
		call(http.MethodPost, "/v1/sessions/lobby/invite", `{"node_id":"carl","client_id":"carl"}`, envelope.Forbidden) // not the owner's, but the gate's no

		c := m.dial("ws://b/ws", native.Subprotocol, "bearer."+m.guestTicket(bob, "b"))
		c.hello("")
		c.control("caught_up")
		c.send(`{"control":"subscribe","id":"s","topics":["topic:news"]}`)
		c.control("subscribed")
		for frame, want := range map[string]string{
			`{"id":"3","dest_id":"alice","payload":"hi"}`:                              "nack",
			`{"id":"4","dest_client_id":"alice","class":"volatile"}`:                   "nack",
			`{"id":"5","dest_session_id":"room-1","payload":"hi"}`:                     "nack",
			`{"id":"6","dest_session_id":"topic:news","payload":"hi"}`:                 "nack",
			`{"id":"7","dest_session_id":"lobby","payload":"hi"}`:                      "ack",
			`{"id":"8","dest_session_id":"lobby","dest_id":"alice","payload":"psst!"}`: "ack",
		} {
			c.send(frame)
			if f, err := c.next(time.Minute); err != nil || f.ctl.Control != want || want == "nack" && f.ctl.Code != envelope.Forbidden {
				t.Errorf("%s: %s, %v", frame, f.text, err)
			}
		}
		m.within(time.Minute, "alice hears what was let through", func() bool {
			said := strings.Join(alice.texts(), ",")
			return strings.Contains(said, "hi") && strings.Contains(said, "psst!")
		})
		if head := lastSeq(t, m.at("a"), user("alice")); head != 0 {
			t.Error("something came past the rights")
		}

		none := client.Guest{AuthKey: m.mintRights("carl", `{"send":[],"join":[]}`, time.Hour)}
		if code, text := m.guestCall(none, http.MethodGet, "a", "/v1/poll?wait=0s&topic=topic:news", ""); code != envelope.Forbidden && !strings.Contains(text, string(envelope.Forbidden)) {
			t.Errorf("a poll follows a topic without the right to it: %s", text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp := m.get(ctx, "nobody", "a", "/v1/stream?topic=topic:news", "Authorization", "Bearer "+none.AuthKey)
		defer resp.Body.Close()
		seen := make([]byte, 0, 4096)
		for !bytes.Contains(seen, []byte(envelope.Forbidden)) {
			part := make([]byte, 1024)
			n, err := resp.Body.Read(part)
			if seen = append(seen, part[:n]...); err != nil || bytes.Contains(seen, []byte("subscribed")) {
				t.Fatalf("%v after %s", err, seen)
			}
		}
		cancel()

		// The older form.
		post := func(path, key string, form url.Values) (int, string) {
			t.Helper()
			form.Set("auth_key", key)
			return m.fetch(http.MethodPost, "http://a"+path, form)
		}
		if status, body := post("/create_session", key, url.Values{}); status != http.StatusForbidden {
			t.Errorf("created %d %s", status, body)
		}
		if status, body := post("/join_session", key, url.Values{"session_id": {"room-1"}}); status != http.StatusForbidden {
			t.Errorf("joined %d %s", status, body)
		}
		if status, body := post("/join_session", key, url.Values{"session_id": {"lobby"}}); status != http.StatusOK {
			t.Errorf("not joined %d %s", status, body)
		}
		_, text := m.guestCall(none, http.MethodGet, "a", "/connectV3?get_pre_connection_info=True&auth_key="+none.AuthKey, "")
		var info struct {
			At  string `json:"node_id"`
			Key string `json:"validation_key"`
		}
		if err := json.Unmarshal([]byte(text), &info); err != nil || info.Key == "" {
			t.Fatalf("%s, %v", text, err)
		}
		pass(time.Millisecond)
		ws, _, err := websocket.Dial(t.Context(), "ws://"+info.At+"/connectV3?auth_key="+none.AuthKey+"&validation_key="+info.Key,
			&websocket.DialOptions{HTTPClient: m.network.Client()})
		if err != nil {
			t.Fatal(err)
		}
		old := &raw{t: t, ws: ws}
		old.parser.From = envelope.FromServer
		m.raws = append(m.raws, old)
		old.send(`{"id":"1","dest_id":"alice","payload":"from long ago"}`)
		if f, err := old.next(time.Minute); err != nil || f.ctl.Code != envelope.Forbidden {
			t.Errorf("%s, %v", f.text, err)
		}
	})
}
