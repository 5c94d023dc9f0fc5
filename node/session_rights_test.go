package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// theApp is the device that the app's own calls come from.
const theApp = "the-app"

// do makes an HTTP call for a device of a user of the same name, and returns
// the code of a refusal and the body.
func (m *mesh) do(method, device, at, path, body string) (envelope.Code, string) {
	m.t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(device), Node: envelope.NodeID(device), App: device == theApp,
		Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	var resp *http.Response
	err = io.ErrClosedPipe
	for try := 0; try < 5 && errors.Is(err, io.ErrClosedPipe); try++ { // refused before it was read: then the answer may get lost
		var r *http.Request
		if r, err = http.NewRequestWithContext(m.t.Context(), method, "http://"+at+path, strings.NewReader(body)); err != nil {
			m.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err = m.network.Client().Do(r)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var problem struct {
		Code envelope.Code `json:"code"`
	}
	if err == nil {
		err = json.Unmarshal(text, &problem)
	}
	if err != nil || (problem.Code == "") != (resp.StatusCode == http.StatusOK) {
		m.t.Fatalf("%s %s: %s with %s, %v", method, path, resp.Status, text, err)
	}
	return problem.Code, string(text)
}

// must posts and must not be refused.
func (m *mesh) must(device, path, body string) string {
	m.t.Helper()
	code, text := m.do(http.MethodPost, device, "a", path, body)
	if code != "" {
		m.t.Fatalf("%s: %s %s: %s", device, path, body, text)
	}
	return text
}

// Who may do what, in every role, with a closed session: a group whose members
// are there by name, and a game of which they are by an alias; and both ways in
// both for what they say. Each call is made twice, at different servers, and
// answers the same.
func TestRights(t *testing.T) {
	const (
		ok = ""
		fb = string(envelope.Forbidden)
		nf = string(envelope.NotFound)
		cf = string(envelope.Conflict)
	)
	who := []string{"owner", "moderator", "member", "reader", "invited", "banned", "left", "outsider", theApp}
	onTom := `{"node_id":"tom"}`
	for _, tt := range []struct {
		name, method, path, body string
		want                     [9]string
	}{
		{"look", "GET", "", "", [9]string{ok, ok, ok, ok, ok, nf, nf, nf, ok}},
		{"join", "POST", "/join", "", [9]string{ok, ok, ok, ok, ok, nf, nf, nf, ok}},
		{"leave", "POST", "/leave", "", [9]string{cf, ok, ok, ok, nf, ok, ok, nf, nf}},
		{"decline", "POST", "/decline", "", [9]string{cf, cf, cf, cf, ok, nf, nf, nf, nf}},
		{"send", "POST", "", `"payload":1`, [9]string{ok, ok, ok, fb, nf, nf, nf, nf, nf}},
		{"send volatile", "POST", "", `"class":"volatile"`, [9]string{ok, ok, ok, fb, nf, nf, nf, nf, nf}},
		{"send to a member", "POST", "", `"dest_id":"tom"`, [9]string{ok, ok, ok, fb, nf, nf, nf, nf, nf}},
		{"send to the owner", "POST", "", `"dest_id":"owner"`, [9]string{ok, ok, ok, fb, nf, nf, nf, nf, nf}},
		{"send to one who is out", "POST", "", `"dest_id":"bob"`, [9]string{nf, nf, nf, fb, nf, nf, nf, nf, nf}},
		{"invite", "POST", "/invite", `{"node_id":"nina"}`, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"invite a member", "POST", "/invite", onTom, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"invite a banned one", "POST", "/invite", `{"node_id":"bob"}`, [9]string{cf, cf, fb, fb, nf, nf, nf, nf, cf}},
		{"invite as moderator", "POST", "/invite", `{"node_id":"nina","role":"moderator"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"kick a member", "POST", "/kick", onTom, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"kick a moderator", "POST", "/kick", `{"node_id":"mona"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"kick the owner", "POST", "/kick", `{"node_id":"owner"}`, [9]string{cf, fb, fb, fb, nf, nf, nf, nf, cf}},
		{"kick nobody", "POST", "/kick", `{"node_id":"nina"}`, [9]string{nf, nf, fb, fb, nf, nf, nf, nf, nf}},
		{"kick who is invited", "POST", "/kick", `{"node_id":"ian"}`, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"ban a member", "POST", "/ban", onTom, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"ban a moderator", "POST", "/ban", `{"node_id":"mona"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"ban the owner", "POST", "/ban", `{"node_id":"owner"}`, [9]string{cf, fb, fb, fb, nf, nf, nf, nf, cf}},
		{"ban a stranger", "POST", "/ban", `{"node_id":"nina"}`, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"unban", "POST", "/unban", `{"node_id":"bob"}`, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"silence", "POST", "/role", `{"node_id":"tom","role":"reader"}`, [9]string{ok, ok, fb, fb, nf, nf, nf, nf, ok}},
		{"make a moderator", "POST", "/role", `{"node_id":"tom","role":"moderator"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"unmake one", "POST", "/role", `{"node_id":"mona","role":"member"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"role of the owner", "POST", "/role", `{"node_id":"owner","role":"reader"}`, [9]string{cf, fb, fb, fb, nf, nf, nf, nf, cf}},
		{"role of nobody", "POST", "/role", `{"node_id":"nina","role":"reader"}`, [9]string{nf, nf, fb, fb, nf, nf, nf, nf, nf}},
		{"transfer", "POST", "/transfer", onTom, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"transfer to nobody", "POST", "/transfer", `{"node_id":"nina"}`, [9]string{nf, fb, fb, fb, nf, nf, nf, nf, nf}},
		{"add", "POST", "/add", `{"node_id":"nina"}`, [9]string{fb, fb, fb, fb, nf, nf, nf, nf, ok}},
		{"add a banned one", "POST", "/add", `{"node_id":"bob"}`, [9]string{fb, fb, fb, fb, nf, nf, nf, nf, cf}},
		{"settings", "PATCH", "", `{"member_limit":50,"member_list":"moderators"}`, [9]string{ok, fb, fb, fb, nf, nf, nf, nf, ok}},
	} {
		for _, in := range []masquerade{{kind: "group"}, {kind: "group", anonymous: true}, {kind: "game"}, {kind: "game", anonymous: true}} {
			if in.anonymous != (in.kind == "game") && !strings.HasPrefix(tt.name, "send") {
				continue // the rest is the same, and takes long
			}
			want := tt.want
			switch {
			case tt.name == "send to a member" && in.kind == "game": // the players speak to the master only
				want[1], want[2] = fb, fb
			case tt.name == "send to one who is out" && in.kind == "game":
				want[3] = nf
			case tt.name == "decline" && in.anonymous: // who was invited comes by name
				want[0], want[1], want[2], want[3] = nf, nf, nf, nf
			}
			t.Run(fmt.Sprint(tt.name, " ", in.kind, " ", in.anonymous), func(t *testing.T) {
				inMesh(t, 2, func(t *testing.T, m *mesh) {
					for i, role := range who {
						in.id = fmt.Sprint("r", i)
						call := func(at, id string) (envelope.Code, string) {
							in := in
							in.id = id
							if strings.HasPrefix(tt.name, "send") {
								return m.do(tt.method, role, at, "/v1/messages", fmt.Sprintf(`{"id":"1","dest_session_id":%q,%s}`, id, in.names(tt.body)))
							}
							return m.do(tt.method, role, at, "/v1/sessions/"+id+tt.path, in.body(tt.path, tt.body))
						}
						in.closedSession(m, role)
						code, text := call("a", in.id)
						if string(code) != want[i] {
							t.Errorf("%s: got %q, want %q: %s", role, code, want[i], text)
							continue
						}
						if _, again := call("b", in.id); again != text {
							t.Errorf("%s: first %s, then %s", role, text, again)
						}
						if outside := i >= 4 && role != theApp; outside && code == envelope.NotFound {
							if _, none := call("a", "none"); none != text {
								t.Errorf("%s: got %s; of no session %s", role, text, none)
							}
						}
					}
				})
			})
		}
	}
}

// masquerade is a session, and whether its members are in it by aliases.
type masquerade struct {
	id, kind  string
	anonymous bool
}

// names puts what the members are called in place of their ids.
func (in masquerade) names(body string) string {
	if !in.anonymous {
		return body
	}
	for _, id := range []string{"owner", "moderator", "member", "reader", "banned", "left", "tom", "mona", "bob"} {
		body = strings.ReplaceAll(body, `_id":"`+id+`"`, `_id":"`+in.id+"~"+id+`"`)
	}
	return body
}

// body is the body of a call: who joins or is added comes by the alias that it
// has or gets.
func (in masquerade) body(path, body string) string {
	switch {
	case !in.anonymous:
		return body
	case path == "/join":
		return `{"as_anonymous":true}`
	case path == "/add":
		_, id, _ := strings.Cut(body, `"node_id":`)
		id, _, _ = strings.Cut(strings.TrimSuffix(id, "}"), ",")
		return strings.TrimSuffix(body, "}") + `,"alias":` + id + `}`
	}
	return in.names(body)
}

// closedSession makes a session with a device of that role and some others.
func (in masquerade) closedSession(m *mesh, role string) {
	m.t.Helper()
	at := "/v1/sessions/" + in.id
	does := func(who, call, body string) {
		m.t.Helper()
		m.must(who, at+call, in.body(call, body))
	}
	m.must("owner", "/v1/sessions", fmt.Sprintf(`{"session_id":%q,"kind":%q,"as_anonymous":%v,"anyone_can_join":false,"alias":%q}`,
		in.id, in.kind, in.anonymous, map[bool]string{true: "owner"}[in.anonymous]))
	does(theApp, "/add", `{"node_id":"tom"}`)
	does(theApp, "/add", `{"node_id":"mona","role":"moderator"}`)
	does(theApp, "/add", `{"node_id":"bob"}`)
	does(theApp, "/ban", `{"node_id":"bob"}`)
	does(theApp, "/invite", `{"node_id":"ian"}`)
	switch role {
	case "moderator", "member", "reader":
		does(theApp, "/add", fmt.Sprintf(`{"node_id":%q,"role":%q}`, role, role))
	case "invited":
		does("owner", "/invite", `{"node_id":"invited"}`)
	case "banned", "left":
		does(theApp, "/add", fmt.Sprintf(`{"node_id":%q}`, role))
		if role == "left" {
			does(role, "/leave", "")
		} else {
			does("mona", "/ban", `{"node_id":"banned"}`)
		}
	}
}

// sessionAnswer is what GET /v1/sessions/{id} answers.
type sessionAnswer struct {
	Owner       string `json:"owner"`
	Limit       int    `json:"member_limit"`
	List        string `json:"member_list"`
	Anyone      bool   `json:"anyone_can_join"`
	Role, State string
	Members     []struct {
		Node string `json:"node_id"`
		Role string `json:"role"`
	}
}

func (m *mesh) look(device, id string) sessionAnswer {
	m.t.Helper()
	var s sessionAnswer
	_, text := m.do(http.MethodGet, device, "b", "/v1/sessions/"+id, "")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (s sessionAnswer) roles() string {
	var all []string
	for _, m := range s.Members {
		all = append(all, m.Node+" "+m.Role)
	}
	return strings.Join(all, ", ")
}

// What changes is seen by those who may see it, and noted in the log.
func TestRolesOverTime(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ann := m.client("ann", "b").connected(m)
		tom := m.client("tom", "b").connected(m)
		m.must("ann", "/v1/sessions", `{"session_id":"r","anyone_can_join":false,"member_limit":3}`)
		m.must("ann", "/v1/sessions/r/invite", `{"node_id":"tom","role":"reader"}`)
		pass(time.Second)
		if got := tom.messages(); len(got) != 1 || got[0].Type != envelope.TypeInvited || got[0].DestSession != "r" || got[0].SrcNode != "ann" {
			t.Errorf("told of the invitation by %+v", got)
		}
		if s := m.look("tom", "r"); s.State != "invited" || s.Role != "reader" || len(s.Members) != 0 || s.Limit != 3 {
			t.Errorf("who is invited sees %+v", s)
		}
		m.must("tom", "/v1/sessions/r/join", "")
		if s := m.look("ann", "r"); s.roles() != "ann owner, tom reader" || s.Role != "owner" {
			t.Errorf("the owner sees %+v", s)
		}
		m.must("ann", "/v1/sessions/r/role", `{"node_id":"tom"}`)
		tom.send(to(room("r"), "1", "now I may"))
		m.must("ann", "/v1/sessions/r/role", `{"node_id":"tom","role":"reader"}`)
		m.settle() // his server has heard of it
		if _, err := tom.Send(t.Context(), to(room("r"), "2", "and now not")); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("a reader writes: %v", err)
		}
		m.must("ann", "/v1/sessions/r/transfer", `{"node_id":"tom"}`)
		if s := m.look("ann", "r"); s.roles() != "ann moderator, tom owner" || s.Owner != "tom" {
			t.Errorf("after the transfer: %+v", s)
		}
		if code, _ := m.do(http.MethodPatch, "tom", "a", "/v1/sessions/r", `{"anyone_can_join":true,"member_list":"moderators"}`); code != "" {
			t.Error(code)
		}
		m.must("max", "/v1/sessions/r/join", "")
		if s := m.look("max", "r"); s.roles() != "max member" || s.List != "moderators" || !s.Anyone {
			t.Errorf("who may not see the members sees %+v", s)
		}
		if _, text := m.do(http.MethodGet, "max", "b", "/v1/presence?session_id=r", ""); strings.Contains(text, "ann") || strings.Contains(text, "tom") {
			t.Errorf("presence shows who may not be seen: %s", text)
		}
		if code, _ := m.do(http.MethodPost, "eve", "a", "/v1/sessions/r/join", ""); code != envelope.Conflict {
			t.Errorf("a fourth of three: %q", code)
		}
		m.must("ann", "/v1/sessions/r/ban", `{"node_id":"max"}`)
		pass(time.Second)
		var seen []string
		for _, e := range ann.messages() {
			seen = append(seen, fmt.Sprintf("%d %s %s", e.Type, e.SrcNode, e.Body))
		}
		want := []string{
			`100 tom `, `0 tom "payload":"now I may"`,
			`107 tom "payload":{"kind":"group","anyone_can_join":true,"member_limit":3,"member_list":"moderators",` +
				`"anonymous":true,"notify_only_last_few_users":0,"late_joiners":"joining"}`,
			`100 max `, `103 max "payload":{"by":"ann","reason":"banned"}`,
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("ann was told\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
		}
		var role []string
		for _, e := range tom.messages() {
			if e.Type == envelope.TypeRole {
				role = append(role, string(e.Body))
			}
		}
		if fmt.Sprint(role) != `["payload":{"node_id":"tom","role":"member"} "payload":{"node_id":"tom","role":"reader"} "payload":{"node_id":"tom","role":"owner"}]` {
			t.Errorf("tom was told of roles %s", role)
		}
	})
}

// A limit holds when many ask at three servers at once, and while others go.
func TestMemberLimit(t *testing.T) {
	const limit, crowd = 5, 18
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.must("owner", "/v1/sessions", fmt.Sprintf(`{"session_id":"r","member_limit":%d}`, limit))
		in := map[string]bool{}
		for round := range 3 {
			var mu sync.Mutex
			var all sync.WaitGroup
			for i := range crowd {
				id, at := fmt.Sprint("d", i), string(rune('a'+i%3))
				mu.Lock()
				call := "/join"
				if round > 0 && in[id] {
					call = "/leave"
				}
				mu.Unlock()
				all.Go(func() {
					for {
						code, text := m.do(http.MethodPost, id, at, "/v1/sessions/r"+call, "")
						switch code {
						case envelope.Busy:
							continue
						case "", envelope.Conflict:
						default:
							t.Errorf("%s: %s", call, text)
						}
						mu.Lock()
						defer mu.Unlock()
						if code == "" {
							in[id] = call == "/join"
						}
						return
					}
				})
			}
			all.Wait()
			n := 1 // the owner
			for _, is := range in {
				if is {
					n++
				}
			}
			if s := m.look("owner", "r"); len(s.Members) != n || n > limit || round == 0 && n != limit {
				t.Errorf("round %d: %d members, %d were let in", round, len(s.Members), n)
			}
		}
		log, err := m.store.Read(t.Context(), room("r"), 0, 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range (&memberRun{log: log, limit: limit}).check() {
			t.Error(fault)
		}
	})
}

// When a kick or ban that was made elsewhere is answered and has reached a device's
// server, nothing later arrives, and the connection does not follow the session any more.
func TestKickedHearsNothing(t *testing.T) {
	for _, call := range []string{"kick", "ban"} {
		inMesh(t, 3, func(t *testing.T, m *mesh) {
			alice := m.client("alice", "a").connected(m)
			bob := m.client("bob", "b").connected(m)
			m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
			m.must("bob", "/v1/sessions/r/join", "")
			alice.send(to(room("r"), "1", "before"))
			pass(time.Second)
			if code, text := m.do(http.MethodPost, "alice", "c", "/v1/sessions/r/"+call, `{"node_id":"bob"}`); code != "" {
				t.Fatal(text)
			}
			m.settle()
			for i := range 20 {
				e := to(room("r"), "", "secret")
				if e.Class = envelope.Volatile; i%2 == 0 {
					e.Class, e.ID = envelope.Durable, fmt.Sprint("s", i)
				}
				_, _ = alice.SendHTTP(t.Context(), e)
			}
			pass(3 * time.Second)
			if got := bob.payloads(); fmt.Sprint(got) != "[before]" {
				t.Errorf("%s: got %q", call, got)
			}
			if n := m.at("b").conns.eachFollower(room("r"), func(*follow) {}); n != 0 {
				t.Errorf("%s: %d connections follow the session", call, n)
			}
		})
	}
}

// Joining and leaving in a loop does not fill the log: the allowance is used up.
func TestJoiningInALoop(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.must("ann", "/v1/sessions", `{"session_id":"r"}`)
		joins := 0
		for range 100 {
			if code, _ := m.do(http.MethodPost, "bob", "a", "/v1/sessions/r/join", ""); code == envelope.RateLimited {
				break
			}
			joins++
			m.must("bob", "/v1/sessions/r/leave", "")
		}
		if joins != 60 {
			t.Errorf("%d joins at once", joins)
		}
		pass(30 * time.Second)
		m.must("bob", "/v1/sessions/r/join", "")
	})
}
