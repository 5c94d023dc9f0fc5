package node

import (
	"bytes"
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// commands returns the names of all commands that there are.
func commands(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../gateway/*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "command" {
				names[f.Recv.List[0].Type.(*ast.Ident).Name] = true
			}
		}
	}
	return names
}

// What a guest may do, of everything that anybody can ask for. The code is that
// of a guest who is in the sessions "room" and "other", has been invited to
// "closed", and has said the first thing in "room".
func TestGuestRights(t *testing.T) {
	const (
		ok   = envelope.Code("")
		no   = envelope.Forbidden
		conn = envelope.BadRequest // belongs to a connection: it has been let through
	)
	limit := 5
	message := func(e envelope.Envelope) gateway.Send {
		e.Body = []byte(`"payload":"hi"`)
		return gateway.Send{Envelope: &e}
	}
	change := func(action gateway.MemberAction, id, node string) gateway.ChangeMember {
		return gateway.ChangeMember{
			ID: envelope.SessionID(id), Action: action, Node: envelope.NodeID(node), Client: envelope.ClientID(node), Role: "member",
		}
	}
	type right struct {
		cmd        gateway.Command
		any, other envelope.Code // of a guest, and of one who may join "other" only
	}
	rows := map[string][]right{
		"Send": {
			{message(envelope.Envelope{DestNode: "bob"}), no, no},
			{message(envelope.Envelope{DestNode: "bob", Class: envelope.Volatile}), no, no},
			{message(envelope.Envelope{DestClient: "bob"}), no, no},
			{message(envelope.Envelope{DestNode: "guest-1"}), no, no},
			{message(envelope.Envelope{}), no, no},
			{message(envelope.Envelope{DestSession: "room"}), ok, ok},
			{message(envelope.Envelope{DestSession: "room", DestNode: "alice"}), ok, ok},
			{message(envelope.Envelope{DestSession: "room", Class: envelope.Volatile}), ok, ok},
			{message(envelope.Envelope{DestSession: "room", ID: "edit", Edits: 4}), ok, ok},
			{message(envelope.Envelope{DestSession: "room", DestNode: "bob"}), envelope.NotFound, envelope.NotFound},
			{message(envelope.Envelope{DestSession: "closed"}), envelope.NotFound, envelope.NotFound},
		},
		"Hello": {
			{gateway.Hello{}, conn, conn},
			{gateway.Hello{Topics: []envelope.SessionID{"topic:news"}}, conn, no},
		},
		"Subscribe":   {{gateway.Subscribe{Topics: []envelope.SessionID{"topic:news"}}, conn, no}},
		"Unsubscribe": {{gateway.Unsubscribe{Topics: []envelope.SessionID{"topic:news"}}, conn, conn}},
		"Refresh":     {{gateway.Refresh{}, conn, conn}},
		"Locate":      {{gateway.Locate{Max: 3}, ok, ok}, {gateway.Locate{Session: "room", Max: 1}, ok, ok}},
		"Acknowledge": {{gateway.Acknowledge{Cursors: []envelope.Position{{Log: room("room"), Seq: 1}}}, ok, ok}},
		"MarkRead":    {{gateway.MarkRead{Cursors: []envelope.Position{{Log: room("room"), Seq: 1}}}, ok, ok}},
		"GetPresence": {
			{gateway.GetPresence{Clients: []envelope.ClientID{"alice"}}, no, no},
			{gateway.GetPresence{Session: "room"}, no, no},
		},
		"History": {
			{gateway.History{Log: room("room")}, ok, ok},
			{gateway.History{Log: room("room"), Back: true}, ok, ok},
			{gateway.History{Log: deviceAddr("guest-1")}, ok, ok},
			{gateway.History{Log: room("closed")}, envelope.NotFound, envelope.NotFound},
			{gateway.History{Log: user("alice")}, envelope.NotFound, envelope.NotFound},
		},
		"FetchPending": {{gateway.FetchPending{}, ok, ok}, {gateway.FetchPending{PushToken: tokenOf("guest-1")}, no, no}},
		"Trace":        {{gateway.Trace{ID: "first", Dest: room("room")}, no, no}},
		"CreateSession": {
			{gateway.CreateSession{ID: "mine"}, no, no},
			{gateway.CreateSession{ID: "topic:mine"}, no, no},
			{gateway.CreateSession{As: gateway.Alias{Anonymous: true}}, no, no},
		},
		"UpdateSession": {{gateway.UpdateSession{ID: "room", Change: envelope.Settings{MemberLimit: &limit}}, no, no}},
		"JoinSession": {
			{gateway.JoinSession{ID: "room"}, ok, no},
			{gateway.JoinSession{ID: "other"}, ok, ok},
			{gateway.JoinSession{ID: "open", As: gateway.Alias{Anonymous: true}}, ok, no},
			{gateway.JoinSession{ID: "shut"}, envelope.NotFound, no},
			{gateway.JoinSession{ID: "nowhere"}, envelope.NotFound, no},
			{gateway.JoinSession{ID: "invited"}, ok, no},
		},
		"LeaveSession":    {{gateway.LeaveSession{ID: "other"}, ok, ok}, {gateway.LeaveSession{ID: "shut"}, envelope.NotFound, envelope.NotFound}},
		"RevealAnonymity": {{gateway.RevealAnonymity{ID: "room"}, ok, ok}},
		"SetHeader": {
			{gateway.SetHeader{ID: "room", Document: []byte("1")}, no, no},
			{gateway.SetHeader{ID: "shut", Document: []byte("1")}, envelope.NotFound, envelope.NotFound},
		},
		"GetHeader": {
			{gateway.GetHeader{ID: "room"}, ok, ok},
			{gateway.GetHeader{ID: "topic:none"}, envelope.NotFound, no},
			{gateway.GetHeader{ID: "shut"}, envelope.NotFound, envelope.NotFound},
		},
		"Revoke":         {{gateway.Revoke{}, no, no}, {gateway.Revoke{Node: "guest-1"}, no, no}},
		"GetRevocations": {{gateway.GetRevocations{}, no, no}},
		"GetHooks":       {{gateway.GetHooks{}, no, no}},
		"ReplayHooks":    {{gateway.ReplayHooks{}, no, no}},
		"PutPushToken":   {{gateway.PutPushToken{Service: "fcm", Value: "token"}, no, no}},
		"DropPushToken":  {{gateway.DropPushToken{}, no, no}},
		"Mute":           {{gateway.Mute{Log: room("room")}, no, no}},

		"TestPush":         {{gateway.TestPush{}, no, no}, {gateway.TestPush{Node: "alice"}, no, no}},
		"GetFailedPushes":  {{gateway.GetFailedPushes{}, no, no}},
		"SettleFailedPush": {{gateway.SettleFailedPush{Node: "alice"}, no, no}, {gateway.SettleFailedPush{Node: "guest-1", Again: true}, no, no}},

		"SendMany":     {{gateway.SendMany{Envelope: envelope.Envelope{ID: "many"}, To: []gateway.Destination{{Session: "room"}}}, no, no}},
		"Disconnect":   {{gateway.Disconnect{Node: "alice"}, no, no}, {gateway.Disconnect{Node: "guest-1"}, no, no}},
		"GetMesh":      {{gateway.GetMesh{}, no, no}},
		"ListSessions": {{gateway.ListSessions{}, no, no}},
		"DrainServer":  {{gateway.DrainServer{Server: "a"}, no, no}},
		"GetEdges":     {{gateway.GetEdges{Of: deviceAddr("guest-1")}, no, no}},
		"GetCursors":   {{gateway.GetCursors{}, no, no}, {gateway.GetCursors{Node: "alice"}, no, no}},
		"GetSession":   {{gateway.GetSession{ID: "room"}, ok, ok}, {gateway.GetSession{ID: "shut"}, envelope.NotFound, envelope.NotFound}},
		"ChangeMember": {
			{change(gateway.Decline, "closed", ""), ok, ok},
			{change(gateway.Transfer, "room", "guest-1"), no, no},
			{change(gateway.Add, "shut", "guest-1"), no, no},
		},
	}
	for action := range gateway.MemberAction(32) { // those that there are, and some to come
		if action != gateway.Decline {
			rows["ChangeMember"] = append(rows["ChangeMember"], right{change(action, "room", "alice"), no, no})
		}
	}
	for name := range commands(t) {
		if len(rows[name]) == 0 {
			t.Errorf("may a guest do %s?", name)
		}
	}

	inMesh(t, 1, func(t *testing.T, m *mesh) {
		n := m.at("a")
		do := func(who envelope.Principal, cmd gateway.Command) error {
			_, err := n.Do(t.Context(), who, cmd)
			return err
		}
		alice := envelope.Principal{Node: "alice", Client: "alice"}
		open, shut := true, false
		create := func(id string, anyone *bool) {
			if err := do(alice, gateway.CreateSession{ID: envelope.SessionID(id), Settings: envelope.Settings{AnyoneCanJoin: anyone}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"room", "other", "open"} {
			create(id, &open)
		}
		for _, id := range []string{"closed", "shut", "invited"} {
			create(id, &shut)
		}
		if err := do(alice, gateway.SetHeader{ID: "room", Document: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		for _, who := range []envelope.Principal{
			{Node: "guest-1", Client: "guest-1", Guest: true},
			{Node: "guest-2", Client: "guest-2", Guest: true, Only: "other"},
		} {
			for _, id := range []string{"room", "other"} { // even if the app adds it
				anybody := envelope.Principal{Node: who.Node, Client: who.Client}
				if err := do(anybody, gateway.JoinSession{ID: envelope.SessionID(id)}); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range []string{"closed", "invited"} {
				if err := do(alice, change(gateway.Invite, id, string(who.Node))); err != nil {
					t.Fatal(err)
				}
			}
			if err := do(who, message(envelope.Envelope{DestSession: "room", ID: "first"})); err != nil {
				t.Fatal(err)
			}
			said := lastSeq(t, n, room("room"))
			for name, tests := range rows {
				for _, tt := range tests {
					cmd, want := tt.cmd, tt.any
					if who.Only != "" {
						want = tt.other
					}
					if of, is := cmd.(gateway.Send); is && of.Envelope.Edits != 0 {
						of.Envelope.Edits = said
						cmd = of
					}
					if of, is := cmd.(gateway.History); is && of.Log == deviceAddr("guest-1") {
						of.Log = who.Node.Address()
						cmd = of
					}
					claims := envelope.Principal{Node: who.Node, Client: who.Client, Guest: true, App: true}
					if err := do(claims, cmd); envelope.CodeOf(err) != no {
						t.Errorf("for a guest that claims to be the app: %s %+v: %v", name, cmd, err)
					}
					if name == "LeaveSession" || name == "JoinSession" { // in whatever order
						_ = do(alice, change(gateway.Invite, "invited", string(who.Node)))
					}
					if err := do(who, cmd); envelope.CodeOf(err) != want {
						t.Errorf("%+v: %s %+v: %v, want %q", who, name, cmd, err, want)
					}
				}
			}
		}
		if head := lastSeq(t, n, user("bob")) + lastSeq(t, n, deviceAddr("bob")); head != 0 {
			t.Error("a guest has written to somebody outside a session")
		}
		for _, id := range []envelope.SessionID{"mine", "topic:mine"} {
			if _, err := n.store.Session(t.Context(), id); err == nil {
				t.Errorf("a guest has made %s", id)
			}
		}
	})
}

func lastSeq(t *testing.T, n *server, log envelope.Address) uint64 {
	t.Helper()
	heads, err := n.store.Heads(t.Context(), map[envelope.Address]uint64{log: 0})
	if err != nil {
		t.Fatal(err)
	}
	return heads[log]
}

// guest makes a guest by the call that everybody may make.
func (m *mesh) guest(at string, only envelope.SessionID) client.Guest {
	m.t.Helper()
	g, err := (&client.API{Servers: []string{"http://" + at}, HTTPClient: m.network.Client()}).Guest(m.t.Context(), only)
	if err != nil {
		m.t.Fatal(err)
	}
	return g
}

// guestCall makes a call with the auth key of a guest.
func (m *mesh) guestCall(g client.Guest, method, at, path, body string) (envelope.Code, string) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, "http://"+at+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.AuthKey)
	resp, err := m.network.Client().Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	var problem gateway.Problem
	if resp.StatusCode != http.StatusOK {
		if err := json.Unmarshal(text, &problem); err != nil || problem.Code == "" {
			m.t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
		}
	}
	return problem.Code, string(text)
}

// guestTicket makes the pre-connection call for a guest and returns the
// validation token for that server.
func (m *mesh) guestTicket(g client.Guest, at string) string {
	m.t.Helper()
	_, text := m.guestCall(g, http.MethodPost, "a", "/v1/connect", "")
	var reply struct{ Servers []client.Node }
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range reply.Servers {
		if string(s.NodeID) == at {
			return s.ValidationToken
		}
	}
	m.t.Fatalf("%s is not among %s", at, text)
	return ""
}

// A guest is made at one server, connects to another, joins by an alias, speaks
// and is spoken to, and may do no more over the connection than over HTTP.
func TestGuestConnection(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "b").connected(m)
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		g := m.guest("a", "")
		if g.Node == "" || string(g.Node) != string(g.Client) || g.Lasts() != guestTTL {
			t.Fatalf("%+v", g)
		}
		c := m.dial("ws://b/ws", native.Subprotocol, "bearer."+m.guestTicket(g, "b"))
		c.hello("")
		c.control("caught_up")

		refused := func(frame, id string) {
			t.Helper()
			c.send(frame)
			f, err := c.next(time.Minute)
			if err != nil || f.ctl.Code != envelope.Forbidden || f.ctl.ID != id || (f.ctl.Control == "nack") != (id != "") {
				t.Errorf("%s: %s, %v", frame, f.text, err)
			}
		}
		refused(`{"id":"1","dest_id":"alice","payload":"hi"}`, "1")
		refused(`{"id":"2","dest_client_id":"alice","payload":"hi"}`, "2")
		refused(`{"dest_id":"alice","class":"volatile","payload":"hi"}`, "")
		refused(`{"control":"presence","clients":["alice"]}`, "")
		refused(`{"control":"presence","clients":["alice"],"subscribe":true}`, "")

		c.send(`{"control":"subscribe","topics":["topic:news"]}`)
		c.control("subscribed")
		c.send(`{"id":"5","dest_session_id":"topic:news","payload":"whoever listens"}`)
		if ack := c.control("ack"); ack.ID != "5" || ack.Seq != 0 {
			t.Errorf("%+v", ack)
		}

		if code, text := m.guestCall(g, http.MethodPost, "a", "/v1/sessions/room/join", `{"alias":"zorro"}`); code != "" {
			t.Fatal(text)
		}
		alice.send(to(room("room"), "hello", "hello"))
		c.message("hello")
		c.send(`{"id":"3","dest_session_id":"room","payload":"I was never here"}`)
		if ack := c.control("ack"); ack.ID != "3" || ack.Seq == 0 {
			t.Errorf("%+v", ack)
		}
		c.send(`{"id":"4","dest_session_id":"room","dest_id":"alice","payload":"psst"}`)
		c.control("ack")
		m.within(time.Minute, "alice hears the guest", func() bool {
			said := strings.Join(alice.texts(), ",")
			return strings.Contains(said, "I was never here") && strings.Contains(said, "psst")
		})
		for _, msg := range alice.messages() {
			if msg.SrcNode == g.Node || msg.SrcClient == g.Client {
				t.Errorf("alice sees who it was: %+v", msg)
			}
		}
		if code, _ := m.guestCall(g, http.MethodPost, "b", "/v1/sessions/room/leave", ""); code != "" {
			t.Error(code)
		}

		// When the identity ends, so does the connection.
		begin := time.Now()
		var err error
		for err == nil {
			_, err = c.next(2 * guestTTL)
		}
		if status := websocket.CloseStatus(err); int(status) != envelope.Unauthorized.CloseCode() || time.Since(begin) > g.Lasts()+time.Minute {
			t.Errorf("after %v closed with %v", time.Since(begin), err)
		}
		if code, _ := m.guestCall(g, http.MethodPost, "a", "/v1/connect", ""); code != envelope.Unauthorized {
			t.Errorf("expired, and answered %q", code)
		}
	})
}

// Streams, polls and the older form take guests, too.
func TestGuestWithoutSocket(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		g := m.guest("a", "room")
		if code, text := m.guestCall(g, http.MethodPost, "a", "/v1/sessions/room/join", ""); code != "" {
			t.Fatal(text)
		}
		if code, _ := m.guestCall(g, http.MethodPost, "a", "/v1/sessions/elsewhere/join", ""); code != envelope.Forbidden {
			t.Errorf("joined elsewhere: %q", code)
		}
		alice.send(to(room("room"), "1", "to whoever polls"))
		if code, text := m.guestCall(g, http.MethodGet, "a", "/v1/poll?wait=0s", ""); code != "" || !strings.Contains(text, "to whoever polls") {
			t.Errorf("polled %q %s", code, text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pass(time.Millisecond)
		resp := m.get(ctx, "nobody", "a", "/v1/stream", "Authorization", "Bearer "+g.AuthKey)
		defer resp.Body.Close()
		seen := make([]byte, 0, 4096)
		for !bytes.Contains(seen, []byte("to whoever polls")) {
			part := make([]byte, 1024)
			n, err := resp.Body.Read(part)
			if seen = append(seen, part[:n]...); err != nil {
				t.Fatalf("%v after %s", err, seen)
			}
		}
		cancel()

		_, text := m.guestCall(g, http.MethodGet, "a", "/connectV3?get_pre_connection_info=True&auth_key="+g.AuthKey, "")
		var info struct {
			Key string `json:"validation_key"`
		}
		if err := json.Unmarshal([]byte(text), &info); err != nil || info.Key == "" {
			t.Fatalf("%s, %v", text, err)
		}
		pass(time.Millisecond)
		ws, _, err := websocket.Dial(t.Context(), "ws://a/connectV3?auth_key="+g.AuthKey+"&validation_key="+info.Key,
			&websocket.DialOptions{HTTPClient: m.network.Client()})
		if err != nil {
			t.Fatal(err)
		}
		old := &raw{t: t, ws: ws}
		old.parser.From = envelope.FromServer
		m.raws = append(m.raws, old)
		old.send(`{"id":"1","dest_id":"alice","payload":"hi"}`)
		old.send(`{"id":"2","dest_session_id":"room","payload":"from long ago"}`)
		m.within(time.Minute, "the message to the session", func() bool {
			return strings.Contains(strings.Join(alice.texts(), ","), "from long ago")
		})
		if head := lastSeq(t, m.at("a"), deviceAddr("alice")); head != 0 {
			t.Errorf("alice got %d messages of a guest", head)
		}
		if status, body := m.fetch(http.MethodGet, "http://a/create_session?auth_key="+g.AuthKey, nil); status != http.StatusForbidden {
			t.Errorf("created %d %s", status, body)
		}
		if status, body := m.fetch(http.MethodPost, "http://a/unjoin_session", url.Values{
			"auth_key": {g.AuthKey}, "session_id": {"room"},
		}); status != http.StatusOK || body != "null" {
			t.Errorf("left with %d %s", status, body)
		}
	})
}

// The credentials of guests and users are good for what they are made for.
func TestGuestCredentials(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		g, other := m.guest("a", ""), m.guest("a", "")
		open := func(url string, subprotocols ...string) int {
			t.Helper()
			ws, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: m.network.Client(), Subprotocols: subprotocols})
			if err == nil {
				_ = ws.CloseNow()
			}
			return resp.StatusCode
		}
		ticket := m.guestTicket(g, "a")
		for name, status := range map[string]int{
			"guest key as validation token":          open("ws://a/ws", native.Subprotocol, "bearer."+g.AuthKey),
			"guest key in the query":                 open("ws://a/ws?token=" + g.AuthKey),
			"validation token as legacy auth key":    open("ws://a/connectV3?auth_key=" + ticket + "&validation_key=" + m.guestTicket(g, "a")),
			"validation token of another guest":      open("ws://a/connectV3?auth_key=" + g.AuthKey + "&validation_key=" + m.guestTicket(other, "a")),
			"validation token of a user of that id":  open("ws://a/connectV3?auth_key=" + g.AuthKey + "&validation_key=" + m.ticket(string(g.Client), string(g.Node), "a")),
			"the app's auth key with a guest's id":   open("ws://a/connectV3?auth_key=" + m.mint(string(g.Client), string(g.Node), time.Hour) + "&validation_key=" + ticket),
			"validation token that was used already": func() int { open("ws://a/ws?token=" + ticket); return open("ws://a/ws?token=" + ticket) }(),
		} {
			if status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, status)
			}
		}
		g.AuthKey = ticket
		if code, _ := m.guestCall(g, http.MethodPost, "a", "/v1/connect", ""); code != envelope.Unauthorized {
			t.Errorf("validation token as auth key: %q", code)
		}
		for _, body := range []string{`{"session_id":"a b"}`, `{"node_id":"guest-1"}`, `[]`, `{"session_id":"a","session_id":"a"}`} {
			if code, _ := m.guestCall(g, http.MethodPost, "a", "/v1/guests", body); code != envelope.BadRequest {
				t.Errorf("%s: %q", body, code)
			}
		}
		refused := envelope.Code("")
		for range 101 {
			refused, _ = m.guestCall(g, http.MethodPost, "a", "/v1/guests", "{}")
		}
		if refused != envelope.RateLimited {
			t.Errorf("the 103rd guest: %q", refused)
		}
		pass(time.Second)
		m.guest("a", "")
	})
}

// Who can never come back does not keep its seat.
func TestGuestsAreRetired(t *testing.T) {
	config := func(c *Config) {
		c.Guests, c.Timing.Tidy = true, time.Minute
	}
	inMeshOf(t, 2, config, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		limit := 3
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{MemberLimit: &limit}); err != nil {
			t.Fatal(err)
		}
		join := func(g client.Guest, body string, want envelope.Code) {
			t.Helper()
			if code, text := m.guestCall(g, http.MethodPost, "b", "/v1/sessions/room/join", body); code != want {
				t.Errorf("join: %s, want %q", text, want)
			}
		}
		hidden, named := m.guest("a", ""), m.guest("b", "")
		join(hidden, `{"as_anonymous":true}`, "")
		join(named, "", "")
		join(m.guest("a", ""), "", envelope.Conflict)
		in := func() (names []string) {
			t.Helper()
			s, err := alice.Session(t.Context(), "room")
			if err != nil {
				t.Fatal(err)
			}
			for _, member := range s.Members {
				names = append(names, string(member.Node))
			}
			return names
		}
		pass(guestTTL - 10*time.Second)
		if names := in(); len(names) != 3 {
			t.Errorf("before their time: %q", names)
		}
		m.within(guestGrace+3*time.Minute, "the guests leave", func() bool { return len(in()) == 1 })
		if names := in(); names[0] != "alice" {
			t.Errorf("left are %q", names)
		}
		var left []string
		m.within(time.Minute, "alice hears of it", func() bool {
			left = nil
			for _, msg := range alice.messages() {
				if msg.Type == envelope.TypeLeft {
					left = append(left, string(msg.SrcNode))
				}
			}
			return len(left) == 2
		})
		if said := strings.Join(left, ","); !strings.Contains(said, string(named.Node)) || strings.Contains(said, string(hidden.Node)) {
			t.Errorf("alice is told that %s have left", said)
		}
		join(m.guest("b", ""), "", "")
	})
}
