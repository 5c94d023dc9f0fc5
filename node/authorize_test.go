package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/hook/ask"
)

// judge is an app's backend that is asked what clients may do.
type judge struct {
	t testing.TB

	mu     sync.Mutex
	asked  []ask.Question                                 // guarded by mu
	answer func(q ask.Question) (status int, body string) // guarded by mu; nil: yes
	silent chan struct{}                                  // guarded by mu; no answer before it is closed
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if err := hook.Verify([]byte(hookSecret), r.Header.Get(hook.SignatureHeader), body, time.Now(), time.Minute); err != nil {
		j.t.Error(err)
	}
	var q ask.Question
	if err := json.Unmarshal(body, &q); err != nil {
		j.t.Errorf("asked %s: %v", body, err)
	}
	j.mu.Lock()
	j.asked = append(j.asked, q)
	answer, silent := j.answer, j.silent
	j.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
			return
		}
	}
	status, text := http.StatusOK, `{"allow":true}`
	if answer != nil {
		status, text = answer(q)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (j *judge) set(answer func(q ask.Question) (status int, body string)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.answer = answer
}

// silence has it answer nothing until the returned function is called.
func (j *judge) silence() (speak func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	silent := make(chan struct{})
	j.silent = silent
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		close(silent)
		j.silent = nil
	}
}

// take returns what it was asked since the last time, as text.
func (j *judge) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []string
	for _, q := range j.asked {
		text := string(q.Action) + " " + string(q.Node)
		for _, more := range []string{string(q.Session), string(q.DestNode), string(q.DestClient), string(q.DestSession)} {
			if more != "" {
				text += " " + more
			}
		}
		if q.Anonymous {
			text += " anonymously"
		}
		if q.Create {
			text += " new"
		}
		if q.Guest {
			text += " as guest"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	j.asked = nil
	return all
}

func (j *judge) want(questions ...string) {
	j.t.Helper()
	if got := j.take(); !slices.Equal(got, questions) {
		j.t.Errorf("asked %q, want %q", got, questions)
	}
}

// denies answers no to an action, with a reason.
func denies(action ask.Action, reason string) func(ask.Question) (int, string) {
	return func(q ask.Question) (int, string) {
		if q.Action == action {
			return http.StatusOK, fmt.Sprintf(`{"allow":false,"reason":%q}`, reason)
		}
		return http.StatusOK, `{"allow":true}`
	}
}

// inJudgedMesh is inMesh with a backend that is asked about some actions. Its
// answers hold for a moment unless config says otherwise.
func inJudgedMesh(t *testing.T, n int, config func(*ask.Config), f func(t *testing.T, m *mesh, j *judge)) {
	t.Helper()
	network := new(clienttest.Network)
	j := new(judge)
	inMeshOf(t, 0, func(cfg *Config) {
		cfg.Authorize = ask.Config{
			URL: "http://backend/may", Secrets: [][]byte{[]byte(hookSecret)}, For: ask.Actions(), Timeout: 3 * time.Second,
			Client: network.Client(), Log: cfg.Log,
		}
		config(&cfg.Authorize)
	}, func(t *testing.T, m *mesh) {
		j.t = t
		backend := &http.Server{Handler: j}
		l := network.Listen("backend:80")
		var serving sync.WaitGroup
		serving.Go(func() { _ = backend.Serve(l) })
		defer serving.Wait()
		defer func() { _ = backend.Close() }()
		for i := range n {
			m.start(string(rune('a' + i)))
		}
		m.linked()
		f(t, m, j)
		for _, s := range m.servers {
			s.stop() // before the backend, whose connections it holds
		}
	})
}

// What is asked about each command that there is: whoever adds one decides.
func TestAuthorizeWhat(t *testing.T) {
	message := envelope.Envelope{DestNode: "room~zorro", DestSession: "room", ID: "m"}
	join := func(id envelope.SessionID) ask.Question { return ask.Question{Action: ask.Join, Session: id} }
	anonymously := join("room")
	anonymously.Anonymous = true
	var nothing ask.Question
	type asked struct {
		cmd  gateway.Command
		want ask.Question
	}
	rows := []asked{
		{gateway.Locate{Session: "room"}, ask.Question{Action: ask.Connect}},
		{gateway.JoinSession{ID: "room"}, join("room")},
		{gateway.JoinSession{ID: "room", As: gateway.Alias{Anonymous: true, Name: "zorro"}}, anonymously},
		{gateway.CreateSession{ID: "room"}, ask.Question{Action: ask.Join, Session: "room", Create: true}},
		{gateway.CreateSession{As: gateway.Alias{Anonymous: true}}, ask.Question{Action: ask.Join, Anonymous: true, Create: true}},
		{gateway.History{Log: room("topic:news")}, join("topic:news")},
		{gateway.History{Log: room("room")}, nothing},
		{gateway.History{Log: deviceAddr("topic:news")}, nothing},
		{gateway.GetHeader{ID: "topic:news"}, join("topic:news")},
		{gateway.GetHeader{ID: "room"}, nothing},
		{gateway.Send{Envelope: new(message)}, ask.Question{Action: ask.Send, DestNode: "room~zorro", DestSession: "room"}},
		{gateway.Send{Envelope: &envelope.Envelope{DestClient: "bob"}}, ask.Question{Action: ask.Send, DestClient: "bob"}},
		// On connections only, where topics are asked about one by one.
		{gateway.Hello{}, nothing},
		{gateway.Subscribe{}, nothing},
		{gateway.Unsubscribe{}, nothing},
		{gateway.Refresh{}, nothing}, // but when the credential has turned out to be good
		// One's own, and what is of those who have joined.
		{gateway.Acknowledge{}, nothing},
		{gateway.MarkRead{}, nothing},
		{gateway.FetchPending{}, nothing},
		{gateway.Trace{}, nothing},
		{gateway.LeaveSession{}, nothing},
		{gateway.RevealAnonymity{}, nothing},
		{gateway.GetSession{}, nothing},
		{gateway.SetHeader{}, nothing},
		{gateway.UpdateSession{}, nothing},
		{gateway.ChangeMember{}, nothing},
		{gateway.GetPresence{}, nothing},
		{gateway.PutPushToken{}, nothing},
		{gateway.DropPushToken{}, nothing},
		{gateway.Mute{}, nothing},
	}
	apps := []string{ // the app's own, who is not asked about
		"SendMany", "Disconnect", "DrainServer", "GetMesh", "GetEdges", "GetCursors", "Revoke", "GetRevocations", "ListSessions",
		"GetHooks", "ReplayHooks", "TestPush", "GetFailedPushes", "SettleFailedPush",
	}
	seen := make(map[string]bool)
	for _, row := range rows {
		name := strings.TrimPrefix(fmt.Sprintf("%T", row.cmd), "gateway.")
		seen[name] = true
		if got := questionOf(row.cmd); got != row.want {
			t.Errorf("%s %+v: asked %+v, want %+v", name, row.cmd, got, row.want)
		}
	}
	for name := range commands(t) {
		if !seen[name] && !slices.Contains(apps, name) {
			t.Errorf("what is asked about %s?", name)
		}
	}
}

// One question for the pre-connection call and the connection behind it; and who
// may not connect does not put out who is connected.
func TestAuthorizeConnect(t *testing.T) {
	inJudgedMesh(t, 1, func(c *ask.Config) { c.Keep = 30 * time.Second }, func(t *testing.T, m *mesh, j *judge) {
		key := m.mintNamed("bob", "bob", "k")
		bob := m.client("bob", "a").connected(m)
		j.want("connect bob")

		pass(31 * time.Second)
		stay, _ := m.connectWith(key, "a")
		j.want("connect bob")
		pass(31 * time.Second)
		j.set(denies(ask.Connect, "pay first"))
		if _, code := m.connectWith(key, "a"); code != envelope.Forbidden {
			t.Errorf("the pre-connection call: %v", code)
		}
		code, text := m.guestCall(client.Guest{AuthKey: key}, http.MethodPost, "a", "/v1/connect", "")
		if code != envelope.Forbidden || !strings.Contains(text, `"detail":"pay first"`) {
			t.Errorf("%s", text)
		}
		again := m.dial("ws://a/ws", "allspark.v2.json", "bearer."+stay)
		_, err := again.next(time.Minute)
		if status := websocket.CloseStatus(err); status != websocket.StatusCode(envelope.Forbidden.CloseCode()) || !strings.Contains(err.Error(), "pay first") {
			t.Errorf("closed with %v", err)
		}
		j.want("connect bob") // which was kept
		if ack := bob.send(to(deviceAddr("carl"), "1", "still there")); ack.Seq != 1 || m.at("a").Stats().Connected.Load() != 1 {
			t.Errorf("%+v", ack)
		}

		if status, _ := m.fetch(http.MethodGet, "http://a/connectV3?get_pre_connection_info=True&auth_key="+key, nil); status != http.StatusForbidden {
			t.Errorf("the legacy pre-connection call: %d", status)
		}
		if _, _, err := m.poll("bob", "a", "", "0s"); err == nil || !strings.HasPrefix(err.Error(), "403") {
			t.Errorf("a poll: %v", err)
		}
		resp := m.get(t.Context(), "bob", "a", "/v1/stream")
		events := readAllOf(t, resp)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden && !strings.Contains(events, `"code":"forbidden"`) {
			t.Errorf("a stream: %s %s", resp.Status, events)
		}
	})
}

// Who goes on with a fresh credential is asked about as if it had connected anew.
func TestAuthorizeRefresh(t *testing.T) {
	inJudgedMesh(t, 1, func(*ask.Config) {}, func(t *testing.T, m *mesh, j *judge) {
		bob := m.with(m.key(time.Hour, nil), "a")
		j.want("connect bob", "connect bob")
		bob.send(refreshing("r1", m.key(2*time.Hour, nil)))
		bob.control("refreshed")
		j.want("connect bob")
		j.set(denies(ask.Connect, "pay first"))
		bob.send(refreshing("r2", m.key(3*time.Hour, nil)))
		if c := bob.control("nack"); c.ID != "r2" || c.Code != envelope.Forbidden || c.Detail != "pay first" {
			t.Errorf("%+v", c)
		}
		bob.send(refreshing("r3", "x")) // about which nobody is asked
		bob.control("nack")
		j.want("connect bob")
	})
}

func TestAuthorizeGuestAndApp(t *testing.T) {
	inJudgedMesh(t, 1, func(*ask.Config) {}, func(t *testing.T, m *mesh, j *judge) {
		g := m.guest("a", "")
		if code, text := m.guestCall(g, http.MethodPost, "a", "/v1/connect", ""); code != "" {
			t.Errorf("%s", text)
		}
		j.want("connect " + string(g.Node) + " as guest")
		j.set(func(ask.Question) (int, string) { return http.StatusForbidden, "" })
		if _, code := m.connectWith(m.mintApp("boss"), "a"); code != "" {
			t.Errorf("the app: %v", code)
		}
		do := func(cmd gateway.Command) {
			if _, err := m.at("a").Do(t.Context(), backend, cmd); err != nil {
				t.Errorf("%+v: %v", cmd, err)
			}
		}
		do(gateway.CreateSession{ID: "room", Empty: true})
		do(gateway.SendMany{Envelope: envelope.Envelope{Body: []byte(`"payload":1`)}, To: []gateway.Destination{{Session: "room"}, {Node: "bob"}}})
		do(gateway.Send{Envelope: new(to(deviceAddr("bob"), "x", "x"))})
		j.want()
	})
}

// Every way into a session or to what is said in a topic.
func TestAuthorizeJoin(t *testing.T) {
	inJudgedMesh(t, 1, func(c *ask.Config) { c.For = []ask.Action{ask.Join} }, func(t *testing.T, m *mesh, j *judge) {
		if code := m.post("ann", "a", "/v1/sessions", `{"session_id":"room","anyone_can_join":true,"anonymous":true}`); code != "" {
			t.Fatal(code)
		}
		j.want("join ann room new")
		calls := func(want envelope.Code) {
			t.Helper()
			if code := m.post("bob", "a", "/v1/sessions/room/join", ``); code != want {
				t.Errorf("join: %q", code)
			}
			if code := m.post("hid", "a", "/v1/sessions/room/join", `{"alias":"zorro"}`); code != want {
				t.Errorf("join by an alias: %q", code)
			}
			status := http.StatusOK
			if want != "" {
				status = want.HTTPStatus()
			}
			if got, text := m.legacyCall("carl", "a", "join_session", "session_id=room"); got != status {
				t.Errorf("legacy join: %d %s", got, text)
			}
			var page historyPage
			if code := m.ask("dora", "a", "/v1/messages?log=session:topic:news", &page); code != want {
				t.Errorf("a topic's history: %q", code)
			}
			if code := m.ask("dora", "a", "/v1/sessions/topic:news/header", &page); code != want && (want != "" || code != envelope.NotFound) {
				t.Errorf("a topic's header: %q", code)
			}
		}
		j.set(denies(ask.Join, "members only"))
		calls(envelope.Forbidden)
		if code := m.post("bob", "a", "/v1/sessions", `{"session_id":"mine"}`); code != envelope.Forbidden {
			t.Errorf("a session of one's own: %q", code)
		}
		j.want("join bob mine new", "join bob room", "join carl room", "join carl room", "join dora topic:news", "join dora topic:news", "join hid room anonymously")

		eve := m.raw("eve", "a")
		eve.hello(`,"topics":["topic:one"]`)
		if c := eve.control("error"); c.Code != envelope.Forbidden || c.Detail != "topic:one: members only" {
			t.Errorf("%+v", c)
		}
		eve.control("caught_up")
		eve.send(`{"control":"subscribe","id":"s","topics":["topic:two","topic:three"]}`)
		if c := eve.control("nack"); c.ID != "s" || c.Code != envelope.Forbidden || !strings.HasSuffix(c.Detail, ": members only") {
			t.Errorf("%+v", c)
		}
		asked := j.take()
		if i := slices.Index(asked, "join eve topic:three"); i >= 0 { // with one refused, it need not be asked for
			asked = slices.Delete(asked, i, i+1)
		}
		if want := []string{"join eve topic:one", "join eve topic:two"}; !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
		m.at("a").publishText("topic:one") // nothing comes

		j.set(nil)
		calls("")
		j.take()
		eve.subscribe("", "topic:one", "topic:two")
		j.want("join eve topic:one", "join eve topic:two")
		eve.subscribe("", "topic:one", "topic:three") // one is followed
		j.want("join eve topic:three")
		if code := m.post("eve", "a", "/v1/sessions/"+strings.Repeat("x", 2000)+"/join", ``); code != envelope.BadRequest {
			t.Errorf("what is no id: %q", code)
		}
		j.want()
	})
}

// publishText says something in a topic in the name of the app.
func (s *server) publishText(topic string) {
	_, err := s.Do(s.mesh.t.Context(), backend, gateway.Send{Envelope: new(to(room(topic), "", "x"))})
	if err != nil {
		s.mesh.t.Error(err)
	}
}

// Many topics are asked about a few at a time, and one that is denied is named.
func TestAuthorizeTopics(t *testing.T) {
	inJudgedMesh(t, 1, func(*ask.Config) {}, func(t *testing.T, m *mesh, j *judge) {
		var topics []string
		for i := range envelope.MaxTopics {
			topics = append(topics, fmt.Sprintf("topic:%d", i))
		}
		bob := m.raw("bob", "a")
		bob.hello("")
		bob.control("caught_up")
		bob.subscribe("", topics...)
		if got := j.take(); len(got) != envelope.MaxTopics+1 {
			t.Errorf("%d questions", len(got))
		}
		bob.send(`{"control":"unsubscribe","topics":["` + strings.Join(topics, `","`) + `"]}`)
		bob.control("unsubscribed")
		j.set(func(q ask.Question) (int, string) {
			if q.Session == "topic:500" {
				return http.StatusForbidden, ""
			}
			return http.StatusOK, `{"allow":true}`
		})
		bob.send(`{"control":"subscribe","id":"s","topics":["` + strings.Join(topics, `","`) + `"]}`)
		if c := bob.control("nack"); c.Code != envelope.Forbidden || !strings.HasPrefix(c.Detail, "topic:500: ") {
			t.Errorf("%+v", c)
		}
	})
}

// Every way to send.
func TestAuthorizeSend(t *testing.T) {
	inJudgedMesh(t, 1, func(c *ask.Config) { c.For = []ask.Action{ask.Send} }, func(t *testing.T, m *mesh, j *judge) {
		ann := m.raw("ann", "a")
		ann.hello("")
		ann.control("caught_up")
		old := m.legacy("old", "a")
		j.set(denies(ask.Send, "muted"))
		for _, class := range []string{"durable", "volatile"} {
			ann.send(`{"id":"1","dest_id":"bob","class":"` + class + `","payload":1}`)
			if c := ann.control("nack"); c.ID != "1" || c.Code != envelope.Forbidden || c.Detail != "muted" || c.RetryMS != 0 {
				t.Errorf("%+v", c)
			}
		}
		ann.send(`{"dest_client_id":"bob","class":"volatile","payload":1}`)
		if c := ann.control("error"); c.Code != envelope.Forbidden {
			t.Errorf("%+v", c)
		}
		if code := m.post("ann", "a", "/v1/messages", `{"id":"2","dest_client_id":"bob","payload":1}`); code != envelope.Forbidden {
			t.Errorf("over HTTP: %q", code)
		}
		old.send(`{"id":"3","dest_id":"bob","payload":1}`)
		m.settle()
		j.want("send ann bob", "send ann bob", "send ann bob", "send ann bob", "send old bob")
		if lastSeq(t, m.at("a"), deviceAddr("bob"))+lastSeq(t, m.at("a"), user("bob")) != 0 {
			t.Error("something was stored")
		}
		j.set(nil)
		ann.send(`{"id":"1","dest_id":"bob","payload":1}`)
		if c := ann.control("ack"); c.Seq != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// A backend that answers slowly delays who asks, whose messages keep their
// order, and nobody else; and its failures do not reorder them either.
func TestAuthorizeOrder(t *testing.T) {
	inJudgedMesh(t, 1, func(c *ask.Config) { c.For, c.Keep = []ask.Action{ask.Send}, time.Minute }, func(t *testing.T, m *mesh, j *judge) {
		ann, bob := m.raw("ann", "a"), m.raw("bob", "a")
		for _, r := range []*raw{ann, bob} {
			r.hello("")
			r.control("caught_up")
		}
		bob.send(`{"id":"b0","dest_id":"carl","payload":0}`)
		bob.control("ack")
		speak := j.silence()
		go func() { // the server does not read on
			for i := range 5 {
				ann.send(fmt.Sprintf(`{"id":"a%d","dest_id":"carl","payload":%d}`, i, i))
			}
		}()
		m.settle()
		began := time.Now()
		for i := range 5 { // its answer was kept
			bob.send(fmt.Sprintf(`{"id":"b%d","dest_id":"carl","payload":%d}`, i+1, i))
			if c := bob.control("ack"); c.Seq != uint64(i+2) {
				t.Errorf("%+v", c)
			}
		}
		if time.Since(began) != 0 {
			t.Errorf("bob was held up for %v", time.Since(began))
		}
		pass(time.Second)
		speak()
		for i := range 5 {
			if c := ann.control("ack"); c.ID != fmt.Sprintf("a%d", i) || c.Seq != uint64(7+i) {
				t.Errorf("%+v", c)
			}
		}
		j.want("send ann carl", "send bob carl")

		speak = j.silence()
		go func() {
			ann.send(`{"id":"d0","dest_id":"dora","payload":0}`)
			ann.send(`{"id":"d1","dest_id":"dora","payload":1}`)
		}()
		pass(3500 * time.Millisecond) // nothing is said about d0 in time
		speak()
		for _, id := range []string{"d0", "d1"} { // it would overtake, though the answer is yes
			if c := ann.control("nack"); c.ID != id || c.Code != envelope.Busy || c.RetryMS == 0 {
				t.Errorf("%+v", c)
			}
		}
		for i, id := range []string{"d0", "d1"} {
			ann.send(fmt.Sprintf(`{"id":%q,"dest_id":"dora","payload":%d}`, id, i))
			if c := ann.control("ack"); c.ID != id || c.Seq != uint64(i+1) {
				t.Errorf("%+v", c)
			}
		}
	})
}

// A connection that waits for an answer ends at once when it has to, and what it
// has asked for is not done.
func TestAuthorizeEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(m *mesh)
		want envelope.Code
	}{
		{"revoked", func(m *mesh) { m.revoke("a", gateway.Revoke{Node: "ann"}) }, envelope.Revoked},
		{"disconnected", func(m *mesh) {
			if _, err := m.at("a").Do(m.t.Context(), backend, gateway.Disconnect{Node: "ann", Code: envelope.Forbidden}); err != nil {
				m.t.Error(err)
			}
		}, envelope.Forbidden},
		{"the server ends", func(m *mesh) { m.at("a").stop() }, envelope.GoingAway},
	} {
		t.Run(test.name, func(t *testing.T) {
			inJudgedMesh(t, 1, func(c *ask.Config) { c.For, c.Timeout = []ask.Action{ask.Send}, 10*time.Second }, func(t *testing.T, m *mesh, j *judge) {
				ann := m.raw("ann", "a")
				ann.hello("")
				ann.control("caught_up")
				speak := j.silence()
				ann.send(`{"id":"1","dest_id":"bob","payload":1}`)
				m.settle()
				began := time.Now()
				test.end(m)
				if got := ann.closed(); got != websocket.StatusCode(test.want.CloseCode()) {
					t.Errorf("closed with %d, want %d", got, test.want.CloseCode())
				}
				if d := time.Since(began); d > 2*time.Second { // a second of which revoke takes
					t.Errorf("after %v", d)
				}
				m.settle()
				speak()
				m.settle()
				if lastSeq(t, m.at("a"), deviceAddr("bob")) != 0 {
					t.Error("the message was sent")
				}
			})
		})
	}
}

// A server that ends waits for no answer about who wants to connect.
func TestAuthorizeEndsConnecting(t *testing.T) {
	inJudgedMesh(t, 1, func(c *ask.Config) { c.Timeout = 10 * time.Second }, func(t *testing.T, m *mesh, j *judge) {
		defer j.silence()()
		ann := m.raw("ann", "a")
		m.settle()
		began := time.Now()
		m.at("a").stop()
		if got := ann.closed(); got != websocket.StatusCode(envelope.GoingAway.CloseCode()) || time.Since(began) > time.Second {
			t.Errorf("closed with %d after %v", got, time.Since(began))
		}
	})
}

// While the backend is away, what is done follows the configuration, and only
// the first who ask wait for it.
func TestAuthorizeAway(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprintf("allowed: %v", open), func(t *testing.T) {
			inJudgedMesh(t, 1, func(c *ask.Config) { c.FailOpen = open }, func(t *testing.T, m *mesh, j *judge) {
				defer j.silence()()
				var held int
				for i := range 20 {
					began := time.Now()
					id := fmt.Sprintf("bob-%d", i)
					ticket, code := m.connectWith(m.mintNamed(id, id, id), "a")
					if (ticket != "") != open || code != "" && code != envelope.Busy {
						t.Errorf("%d: %q", i, code)
					}
					if time.Since(began) > 0 {
						held++
					}
				}
				if st := m.at("a").AuthorizeStats(); held != 3 || st.Opened.Load() != 1 {
					t.Errorf("%d were held up, opened %d times", held, st.Opened.Load())
				}
			})
		})
	}
}
