package node

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// masked is a session "r" of alice in which the device "canary" of the user
// "canary" is as "r~zorro".
func (m *mesh) masked(settings string) {
	m.t.Helper()
	m.must("alice", "/v1/sessions", `{"session_id":"r"`+settings+`}`)
	m.joinAs("zorro")
}

// joinAs has the canary join by an alias.
func (m *mesh) joinAs(name string) {
	m.t.Helper()
	if said := m.must("canary", "/v1/sessions/r/join", fmt.Sprintf(`{"alias":%q}`, name)); !strings.Contains(said, `"node_id":"r~`+name+`"`) {
		m.t.Fatalf("joined as %s", said)
	}
}

// private returns a message to somebody in the session r.
func private(to, members string) string {
	return fmt.Sprintf(`{"dest_id":%q,"dest_session_id":"r",%s}`, to, members)
}

// listener is a connection that keeps the frames it gets, as they are.
type listener struct {
	*raw
	frames chan string
}

// listens opens a connection that has said hello.
func (m *mesh) listens(id, at string) *listener {
	m.t.Helper()
	return m.listening(m.raw(id, at), `{"control":"hello"}`)
}

// listening makes a listener of a connection that says hello now.
func (m *mesh) listening(r *raw, hello string) *listener {
	m.t.Helper()
	l := &listener{raw: r, frames: make(chan string, 1000)}
	l.send(hello)
	go func() {
		defer close(l.frames)
		for {
			_, b, err := l.ws.Read(m.t.Context())
			if err != nil {
				return
			}
			l.frames <- string(b)
		}
	}()
	return l
}

// take returns what has come since the last call.
func (l *listener) take() string {
	pass(2 * time.Second)
	var all strings.Builder
	for {
		select {
		case f, ok := <-l.frames:
			if !ok { // the connection is over
				return all.String()
			}
			all.WriteString(f + "\n")
		default:
			return all.String()
		}
	}
}

// has fails unless the frames contain each text, and nothing of the canary.
func has(t *testing.T, what, frames string, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(frames, text) {
			t.Errorf("%s: %q is not in\n%s", what, text, frames)
		}
	}
	if strings.Contains(frames, "canary") {
		t.Errorf("%s names the canary:\n%s", what, frames)
	}
}

// An anonymous member of any server writes to the others and they to it, by
// its alias; it stays who it is when it connects elsewhere.
func TestAlias(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.listens("alice", "a")
		canary := m.listens("canary", "b") // before it joins by another way
		m.masked("")
		has(t, "joined", alice.take(), `"src_id":"r~zorro"`, `"type":100`)
		canary.take()

		canary.send(`{"id":"1","dest_session_id":"r","payload":"to all"}`)
		canary.send(`{"dest_session_id":"r","class":"volatile","payload":"at once"}`)
		canary.send(`{"dest_session_id":"r","class":"latest","key":"k","payload":"newest"}`)
		canary.send(private("alice", `"id":"2","payload":"to one"`))
		got := alice.take()
		has(t, "sent", got, `"to all"`, `"at once"`, `"newest"`, `"to one"`)
		if n := strings.Count(got, `"src_id":"r~zorro"`); n != 4 || strings.Contains(got, "src_client_id") {
			t.Errorf("%d of 4 have the alias:\n%s", n, got)
		}
		if got := canary.take(); strings.Contains(got, "payload") || strings.Count(got, `"ack"`) != 2 {
			t.Errorf("the sender got\n%s", got)
		}

		alice.send(private("r~zorro", `"id":"3","payload":"stored"`))
		alice.send(private("r~zorro", `"class":"volatile","payload":"unstored"`))
		if got := canary.take(); !strings.Contains(got, `"stored"`) || !strings.Contains(got, `"unstored"`) {
			t.Errorf("by its alias it got\n%s", got)
		}
		canary.send(`{"control":"ack","cursors":{"node:r~zorro":1}}`)
		pass(time.Second)
		_ = canary.ws.CloseNow()
		pass(time.Second)
		alice.send(private("r~zorro", `"id":"4","payload":"while away"`))
		has(t, "acknowledged", alice.take(), `"log":"node:r~zorro"`, `"seq":2`)

		canary = m.listens("canary", "c")
		if got := canary.take(); !strings.Contains(got, `"while away"`) || strings.Contains(got, `"stored"`) || !strings.Contains(got, `"node:r~zorro":2`) {
			t.Errorf("elsewhere it got\n%s", got)
		}
		canary.send(`{"id":"5","dest_session_id":"r","payload":"again"}`)
		has(t, "from elsewhere", alice.take(), `"again"`, `"src_id":"r~zorro"`)
	})
}

// Whoever writes to an anonymous member by its own id learns what it learns
// of somebody who is not there.
func TestAliasIsAllThereIs(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.listens("canary", "b")
		m.masked(`,"member_limit":5`)
		for _, call := range []struct{ method, path, body string }{
			{"POST", "/v1/messages", private("SOMEBODY", `"id":"1","payload":1`)},
			{"POST", "/v1/messages", private("SOMEBODY", `"id":"2","class":"volatile","receipt":true`)},
			{"POST", "/v1/sessions/r/kick", `{"node_id":"SOMEBODY"}`},
			{"POST", "/v1/sessions/r/role", `{"node_id":"SOMEBODY","role":"reader"}`},
			{"POST", "/v1/sessions/r/transfer", `{"node_id":"SOMEBODY"}`},
			{"POST", "/v1/sessions/r/invite", `{"node_id":"SOMEBODY"}`},
			{"GET", "/v1/messages?log=node:SOMEBODY", ""},
			{"GET", "/v1/messages/1/trace?dest_id=SOMEBODY&dest_session_id=r", ""},
			{"GET", "/v1/messages/1/trace?dest_session_id=r&src_id=SOMEBODY", ""},
		} {
			ask := func(id string) string {
				replace := strings.NewReplacer("SOMEBODY", id)
				code, text := m.do(call.method, "alice", "a", replace.Replace(call.path), replace.Replace(call.body))
				return string(code) + " " + strings.ReplaceAll(text, id, "SOMEBODY")
			}
			if real, nobody := ask("canary"), ask("nobody"); real != nobody {
				t.Errorf("%s %s: of the member %s, of nobody %s", call.path, call.body, real, nobody)
			}
		}
		// The log of an alias is its holder's; to others it looks like none.
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"3","payload":"for zorro"`))
		if code, text := m.do("GET", "canary", "a", "/v1/messages?log=node:r~zorro", ""); code != "" || !strings.Contains(text, "for zorro") {
			t.Errorf("its holder reads %s", text)
		}
		for _, log := range []string{"node:r~zorro", "node:r~nobody", "node:none~zorro"} {
			if code, _ := m.do("GET", "alice", "a", "/v1/messages?log="+log, ""); code != envelope.NotFound {
				t.Errorf("%s: %q", log, code)
			}
			if code, _ := m.do("POST", "alice", "a", "/v1/cursors", `{"delivered":{"`+log+`":9},"read":{"`+log+`":9}}`); code != "" {
				t.Errorf("%s: %q", log, code)
			}
		}
		if cursors, err := m.store.Cursors(t.Context(), "alice"); err != nil || slices.ContainsFunc(cursors, func(c inbox.Cursor) bool { return c.Log.ID != "r" && c.Log.ID != "alice" }) {
			t.Errorf("cursors %v, %v", cursors, err)
		}
	})
}

// Receipts name an anonymous reader by its alias, without its user; and of what
// it was sent by its name before that, none tells that it reads it now.
func TestAliasReceipts(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, carol := m.listens("alice", "a"), m.listens("carol", "b")
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`) // 1
		m.must("carol", "/v1/sessions/r/join", "")            // 2
		m.must("canary", "/v1/sessions/r/join", "")           // 3
		m.must("carol", "/v1/messages", `{"id":"1","dest_session_id":"r","receipt":true,"payload":"by name"}`)
		m.must("canary", "/v1/sessions/r/leave", "") // 5
		m.joinAs("zorro")                            // 6
		m.must("alice", "/v1/messages", `{"id":"2","dest_session_id":"r","receipt":true,"payload":"by alias"}`)
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"3","receipt":true,"payload":"to the alias"`))
		for _, l := range []*listener{alice, carol} {
			l.take()
			l.send(`{"control":"ack","cursors":{"session:r":7}}`)
			l.take()
		}
		alice.take()

		canary := m.listens("canary", "b")
		canary.take()
		canary.send(`{"control":"ack","cursors":{"session:r":7}}`)
		has(t, "delivered", alice.take(), `"id":"2","seq":7,"log":"session:r","node_id":"r~zorro","state":"delivered"`)
		canary.send(`{"control":"read","cursors":{"session:r":7,"node:r~zorro":1}}`)
		got := alice.take()
		has(t, "read", got, `"id":"2"`, `"id":"3"`, `"log":"node:r~zorro"`)
		if strings.Count(got, `"state":"read"`) != 2 || strings.Count(got, `"node_id":"r~zorro"`) != 2 {
			t.Errorf("read: %s", got)
		}
		if got := carol.take(); got != "" {
			t.Errorf("who wrote to the name learns when the alias reads: %s", got)
		}

		// What the alias sent with a receipt it hears of by its alias.
		canary.take()
		canary.send(`{"id":"4","dest_session_id":"r","receipt":true,"payload":"x"}`)
		canary.send(private("alice", `"id":"5","receipt":true,"payload":"y"`))
		has(t, "sent", alice.take(), `"x"`, `"y"`)
		alice.send(`{"control":"ack","cursors":{"session:r":8,"node:alice":1}}`)
		if got := canary.take(); strings.Count(got, `"node_id":"alice"`) != 2 {
			t.Errorf("the alias is told %s", got)
		}

		canary.send(private("r~zorro", `"id":"8","receipt":true,"payload":"to myself"`)) // 2
		canary.take()
		canary.send(`{"control":"ack","cursors":{"node:r~zorro":2}}`)
		if got := canary.take(); strings.Contains(got, `"receipt"`) {
			t.Errorf("the alias is told of itself: %s", got)
		}

		// Without a connection it is told the same way.
		m.must("alice", "/v1/messages", `{"id":"6","dest_session_id":"r","receipt":true,"payload":"z"}`)        // 8
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"7","receipt":true,"payload":"to the alias"`)) // 3
		_ = canary.ws.CloseNow()
		alice.take()
		m.must("canary", "/v1/cursors", `{"delivered":{"session:r":9,"node:r~zorro":3}}`)
		got = alice.take()
		has(t, "without a connection", got, `"id":"6"`, `"id":"7"`)
		if strings.Count(got, `"node_id":"r~zorro"`) != 2 || strings.Contains(got, "client_id") {
			t.Errorf("without a connection: %s", got)
		}
	})
}

// A trace finds what its caller has sent by whatever name, and names readers as
// the members of the session know them, to the app as well.
func TestAliasTrace(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, canary := m.listens("alice", "a"), m.listens("canary", "b")
		m.masked("")
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"a"}`)
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"2","payload":"b"`))
		m.must("canary", "/v1/messages", `{"id":"3","dest_session_id":"r","payload":"c"}`)
		m.must("canary", "/v1/messages", private("alice", `"id":"4","payload":"d"`))
		m.must("canary", "/v1/messages", private("r~zorro", `"id":"5","payload":"to myself"`))
		alice.take()
		canary.take()
		canary.send(`{"control":"ack","cursors":{"session:r":3,"node:r~zorro":1}}`)
		pass(3 * time.Second)
		for _, tt := range []struct{ who, call, want string }{
			{"alice", "1/trace?dest_session_id=r", `"readers":[{"node_id":"r~zorro","delivered":true`},
			{"alice", "2/trace?dest_id=r~zorro&dest_session_id=r", `"readers":[{"node_id":"r~zorro","delivered":true`},
			{theApp, "1/trace?dest_session_id=r&src_id=alice", `"node_id":"r~zorro","delivered":true,"read":false}`},
			{theApp, "2/trace?dest_id=r~zorro&dest_session_id=r&src_id=alice", `"node_id":"r~zorro","delivered":true,"read":false}]}`},
			{theApp, "3/trace?dest_session_id=r&src_id=r~zorro", `"readers":[{"node_id":"alice"`},
			{theApp, "3/trace?dest_session_id=r&src_id=canary", `not_found`},
			{theApp, "4/trace?dest_id=alice&dest_session_id=r&src_id=canary", `not_found`},
			{"alice", "3/trace?dest_session_id=r", `not_found`},
			{"alice", "3/trace?dest_session_id=r&src_id=r~zorro", `not_found`},
			{"canary", "3/trace?dest_session_id=r", `"readers":[{"node_id":"alice"`},
			{"canary", "3/trace?dest_session_id=r&src_id=r~zorro", `"readers":[{"node_id":"alice"`},
			{"canary", "4/trace?dest_id=alice&dest_session_id=r", `"readers":[{"node_id":"alice"`},
			{"canary", "5/trace?dest_id=r~zorro&dest_session_id=r", `"readers":[{"node_id":"r~zorro","delivered":false`},
		} {
			_, text := m.do(http.MethodGet, tt.who, "a", "/v1/messages/"+tt.call, "")
			has(t, tt.who+" "+tt.call, text, tt.want)
		}
	})
}

// Who was in a session by its name, and is there by an alias now, is not shown to
// follow it by its name: not even to the app.
func TestAliasTraceOfName(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("canary", "/v1/sessions/r/join", "")
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"a"}`)
		canary := m.listens("canary", "b")
		canary.take()
		trace := func() string {
			_, text := m.do(http.MethodGet, theApp, "a", "/v1/messages/1/trace?dest_session_id=r&src_id=alice", "")
			return text
		}
		if got := trace(); !strings.Contains(got, `"node_id":"canary","delivered":false,"read":false,"server":"b"`) {
			t.Errorf("by its name: %s", got)
		}
		m.must("canary", "/v1/sessions/r/leave", "")
		m.joinAs("zorro")
		pass(time.Second)
		if got := trace(); !strings.Contains(got, `"node_id":"canary"`) || strings.Contains(got, `"server":`) {
			t.Errorf("by its alias: %s", got)
		}
	})
}

// What a device reads by its alias does not show as read by the name that it had
// before, nor the other way round.
func TestAliasTraceOfCursor(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("canary", "/v1/sessions/r/join", "")
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"a"}`) // 3
		m.must("canary", "/v1/sessions/r/leave", "")
		m.joinAs("zorro")
		m.must("alice", "/v1/messages", `{"id":"2","dest_session_id":"r","payload":"b"}`) // 6
		expect := func(when, id string, want ...string) {
			t.Helper()
			var a traceAnswer
			if code := m.ask("alice", "a", "/v1/messages/"+id+"/trace?dest_session_id=r", &a); code != "" || a.readers() != strings.Join(want, ", ") {
				t.Errorf("%s: %s: %s, %s; want %q", when, id, code, a.readers(), want)
			}
		}
		m.must("canary", "/v1/cursors", `{"read":{"session:r":6}}`)
		expect("by its alias", "1", "canary false false")
		expect("by its alias", "2", "r~zorro true true")
		m.must("canary", "/v1/sessions/r/leave", "")
		m.must("canary", "/v1/sessions/r/join", "")
		expect("by its name again", "1", "canary false false")
		m.must("alice", "/v1/messages", `{"id":"3","dest_session_id":"r","payload":"c"}`) // 9
		m.must("canary", "/v1/cursors", `{"delivered":{"session:r":9}}`)
		expect("by its name again", "1", "canary true false")
		expect("by its name again", "2", "r~zorro false false")
		expect("by its name again", "3", "canary true false")
	})
}

// What was sent by an alias is edited and deleted by that alias only, which has
// no hand in what the same device sends by its name.
func TestAliasRevises(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("max", "/v1/sessions/r/join", `{"alias":"other"}`)
		m.must("canary", "/v1/sessions/r/join", "")
		m.must("canary", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"by name"}`) // 4
		m.must("canary", "/v1/sessions/r/leave", "")
		m.joinAs("zorro")
		m.must("canary", "/v1/messages", `{"id":"2","dest_session_id":"r","payload":"by alias"}`) // 7
		try := func(who, id, revision string, want envelope.Code) {
			t.Helper()
			body := fmt.Sprintf(`{"id":%q,"dest_session_id":"r",%s}`, id, revision)
			if code, text := m.do(http.MethodPost, who, "b", "/v1/messages", body); code != want {
				t.Errorf("%s %s: %s, want %q", who, revision, text, want)
			}
		}
		try("canary", "3", `"edits":7,"payload":"better"`, "")
		try("canary", "3", `"edits":7,"payload":"better"`, "") // repeated
		try("canary", "4", `"edits":4,"payload":"by the alias"`, envelope.Forbidden)
		try("canary", "5", `"deletes":4`, envelope.Forbidden)
		try("alice", "6", `"edits":7,"payload":"by the owner"`, envelope.Forbidden)
		try("max", "7", `"edits":7,"payload":"by another alias"`, envelope.Forbidden)

		m.must("canary", "/v1/sessions/r/leave", "")
		m.must("canary", "/v1/sessions/r/join", "")
		try("canary", "8", `"edits":7,"payload":"by its name"`, envelope.Forbidden)
		try("canary", "9", `"edits":4,"payload":"its own"`, "")

		m.must("canary", "/v1/sessions/r/leave", "")
		m.joinAs("zorro")
		m.must("canary", "/v1/sessions/r/reveal", "")
		try("canary", "10", `"edits":4,"payload":"no secret any more"`, "")
		try("canary", "11", `"deletes":7`, "")
		try("canary", "3", `"edits":7,"payload":"better"`, "") // repeated, whatever has become of the entry
	})
}

// Presence in a session leaves out whom nobody may know, until that is over.
func TestAliasPresence(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		canary := m.listens("canary", "b")
		m.masked(`,"member_list":"moderators"`)
		canary.take()
		for _, who := range []string{"alice", theApp} {
			_, text := m.do(http.MethodGet, who, "a", "/v1/presence?session_id=r", "")
			has(t, who, text, `"alice"`)
		}
		// It may see itself only, and that is nobody.
		if code, text := m.do(http.MethodGet, "canary", "a", "/v1/presence?session_id=r", ""); code != "" || strings.Contains(text, "client_id") {
			t.Errorf("itself: %s", text)
		}
		canary.send(`{"control":"presence","session_id":"r","subscribe":true}`)
		if got := canary.take(); !strings.Contains(got, `"control":"presence"`) || strings.Contains(got, "client_id") {
			t.Errorf("itself, on its connection: %s", got)
		}
		m.must("canary", "/v1/sessions/r/reveal", "")
		if _, text := m.do(http.MethodGet, "alice", "a", "/v1/presence?session_id=r", ""); !strings.Contains(text, `"client_id":"canary","online":true`) {
			t.Errorf("revealed: %s", text)
		}
	})
}

// Whether an alias is connected is said of the alias.
func TestAliasAway(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice, canary := m.listens("alice", "a"), m.listens("canary", "b")
		m.masked("")
		alice.take()
		signal := private("r~zorro", `"id":"1","class":"volatile","receipt":true`)
		alice.send(signal)
		if got := alice.take(); strings.Contains(got, "offline") {
			t.Errorf("while it is there: %s", got)
		}
		_ = canary.ws.CloseNow()
		pass(time.Second)
		alice.send(signal)
		has(t, "away", alice.take(), `"offline":true`)

		old := m.legacy("alice", "a")
		old.send(private("r~zorro", `"id":"2","payload":"x"`))
		old.send(private("canary", `"id":"3","payload":"x"`))
		old.send(private("nobody", `"id":"4","payload":"x"`))
		var got string
		for !strings.Contains(got, `"id":"4"`) {
			f, err := old.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			got += strings.ReplaceAll(f.text, `"dest_id":"canary"`, `"dest_id":"who was asked for"`)
		}
		has(t, "to a legacy client", got, `"id":"3"`, `"type":-5`)
		if strings.Count(got, `"type":-5`) != 2 || strings.Contains(got, `"type":-4`) || strings.Contains(got, `"id":"2"`) {
			t.Errorf("to a legacy client: %s", got)
		}
	})
}

// A device that had left by its name, and has not acknowledged all of that,
// joins by an alias of which its connection knows nothing yet: it sees all that
// follows, on this connection or the next.
func TestAliasAfterName(t *testing.T) {
	for _, cut := range []bool{false, true} {
		inMesh(t, 2, func(t *testing.T, m *mesh) {
			canary := m.listens("canary", "b")
			m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
			m.must("canary", "/v1/sessions/r/join", "")
			m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"first"}`)
			m.must("canary", "/v1/sessions/r/leave", "")
			m.must("alice", "/v1/messages", `{"id":"2","dest_session_id":"r","payload":"between"}`)
			if got := canary.take(); !strings.Contains(got, "first") || strings.Contains(got, "between") {
				t.Errorf("by its name it got %s", got)
			}
			m.at("b").store.set(func(s *faultyStore) { // what it may see comes before the news that it may
				s.delay = func(op string) time.Duration {
					return map[string]time.Duration{"member": 300 * time.Millisecond}[op]
				}
			})
			m.joinAs("zorro")
			m.must("alice", "/v1/messages", `{"id":"3","dest_session_id":"r","payload":"at once"}`)
			m.must("alice", "/v1/messages", private("r~zorro", `"id":"4","payload":"alone"`))
			canary.send(`{"control":"ack","cursors":{"session:r":99}}`)
			if cut {
				pass(100 * time.Millisecond)
				_ = canary.ws.CloseNow()
				pass(2 * time.Second)
				canary = m.listens("canary", "a")
			}
			if got := canary.take(); !strings.Contains(got, "at once") || !strings.Contains(got, "alone") || strings.Contains(got, "between") {
				t.Errorf("by its alias it got %s", got)
			}
		})
	}
}

// What was written to an alias before it left is read by its device when it
// comes back; then nothing of the session is followed any more.
func TestAliasThatHasLeft(t *testing.T) {
	for _, connected := range []bool{false, true} {
		inMesh(t, 2, func(t *testing.T, m *mesh) {
			var canary *listener
			if connected {
				canary = m.listens("canary", "b")
			}
			m.masked("")                                                                             // 1, 2
			m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"to all"}`)   // 3
			m.must("alice", "/v1/messages", private("r~zorro", `"id":"2","payload":"to the alias"`)) // 1
			m.must("canary", "/v1/sessions/r/leave", "")                                             // 4
			if code, _ := m.do(http.MethodPost, "alice", "a", "/v1/messages", private("r~zorro", `"id":"3","payload":"too late"`)); code != envelope.NotFound {
				t.Errorf("a private message to who has left: %q", code)
			}
			var got string
			if connected {
				got = canary.take() // an acknowledgement counts as far as the server has sent
				canary.send(`{"control":"ack","cursors":{"session:r":4}}`)
			} else {
				m.must("canary", "/v1/cursors", `{"delivered":{"session:r":4}}`)
				canary = m.listens("canary", "b")
			}
			if got += canary.take(); !strings.Contains(got, "to the alias") {
				t.Errorf("connected %v: it got %s", connected, got)
			}
			canary.send(`{"control":"ack","cursors":{"node:r~zorro":1}}`)
			pass(2 * time.Second)
			if n := len(m.at("b").conns.logs()); n != 2 {
				t.Errorf("connected %v: %d logs are still followed", connected, n)
			}
			_ = canary.ws.CloseNow()
			pass(time.Second)
			canary = m.listens("canary", "a")
			if got := canary.take(); strings.Contains(got, "to the alias") || strings.Contains(got, "r~zorro") {
				t.Errorf("connected %v: later it got %s", connected, got)
			}
		})
	}
}

// Without a socket, too: a position names the log of an alias.
func TestAliasStream(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.masked("")
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"1","payload":"one"`))
		s := m.events("canary", "b", "")
		s.control("hello")
		s.message("one")
		at := s.id
		s.close()
		if !strings.Contains(at, "nr!zorro~1") {
			t.Errorf("the position is %q", at)
		}
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"2","payload":"two"`))
		s = m.events("canary", "a", at)
		defer s.close()
		s.control("hello")
		s.message("two")
	})
}

// A legacy client asks for what waits for its alias as for all else.
func TestAliasPending(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("bob", "/v1/sessions/r/join", `{"alias":"zorro"}`)
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":"to all"}`)
		m.must("alice", "/v1/messages", private("r~zorro", `"id":"2","payload":"to the alias"`))
		m.must("bob", "/v1/messages", `{"id":"3","dest_session_id":"r","payload":"its own"}`)
		ev, err := m.at("b").fetchPending(t.Context(), as("bob"), gateway.FetchPending{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range ev.Entries {
			got = append(got, text(e))
		}
		if !slices.Equal(got, []string{"to all", "to the alias"}) {
			t.Errorf("pending are %q", got)
		}
	})
}
