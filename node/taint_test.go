package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/push"
)

// wiretap keeps every byte between clients and servers, what devices are woken with, and what
// servers log.
type wiretap struct {
	mu    sync.Mutex
	conns []*tapped    // guarded by mu
	log   bytes.Buffer // guarded by mu
	asked map[string]bool

	pushes service
	hooks  hookTap
}

// Write takes what is logged.
func (w *wiretap) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *wiretap) heard(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[name] = true
}

type tappedListener struct {
	net.Listener
	w *wiretap
}

func (l tappedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &tapped{Conn: c}
	l.w.mu.Lock()
	l.w.conns = append(l.w.conns, t)
	l.w.mu.Unlock()
	return t, nil
}

// tapped is one connection of a client, from the server's side.
type tapped struct {
	net.Conn
	mu        sync.Mutex
	said, got bytes.Buffer // by the client, and by it; guarded by mu
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said.Write(p[:n])
	return n, err
}

func (t *tapped) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.got.Write(p)
	t.mu.Unlock()
	return t.Conn.Write(p)
}

var tokenInside = regexp.MustCompile(`eyJ[\w-]+\.([\w-]+)\.`)

// whose returns the claims of the credentials that the client has shown.
func (t *tapped) whose() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var claims strings.Builder
	for _, token := range tokenInside.FindAllSubmatch(t.said.Bytes(), -1) {
		text, _ := base64.RawURLEncoding.DecodeString(string(token[1]))
		claims.Write(text)
	}
	return claims.String()
}

func (t *tapped) received() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.got.Bytes())
}

// asking is a core that notes which commands there have been.
type asking struct {
	gateway.Core
	w *wiretap
}

func (a asking) Do(ctx context.Context, who envelope.Principal, cmd gateway.Command) (gateway.Event, error) {
	a.w.heard(fmt.Sprintf("%T", cmd))
	return a.Core.Do(ctx, who, cmd)
}

func (a asking) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, c gateway.Codec, o gateway.Options) {
	a.Core.Serve(ctx, who, t, askingCodec{c, a.w}, o)
}

type askingCodec struct {
	gateway.Codec
	w *wiretap
}

func (c askingCodec) Decode(frame []byte) (gateway.Command, string, error) {
	cmd, id, err := c.Codec.Decode(frame)
	c.w.heard(fmt.Sprintf("%T", cmd))
	return cmd, id, err
}

// tappedMesh runs f in a mesh of three servers of which everything is kept, to
// be looked at when it has ended.
func tappedMesh(t *testing.T, f func(t *testing.T, m *mesh)) *wiretap {
	t.Helper()
	w := &wiretap{asked: make(map[string]bool)}
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 0, func(cfg *Config) {
			cfg.Log = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
			cfg.Graph.Logger = cfg.Log
			cfg.Push = Push{
				Store: cfg.Inbox.(push.Store), Senders: map[push.Service]push.Sender{push.FCM: &w.pushes}, After: time.Second, Interval: time.Second,
				Text: push.Text{Title: "{sender} in {session}: {unread}", BodyKey: "key", Content: true},
			}
			cfg.Hooks = Hooks{Receivers: []hook.Receiver{{Name: "default", URL: "http://backend"}}, Client: &http.Client{Transport: &w.hooks}}
		}, true)
		defer m.close()
		m.tap = func(l net.Listener) net.Listener { return tappedListener{l, w} }
		m.core = func(s *server) gateway.Core { return asking{s, w} }
		for _, id := range []string{"a", "b", "c"} {
			m.start(id)
		}
		m.linked()
		f(t, m)
	})
	return w
}

// The ids of anonymous members are canaries: whatever happens in sessions, no
// byte to any other client has them, and no log tells what they do there. The canary is a
// device and user of that name, whom nobody else names; the turncoat has
// revealed itself in one session and is anonymous in another one.
func TestTaint(t *testing.T) {
	guest := ""
	w := tappedMesh(t, func(t *testing.T, m *mesh) { guest = (&taint{mesh: m}).everything(t) })
	for name := range commands(t) {
		if !w.asked["gateway."+name] {
			t.Errorf("nobody has asked for %s", name)
		}
	}
	hidden := []string{"canary", guest}
	others, all := 0, []byte(nil) // what others were told
	for _, c := range w.conns {
		whose, got := c.whose(), c.received()
		for _, id := range hidden {
			if !strings.Contains(whose, id) && bytes.Contains(got, []byte(id)) && whose != "" { // only the guest is told its id without showing who it is
				t.Errorf("%s was told of %s: %s", whose, id, around(got, id))
			}
		}
		if strings.Contains(whose, "canary") {
			continue
		}
		others++
		all = append(all, got...)
		for part := range bytes.SplitSeq(got, []byte("\x81")) { // begins a frame
			if !strings.Contains(whose, "turncoat") && bytes.Contains(part, []byte("turncoat")) && bytes.Contains(part, []byte("r~hid")) {
				t.Errorf("%s was told whose r~hid is: %q", whose, part)
			}
		}
	}
	pushes := []byte(nil)
	for _, p := range w.pushes.take() {
		text, err := json.Marshal(p.n)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range append(hidden, "turncoat") {
			if p.to.Node != envelope.NodeID(id) && bytes.Contains(text, []byte(id)) && (id != "turncoat" || bytes.Contains(text, []byte("r~hid"))) {
				t.Errorf("%s is woken with %s", p.to.Node, text)
			}
		}
		pushes = append(pushes, text...)
	}
	if !bytes.Contains(pushes, []byte("r~zorro in r: ")) {
		t.Error("nobody was woken by the canary")
	}
	w.hooks.check(t, append(hidden, "turncoat"))
	for _, line := range w.linked(append(hidden, "turncoat")) {
		t.Errorf("a log tells of sessions: %s", line)
	}
	if others < 100 || w.log.Len() == 0 {
		t.Errorf("%d connections of others, and %d bytes logged", others, w.log.Len())
	}
	for _, told := range []string{ // of the canary, to the others
		`"node_id":"r~zorro","state":"delivered"`, `"node_id":"r~zorro","state":"read"`, `"node_id":"r~zorro","delivered":true`,
		`"src_id":"r~zorro"`, `"src_id":"r~ghost"`, `"by":"r~zorro","reason":"kicked"`, `"node_ids":[`, `"owner":"r~zorro"`,
		`"offline":true`, `"presence":[`, `"control":"header","seq"`, `"deletes":`, `"edits":`, `"master":"g~zorro"`, `"reason":"lost"`,
		`"type":-5`, `"type":-102`, `"type":100`, `"type":103`, `"type":104`, `"type":105`, `"type":106`, `"type":107`, `"type":108`, `"type":109`,
	} {
		if !bytes.Contains(all, []byte(told)) {
			t.Errorf("nobody was told %s", told)
		}
	}
}

// linked returns the lines of the log from which somebody could learn what
// devices with one of these ids do in sessions. That they have connected it may
// tell; but then no line about that connection may tell more.
func (w *wiretap) linked(ids []string) []string {
	var found []string
	theirs := make(map[string]bool)
	for line := range strings.Lines(w.log.String()) {
		conn := connectionInside.FindString(line)
		named := slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(line, id) })
		connects := conn != "" && strings.Contains(line, "connected "+conn)
		if named && connects {
			theirs[conn] = true
		}
		if named && !connects || theirs[conn] && (strings.Contains(line, "session") || strings.Contains(line, "~")) {
			found = append(found, line)
		}
	}
	return found
}

var connectionInside = regexp.MustCompile(`conn=\w+`)

// around returns what is before and after an id in a text.
func around(text []byte, id string) string {
	i := bytes.Index(text, []byte(id))
	return fmt.Sprintf("%q", text[max(0, i-200):min(len(text), i+100)])
}

// taint is what goes on.
type taint struct {
	*mesh
	alice, mo, dora, eve, canary, turncoat *listener
	larry                                  *collector
	positions                              string // of pete, who polls
	ids                                    int
}

// ok makes a call that is not refused, and returns the answer.
func (x *taint) ok(who, method, path, body string) string {
	x.t.Helper()
	code, text := x.do(method, who, "b", "/v1/"+path, body)
	if code != "" {
		x.t.Errorf("%s: %s %s %s: %s", who, method, path, body, text)
	}
	return text
}

// no makes a call that is refused.
func (x *taint) no(who, method, path, body string) {
	x.t.Helper()
	if code, text := x.do(method, who, "c", "/v1/"+path, body); code == "" {
		x.t.Errorf("%s: %s %s %s: %s", who, method, path, body, text)
	}
}

// id returns an id that no message has had.
func (x *taint) id() string {
	x.ids++
	return fmt.Sprint("m", x.ids)
}

// say sends a durable message to a session by HTTP, and returns its seq.
func (x *taint) say(who, session, more string) uint64 {
	x.t.Helper()
	return number(x.ok(who, "POST", "messages", fmt.Sprintf(`{"id":%q,"dest_session_id":%q,%s}`, x.id(), session, more)), `"seq":`)
}

// look has everybody else look at everything there is to see, and lets what is
// on its way arrive.
func (x *taint) look(t *testing.T, session string) {
	t.Helper()
	pass(time.Second)
	for _, who := range []string{"alice", "mo", "dora", "larry", "sara", "pete", "eve", theApp} {
		for _, path := range []string{
			"sessions/" + session, "sessions/" + session + "?after=" + session + "~a&limit=2", "sessions?limit=2", "sessions/" + session + "/header", "messages?log=session:" + session,
			"messages?log=session:" + session + "&before=1000&limit=200", "presence?session_id=" + session,
			"messages?log=node:" + session + "~zorro", "messages/m1/trace?dest_session_id=" + session,
			"messages/m2/trace?dest_session_id=" + session + "&src_id=" + session + "~zorro",
			"messages/m3/trace?dest_id=" + session + "~zorro&dest_session_id=" + session,
		} {
			x.do(http.MethodGet, who, "a", "/v1/"+path, "")
		}
		x.do(http.MethodPost, who, "a", "/v1/connect", fmt.Sprintf(`{"session_id":%q}`, session))
		x.legacyCall(who, "a", "get_session_info", "session_id="+session)
	}
	for _, path := range []string{
		"mesh", "hooks", "sessions", "sessions/" + session + "?limit=1", "edges?address=session:" + session, "edges?address=node:" + session + "~zorro", "cursors?node_id=alice",
	} {
		x.do(http.MethodGet, theApp, "a", "/v1/"+path, "")
	}
	x.do(http.MethodPost, theApp, "a", "/v1/messages:batch", fmt.Sprintf(
		`{"message":{"id":%q,"class":"volatile","payload":1},"to":[{"dest_session_id":%q},{"dest_session_id":%[2]q,"dest_id":"%[2]s~zorro"}]}`, x.id(), session))
	x.do(http.MethodPost, theApp, "a", "/v1/hooks/replay", `{"partition":3}`)
	x.do(http.MethodPost, theApp, "a", "/v1/disconnect", `{"node_id":"nobody"}`)
	x.do(http.MethodPost, theApp, "a", "/v1/servers/nobody/drain", "")
	_, x.positions, _ = x.poll("pete", "a", x.positions, "0s")
	for _, l := range []*listener{x.alice, x.mo, x.dora, x.eve} {
		l.send(`{"control":"presence","session_id":"` + session + `"}`)
		l.send(`{"control":"ack","cursors":{"session:` + session + `":1000,"node:alice":1000,"node:dora":1000}}`)
		l.send(`{"control":"read","cursors":{"session:` + session + `":1000,"node:alice":1000,"node:dora":1000}}`)
	}
	x.dora.send(refreshing(x.id(), x.mint("dora", "dora", time.Hour)))
	x.larry.send(`{"id":"` + x.id() + `","type":-101,"payload":"{\"fetch_inbox_messages\":true}"}`)
	for _, l := range []*listener{x.alice, x.mo, x.dora, x.eve, x.canary, x.turncoat} {
		l.take()
	}
}

// speak has the canary and the others say things in every way.
func (x *taint) speak(session string) {
	x.t.Helper()
	zorro, to := session+"~zorro", func(dest, more string) string {
		return fmt.Sprintf(`{"dest_session_id":%q,"dest_id":%q,%s}`, session, dest, more)
	}
	durable := func() string { return fmt.Sprintf(`"id":%q,"receipt":true,"payload":1`, x.id()) }
	for _, l := range []*listener{x.canary, x.turncoat, x.dora, x.alice, x.mo} {
		l.send(fmt.Sprintf(`{"dest_session_id":%q,%s}`, session, durable()))
		l.send(fmt.Sprintf(`{"dest_session_id":%q,"class":"volatile","payload":"typing"}`, session))
		l.send(fmt.Sprintf(`{"dest_session_id":%q,"class":"latest","key":"k","payload":1}`, session))
		l.send(fmt.Sprintf(`{"dest_session_id":%q,"class":"volatile","receipt":true,"id":%q}`, session, x.id()))
		l.send(to("alice", durable()))
		l.send(to(session+"~dora", durable()))
		l.send(to(zorro, durable()))
		l.send(to(zorro, `"class":"volatile","payload":1`))
		l.send(to(zorro, fmt.Sprintf(`"class":"volatile","receipt":true,"id":%q`, x.id())))
		l.send(to("larry", durable()))
		l.send(to(session+"~nobody", durable()))
		l.send(to("sara", `"ttl":1,"payload":1`))
		pass(time.Second)
	}
	x.larry.send(fmt.Sprintf(`{"dest_session_id":%q,%s}`, session, durable()))
	x.larry.send(to(zorro, durable()))
	x.larry.send(to(session+"~nobody", durable()))
	pass(time.Second)
	x.canary.send(fmt.Sprintf(`{"control":"ack","cursors":{"session:%s":1000,"node:%s":1000}}`, session, zorro))
	pass(time.Second)
	x.canary.send(fmt.Sprintf(`{"control":"read","cursors":{"session:%s":1000,"node:%s":1000}}`, session, zorro))
	pass(time.Second)
}

// everything happens, and returns the id of a guest.
func (x *taint) everything(t *testing.T) string {
	m := x.mesh
	x.ok("alice", "POST", "sessions", `{"session_id":"r","notify_only_last_few_users":20}`)
	x.ok("alice", "PUT", "sessions/r/header", `{"topic":"birds"}`)
	x.alice, x.mo, x.dora, x.eve = m.listens("alice", "a"), m.listens("mo", "b"), m.listens("dora", "c"), m.listens("eve", "a")
	x.canary, x.turncoat, x.larry = m.listens("canary", "b"), m.listens("turncoat", "c"), m.collector("larry", "c")
	sara := m.events("sara", "a", "")
	defer sara.close()
	go func() {
		for {
			if _, err := sara.next(time.Hour); err != nil {
				return
			}
		}
	}()
	x.alice.send(`{"control":"presence","session_id":"r","subscribe":true}`)
	x.eve.send(`{"control":"presence","clients":["alice","mo"],"subscribe":true}`)
	for _, who := range []string{"mo", "sara", "pete"} {
		x.ok(who, "POST", "sessions/r/join", "")
	}
	m.legacyCall("larry", "a", "join_session", "session_id=r")
	x.ok("dora", "POST", "sessions/r/join", `{"alias":"dora"}`)
	x.ok("alice", "POST", "sessions/r/role", `{"node_id":"mo","role":"moderator"}`)

	for _, who := range []string{"alice", "mo", "dora", "larry", "sara", "pete", "eve", "canary", "turncoat"} {
		x.registers(who, who, "a")
	}

	// It joins, and speaks, reads and is read.
	x.ok("canary", "POST", "sessions/r/join", `{"alias":"zorro"}`)
	x.ok("turncoat", "POST", "sessions/r/join", `{"alias":"hid"}`)
	guest := m.guest("a", "r")
	if code, text := m.guestCall(guest, "POST", "b", "/v1/sessions/r/join", `{"alias":"ghost"}`); code != "" {
		t.Error(text)
	}
	m.guestCall(guest, "POST", "c", "/v1/messages", `{"id":"g1","dest_session_id":"r","receipt":true,"payload":"boo"}`)
	m.guestCall(guest, "GET", "a", "/v1/poll?wait=0s", "")
	x.no("larry", "POST", "sessions/r/join", `{"alias":"zorro"}`)
	x.speak("r")
	x.look(t, "r")
	for _, dest := range []string{"", "&dest_id=r~zorro"} {
		traced := `{"id":"traced","dest_session_id":"r","payload":1`
		if dest != "" {
			traced += `,"dest_id":"r~zorro"`
		}
		x.ok("alice", "POST", "messages", traced+"}")
		x.wait()
		x.canary.send(`{"control":"ack","cursors":{"session:r":1000,"node:r~zorro":1000}}`)
		x.wait()
		x.ok("alice", "GET", "messages/traced/trace?dest_session_id=r"+dest, "")
		x.ok(theApp, "GET", "messages/traced/trace?dest_session_id=r&src_id=alice"+dest, "")
	}
	x.ok("pete", "PUT", "push/mute", `{"log":"session:r"}`)
	x.ok("pete", "DELETE", "push/mute", `{"log":"session:r"}`)
	x.ok("nobody", "DELETE", "push/token", "")
	x.ok(theApp, "GET", "push/failed", "")
	x.ok(theApp, "POST", "push/failed/nobody/retry", "")
	x.no(theApp, "POST", "push/test", `{"node_id":"r~zorro"}`)
	x.no("alice", "POST", "push/test", `{"node_id":"r~zorro"}`)
	x.ok(theApp, "POST", "revocations", `{"jti":"nobody's"}`)
	x.ok(theApp, "GET", "revocations", "")
	x.no("alice", "GET", "revocations", "")
	said := x.say("canary", "r", `"payload":"first"`)
	x.say("canary", "r", fmt.Sprintf(`"edits":%d,"payload":"better"`, said))
	x.no("alice", "POST", "messages", fmt.Sprintf(`{"id":"e1","dest_session_id":"r","edits":%d,"payload":"worse"}`, said))
	x.say("mo", "r", fmt.Sprintf(`"deletes":%d`, said))
	x.say("canary", "r", fmt.Sprintf(`"deletes":%d`, x.say("canary", "r", `"payload":"second"`)))
	x.look(t, "r")

	// It goes and comes back, elsewhere, in other forms, without a connection.
	_ = x.canary.ws.CloseNow()
	pass(time.Second)
	x.alice.send(`{"dest_session_id":"r","dest_id":"r~zorro","class":"volatile","receipt":true,"id":"away"}`)
	x.larry.send(`{"dest_session_id":"r","dest_id":"r~zorro","id":"away","payload":1}`)
	x.wait()
	x.ok("canary", "POST", "cursors", `{"delivered":{"session:r":20,"node:r~zorro":3},"read":{"session:r":20,"node:r~zorro":3}}`)
	x.ok("canary", "POST", "sessions/r/leave", "")
	x.no("alice", "POST", "messages", `{"id":"gone","dest_session_id":"r","dest_id":"r~zorro","payload":1}`)
	if _, body := m.legacyCall("canary", "c", "join_session", "session_id=r", "is_anonymous=True"); body != `["canary","r~zorro"]` {
		t.Error(body)
	}
	old := m.collector("canary", "a")
	old.send(`{"id":"old1","dest_session_id":"r","payload":1}`)
	old.send(`{"id":"old2","dest_session_id":"r","dest_id":"larry","payload":1}`)
	old.send(`{"id":"old3","dest_session_id":"r","dest_id":"nobody","payload":1}`)
	old.send(`{"id":"old3","dest_session_id":"r","dest_id":"alice","payload":"another"}`)
	old.send(`{"id":"old4","type":-101,"payload":"{\"fetch_inbox_messages\":true}"}`)
	old.send(`not JSON`)
	x.look(t, "r")
	stream := m.events("canary", "c", "")
	pass(time.Second)
	stream.close()
	_, _, _ = m.poll("canary", "a", "", "0s")
	x.canary = m.listens("canary", "c")
	pass(time.Second)

	// Others act on it, and it on others.
	for _, act := range []string{
		"alice r/kick", "canary r/join", "mo r/ban", "alice r/unban", "canary r/join", "alice r/role reader", "mo r/role", "alice r/role moderator",
		"alice r/transfer",
	} {
		who, act, _ := strings.Cut(act, " ")
		act, role, _ := strings.Cut(act, " ")
		body := `{"node_id":"r~zorro","role":"` + role + `"}`
		if act == "r/join" {
			body = `{"as_anonymous":true}`
		}
		x.ok(who, "POST", "sessions/"+act, body)
		if role == "reader" {
			x.no("canary", "POST", "messages", `{"id":"silent","dest_session_id":"r","payload":1}`)
		}
		pass(time.Second)
	}
	x.ok("canary", "PATCH", "sessions/r", `{"member_limit":30}`)
	x.ok("canary", "PUT", "sessions/r/header", `{"topic":"fish"}`)
	x.no("alice", "PATCH", "sessions/r", `{"member_limit":31}`)
	x.no("canary", "POST", "sessions/r/leave", "")
	for _, act := range []string{"invite nina", "kick pete", "ban nora", "unban nora", "role sara", "kick r~dora"} {
		act, whom, _ := strings.Cut(act, " ")
		x.ok("canary", "POST", "sessions/r/"+act, fmt.Sprintf(`{"node_id":%q}`, whom))
	}
	nina := m.listens("nina", "b")
	nina.take()
	x.ok("nina", "POST", "sessions/r/join", "")
	x.ok("nora", "POST", "sessions/r/join", `{"as_anonymous":true}`)
	x.ok("pete", "POST", "sessions/r/join", "")
	x.ok("dora", "POST", "sessions/r/join", `{"as_anonymous":true}`)
	x.say("canary", "r", fmt.Sprintf(`"deletes":%d`, x.say("larry", "r", `"payload":"rude"`)))
	x.look(t, "r")
	x.ok("canary", "POST", "sessions/r/transfer", `{"node_id":"alice"}`)
	x.no("canary", "POST", "sessions/r/join", "")
	x.no("canary", "POST", "sessions/r/join", `{"alias":"other"}`)

	// One reveals itself, elsewhere.
	x.ok("alice", "POST", "sessions", `{"session_id":"s"}`)
	x.ok("turncoat", "POST", "sessions/s/join", `{"as_anonymous":true}`)
	x.ok("turncoat", "POST", "sessions/s/reveal", "")
	x.say("turncoat", "s", `"payload":"it was me"`)
	x.speak("r")
	x.look(t, "r")

	// A game, of which it is the master, is not, and is lost as the master.
	x.ok("canary", "POST", "sessions", `{"session_id":"g","kind":"game","alias":"zorro"}`)
	for _, who := range []string{"alice", "mo", "larry", "sara"} {
		x.ok(who, "POST", "sessions/g/join", "")
	}
	x.ok("dora", "POST", "sessions/g/join", `{"alias":"dora"}`)
	x.ok("turncoat", "POST", "sessions/g/join", `{"as_anonymous":true}`)
	x.speak("g")
	x.look(t, "g")
	x.ok("canary", "POST", "sessions/g/master", `{"node_id":"alice"}`)
	x.speak("g")
	x.ok("alice", "POST", "sessions/g/master", `{"node_id":"g~zorro"}`)
	pass(time.Second)
	_ = x.canary.ws.CloseNow()
	pass(30 * time.Second)
	x.wait()
	x.canary = m.listens("canary", "b")
	x.speak("g")
	x.look(t, "g")

	// Topics are read by connections that nobody sees.
	x.canary.send(`{"control":"subscribe","topics":["topic:news"]}`)
	x.alice.send(`{"control":"subscribe","topics":["topic:news"]}`)
	pass(time.Second)
	x.alice.send(`{"id":"t1","dest_session_id":"topic:news","payload":1}`)
	x.canary.send(`{"control":"unsubscribe","topics":["topic:news"]}`)

	// A session that only lets it in when it is asked.
	x.ok("canary", "POST", "sessions", `{"session_id":"own","anyone_can_join":false,"alias":"zorro","member_list":"moderators"}`)
	x.ok("canary", "POST", "sessions/own/invite", `{"node_id":"alice"}`)
	x.ok("canary", "POST", "sessions/own/invite", `{"node_id":"larry"}`)
	x.ok("alice", "POST", "sessions/own/join", "")
	x.ok("larry", "POST", "sessions/own/decline", "")
	x.speak("own")
	x.look(t, "own")

	// What goes wrong is logged.
	var calls atomic.Int64
	lose := func(op string) error {
		if calls.Add(1)%3 == 0 {
			return fmt.Errorf("%s: %w", op, errAway)
		}
		return nil
	}
	for _, s := range m.servers {
		s.store.set(func(f *faultyStore) { f.before, f.after = lose, lose })
	}
	for i := range 5 {
		x.do("POST", "canary", "a", "/v1/messages", fmt.Sprintf(`{"id":%q,"dest_session_id":"r","payload":1}`, x.id()))
		x.do("POST", "canary", "b", "/v1/sessions/r/leave", "")
		x.do("POST", "canary", "c", "/v1/sessions/r/join", `{"as_anonymous":true}`)
		x.do("GET", "canary", "a", "/v1/messages?log=session:r", "")
		x.do("POST", "mo", "a", "/v1/sessions/r/kick", `{"node_id":"r~zorro"}`)
		x.do("POST", "mo", "a", "/v1/messages", fmt.Sprintf(`{"id":%q,"dest_session_id":"r","dest_id":"r~zorro","payload":1}`, x.id()))
		_ = x.canary.ws.CloseNow()
		x.canary = m.listens("canary", m.ids()[i%3])
		pass(3 * time.Second)
	}
	m.sound()
	pass(time.Minute)
	m.kill("b")
	pass(time.Minute)
	for _, who := range []string{"alice", "larry", theApp} {
		for _, path := range []string{"sessions/r", "presence?session_id=r", "messages?log=session:r", "presence?session_id=g", "messages?log=session:g"} {
			m.do(http.MethodGet, who, "a", "/v1/"+path, "")
		}
	}
	return string(guest.Node)
}

// wait lets what is on its way arrive.
func (x *taint) wait() {
	pass(2 * time.Second)
	for _, l := range []*listener{x.alice, x.mo, x.dora, x.eve} {
		l.take()
	}
}
