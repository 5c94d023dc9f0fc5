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

// ask makes a GET request and reads the answer into reply; the code is "" when
// it was not refused.
func (m *mesh) ask(device, at, pathAndQuery string, reply any, header ...string) envelope.Code {
	m.t.Helper()
	resp := m.get(m.t.Context(), device, at, pathAndQuery, header...)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
			m.t.Fatalf("%s: %v", pathAndQuery, err)
		}
		return ""
	}
	var problem struct {
		Code envelope.Code `json:"code"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || resp.StatusCode != problem.Code.HTTPStatus() {
		m.t.Fatalf("%s: %s with %+v, %v", pathAndQuery, resp.Status, problem, err)
	}
	return problem.Code
}

// post posts a JSON body for a device.
func (m *mesh) post(device, at, path, body string) envelope.Code {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, "http://"+at+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.mint(device, device, time.Hour))
	resp, err := m.network.Client().Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct {
		Code envelope.Code `json:"code"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || (problem.Code == "") != (resp.StatusCode == http.StatusOK) {
		m.t.Fatalf("%s: %s with %+v, %v", path, resp.Status, problem, err)
	}
	return problem.Code
}

// historyPage is the answer to GET /v1/messages.
type historyPage struct {
	Messages          []json.RawMessage `json:"messages"`
	Floor, Head, Next uint64
	More              bool
}

// texts returns the texts of a page; of a joining or leaving entry its type.
func (p *historyPage) texts(t testing.TB) (all []string) {
	t.Helper()
	parser := envelope.Parser{From: envelope.FromServer}
	for _, raw := range p.Messages {
		e, err := parser.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.HasType {
			all = append(all, fmt.Sprint(e.Type))
		} else {
			all = append(all, text(e))
		}
	}
	return all
}

// pages reads all pages behind a position.
func (m *mesh) pages(device, at, query string, after uint64) (all []string, last historyPage) {
	m.t.Helper()
	for range 100 {
		var p historyPage
		if code := m.ask(device, at, fmt.Sprintf("/v1/messages?%s&after=%d", query, after), &p); code != "" {
			m.t.Fatalf("%s after %d: %s", query, after, code)
		}
		all, after = append(all, p.texts(m.t)...), p.Next
		if last = p; !p.More {
			return all, last
		}
	}
	m.t.Fatalf("%s has no end", query)
	return nil, last
}

func TestHistoryPages(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		start := time.Now().UnixMilli()
		for i := range 130 {
			time.Sleep(time.Second)
			alice.send(to(user("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		const log = "log=client:bob"
		var p historyPage
		if code := m.ask("bob", "b", "/v1/messages?"+log, &p); code != "" || len(p.Messages) != 100 || p.Next != 100 || !p.More || p.Head != 130 || p.Floor != 1 {
			t.Errorf("%s, page of %d: %+v", code, len(p.Messages), p)
		}
		for _, q := range []struct {
			query string
			after uint64
			want  []string
		}{
			{"", 0, numbers(0, 130)},
			{"&limit=7", 0, numbers(0, 130)},
			{"&limit=1000000", 20, numbers(20, 130)},
			{"", 130, nil},
			{"", 1 << 50, nil},
			{fmt.Sprint("&since=", start), 0, numbers(0, 130)},
			{fmt.Sprint("&since=", start+1), 0, numbers(0, 130)},
			{fmt.Sprint("&limit=3&since=", start+50_000), 0, numbers(49, 130)}, // the 49th was sent a second after the 48th
			{fmt.Sprint("&since=", start+50_001), 0, numbers(50, 130)},
			{fmt.Sprint("&since=", start+50_000), 100, numbers(100, 130)},
			{fmt.Sprint("&since=", start+1000_000), 0, nil},
		} {
			if got, last := m.pages("bob", "b", log+q.query, q.after); !slices.Equal(got, q.want) || last.More || last.Next != 130 {
				t.Errorf("%s after %d: %q, to %d; want %q", q.query, q.after, got, last.Next, q.want)
			}
		}
		// An entry is given as it was sent.
		e := to(deviceAddr("bob"), "html", "<ä>")
		e.Body = append(e.Body, ",\"x\":{ \"y\":\n1e3 }"...)
		alice.send(e)
		resp := m.get(t.Context(), "bob", "a", "/v1/messages?log=node:bob")
		defer resp.Body.Close()
		if got := readAllOf(t, resp); !strings.Contains(got, "\"payload\":\"<ä>\",\"x\":{ \"y\":\n1e3 }}") {
			t.Errorf("%s", got)
		}
	})
}

func readAllOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What has expired is not shown, and pages go on behind it.
func TestHistoryLeavesOutExpired(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 25 {
			e := to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i))
			if i%10 != 0 {
				e.TTL = 60
			}
			alice.send(e)
		}
		if got, _ := m.pages("bob", "a", "log=node:bob&limit=5", 0); len(got) != 25 {
			t.Errorf("%d before the time", len(got))
		}
		time.Sleep(time.Minute)
		if got, _ := m.pages("bob", "a", "log=node:bob&limit=2", 0); !slices.Equal(got, []string{"0", "10", "20"}) {
			t.Errorf("got %q", got)
		}
	})
}

// Of a session a device sees what fell into its stays, its own included; other
// logs look as if they were not there.
func TestHistoryRights(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ctx := t.Context()
		alice, bob := m.api("alice", "alice", "a"), m.api("bob", "bob", "b")
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		say := func(text string) { t.Helper(); do(second(alice.SendHTTP(ctx, to(room("r"), text, text)))) }
		do(second(alice.CreateSession(ctx, "r", envelope.Settings{}))) // 1
		say("before")                                                  // 2
		do(second(bob.JoinSession(ctx, "r")))                          // 3
		say("first")                                                   // 4
		do(second(bob.SendHTTP(ctx, to(room("r"), "own", "own"))))
		do(second(bob.LeaveSession(ctx, "r"))) // 6
		say("between")                         // 7
		do(second(bob.JoinSession(ctx, "r")))  // 8
		say("second")                          // 9
		do(second(bob.LeaveSession(ctx, "r"))) // 10
		say("after")                           // 11
		want := []string{"100", "first", "own", "103", "100", "second", "103"}
		for _, q := range []struct {
			query string
			after uint64
			want  []string
		}{
			{"", 0, want},
			{"&limit=1", 0, want},
			{"", 3, want[1:]},
			{"", 6, want[4:]},
			{"", 7, want[4:]},
			{"", 10, nil},
			{"&since=1", 0, want},
		} {
			got, last := m.pages("bob", "a", "log=session:r"+q.query, q.after)
			if !slices.Equal(got, q.want) || last.Floor != 3 || last.Head != 10 || last.Next != 10 {
				t.Errorf("%s after %d: %q, %+v; want %q", q.query, q.after, got, last, q.want)
			}
		}
		if got, last := m.pages("alice", "b", "log=session:r", 0); len(got) != 11 || last.Head != 11 {
			t.Errorf("alice sees %q", got)
		}

		do(second(alice.CreateSession(ctx, "closed", envelope.Settings{AnyoneCanJoin: new(false)})))
		none := readAllOf(t, m.get(ctx, "eve", "a", "/v1/messages?log=session:none"))
		for _, log := range []string{"session:r", "session:closed", "node:bob", "client:bob", "node:nobody"} {
			if got := readAllOf(t, m.get(ctx, "eve", "a", "/v1/messages?log="+log)); !strings.HasPrefix(got, "HTTP/1.1 404") || body(got) != body(none) {
				t.Errorf("%s is answered with\n%s", log, got)
			}
		}
		var p historyPage
		for _, query := range []string{"", "log=bob", "log=presence:bob", "log=node:bob&log=node:eve", "log=node:bob&after=-1", "log=node:bob&x=1", "log=node:bob&since=x", "log=node:bob&limit=%zz"} {
			if code := m.ask("bob", "a", "/v1/messages?"+query, &p); code != envelope.BadRequest {
				t.Errorf("?%s: %q", query, code)
			}
		}
	})
}

func body(answer string) string {
	_, b, _ := strings.Cut(answer, "\r\n\r\n")
	return b
}

func TestPresenceCall(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.client("alice", "a").connected(m)
		pass(time.Second)
		var reply struct{ Presence []envelope.Presence }
		if code := m.ask("bob", "b", "/v1/presence?client_id=alice&client_id=nobody", &reply); code != "" || len(reply.Presence) != 2 ||
			reply.Presence[0] != (envelope.Presence{Client: "alice", Online: true}) || reply.Presence[1].Online {
			t.Errorf("%s, %+v", code, reply)
		}
		for query, want := range map[string]envelope.Code{
			"": envelope.BadRequest, "client_id=a%20b": envelope.BadRequest, "client_id=x&session_id=r": envelope.BadRequest, "session_id=none": envelope.NotFound,
		} {
			if code := m.ask("bob", "b", "/v1/presence?"+query, &reply); code != want {
				t.Errorf("?%s: %q", query, code)
			}
		}
		for body, want := range map[string]envelope.Code{
			``: "", `{}`: "", `{"delivered":{"node:carl":5}}`: "", `{"delivered":{"bob":1}}`: envelope.BadRequest,
			`{"deliver":{}}`: envelope.BadRequest, `{"read":{"node:bob":-1}}`: envelope.BadRequest,
		} {
			if code := m.post("bob", "a", "/v1/cursors", body); code != want {
				t.Errorf("cursors %s: %q", body, code)
			}
		}
	})
}
