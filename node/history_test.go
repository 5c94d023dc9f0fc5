package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
	"github.com/allsparkrt/allspark/inbox"
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
		do(second(alice.CreateSession(ctx, "r", true))) // 1
		say("before")                                   // 2
		do(second(bob.JoinSession(ctx, "r")))           // 3
		say("first")                                    // 4
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

		do(second(alice.CreateSession(ctx, "closed", false)))
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

type traceAnswer struct {
	ID, Log   string
	Seq       uint64
	Accepted  int64
	Trimmed   bool
	Delivered int
	Read      int
	Readers   []struct {
		NodeID    string `json:"node_id"`
		Delivered bool
		Read      bool
		Server    string
		Written   bool
	}
	Servers []string
}

func (a *traceAnswer) readers() string {
	var all []string
	for _, r := range a.Readers {
		all = append(all, fmt.Sprintf("%s %v %v", r.NodeID, r.Delivered, r.Read))
	}
	return strings.Join(all, ", ")
}

// What has been trimmed is said to be.
func TestTraceOfTrimmed(t *testing.T) {
	inMeshOf(t, 1, keeping(inbox.Limits{Entries: 2}), func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		sent := time.Now().UnixMilli()
		for i := range 5 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), "x"))
		}
		pass(5 * time.Minute) // floor 4
		for id, trimmed := range map[string]bool{"0": true, "2": true, "3": false, "4": false} {
			var a traceAnswer
			if code := m.ask("alice", "a", "/v1/messages/"+id+"/trace?dest_id=bob", &a); code != "" || a.Trimmed != trimmed || a.Accepted != sent {
				t.Errorf("%s: %s, %+v", id, code, a)
			}
		}
	})
}

// Who has left a session still learns that its message was taken, not who
// reads it.
func TestTraceAfterLeaving(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice, bob := m.api("alice", "alice", "a"), m.api("bob", "bob", "a")
		if _, err := bob.CreateSession(t.Context(), "r", true); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if code := m.post("alice", "a", "/v1/messages", `{"id":"1","dest_session_id":"r","payload":""}`); code != "" {
			t.Fatal(code)
		}
		for _, want := range []string{"bob false false", ""} {
			var a traceAnswer
			if code := m.ask("alice", "a", "/v1/messages/1/trace?dest_session_id=r", &a); code != "" || a.Seq != 3 || a.readers() != want {
				t.Errorf("%s, %+v; want readers %q", code, a, want)
			}
			if _, err := alice.LeaveSession(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Where only moderators may see who is in a session, a trace does not name its
// readers to others.
func TestTraceHidden(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r","member_list":"moderators"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		for device, want := range map[string]string{"alice": "bob false false", "bob": ""} {
			m.must(device, "/v1/messages", `{"id":"1","dest_session_id":"r","payload":""}`)
			var a traceAnswer
			if code := m.ask(device, "b", "/v1/messages/1/trace?dest_session_id=r", &a); code != "" || a.Seq == 0 || a.readers() != want {
				t.Errorf("%s: %s, %+v; want readers %q", device, code, a, want)
			}
		}
	})
}

func TestTrace(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		ctx := t.Context()
		if _, err := alice.CreateSession(ctx, "r", true); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"bob", "carl"} {
			if _, err := m.api(id, id, "b").JoinSession(ctx, "r"); err != nil {
				t.Fatal(err)
			}
		}
		sent := time.Now().UnixMilli()
		alice.send(to(room("r"), "1", "one"))
		ack := alice.send(to(deviceAddr("bob"), "1", "the same id elsewhere"))
		if _, err := m.api("dora", "dora", "b").JoinSession(ctx, "r"); err != nil { // who comes later has no part in it
			t.Fatal(err)
		}
		trace := func(device, query string, header ...string) (a traceAnswer, code envelope.Code) {
			t.Helper()
			code = m.ask(device, "b", "/v1/messages/1/trace?"+query, &a, header...)
			return a, code
		}
		a, code := trace("alice", "dest_session_id=r")
		if code != "" || a.ID != "1" || a.Log != "session:r" || a.Seq != 4 || a.Accepted != sent || a.Trimmed || a.readers() != "bob false false, carl false false" || a.Servers != nil {
			t.Errorf("%s, at %d: %+v", code, sent, a)
		}
		a, code = trace("alice", "dest_id=bob")
		if code != "" || a.Seq != ack.Seq || a.Log != "node:bob" || a.readers() != "bob false false" {
			t.Errorf("%s: %+v", code, a)
		}

		if code := m.post("bob", "a", "/v1/cursors", `{"delivered":{"session:r":4,"node:bob":1},"read":{"node:bob":1}}`); code != "" {
			t.Fatal(code)
		}
		pass(3 * time.Second) // until it is written
		if a, _ = trace("alice", "dest_session_id=r"); a.readers() != "bob true false, carl false false" || a.Delivered != 1 || a.Read != 0 {
			t.Errorf("acknowledged: %+v", a)
		}
		if a, _ = trace("alice", "dest_id=bob"); a.readers() != "bob true true" || a.Delivered != 1 || a.Read != 1 {
			t.Errorf("read: %+v", a)
		}

		// The app may ask for anybody's, and is told where the readers are.
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
			Client: "app", Node: "app", App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		app := []string{"Authorization", "Bearer " + key}
		m.client("carl", "b").connected(m)
		pass(time.Second)
		if a, code = trace("app", "dest_session_id=r&src_id=alice", app...); code != "" || a.Seq != 4 || !slices.Equal(a.Servers, []string{"a", "b"}) {
			t.Errorf("the app: %s, %+v", code, a)
		}
		if bob, carl := a.Readers[0], a.Readers[1]; bob.Server != "" || bob.Written || carl.NodeID != "carl" || carl.Server != "b" || !carl.Written {
			t.Errorf("readers %+v", a.Readers)
		}
		alice.send(to(deviceAddr("erin"), "1", "waits"))
		readable := func(yes bool) {
			m.at("b").store.set(func(f *faultyStore) {
				f.before = func(op string) error {
					if op == "read" && !yes {
						return envelope.BusyError(1, "", nil)
					}
					return nil
				}
			})
		}
		readable(false)
		m.client("erin", "b").connected(m)
		for _, written := range []bool{false, true} {
			pass(5 * time.Second)
			if a, code = trace("app", "dest_id=erin&src_id=alice", app...); code != "" || len(a.Readers) != 1 || a.Readers[0].Server != "b" || a.Readers[0].Written != written {
				t.Errorf("%s, %+v, written should be %v", code, a, written)
			}
			readable(true)
		}
		for _, q := range []struct {
			device, query string
			want          envelope.Code
		}{
			{"alice", "dest_session_id=none", envelope.NotFound},
			{"alice", "dest_client_id=bob", envelope.NotFound},
			{"bob", "dest_session_id=r", envelope.NotFound},
			{"bob", "dest_session_id=r&src_id=alice", envelope.NotFound},
			{"bob", "dest_id=bob&src_id=alice", envelope.NotFound},
			{"alice", "", envelope.BadRequest},
			{"alice", "dest_id=a%20b", envelope.BadRequest},
			{"alice", "dest_id=bob&dest_client_id=bob", envelope.BadRequest},
		} {
			if _, code := trace(q.device, q.query); code != q.want {
				t.Errorf("%s asks %q: %q", q.device, q.query, code)
			}
		}
	})
}

// pendingAnswer is the payload of a message of type −102.
type pendingAnswer struct {
	Messages  []string `json:"messages"`
	FromSeq   int      `json:"from_seq"`
	ToSeq     int      `json:"to_seq"`
	More      bool     `json:"more"`
	ClockDiff int64    `json:"server_timestamp_add_diff"`
	texts     []string
}

func parsePending(t testing.TB, frame []byte) (p pendingAnswer) {
	t.Helper()
	var outer struct {
		ID      string `json:"id"`
		DestID  string `json:"dest_id"`
		Type    int    `json:"type"`
		Payload string `json:"payload"`
	}
	if err := json.Unmarshal(frame, &outer); err != nil || outer.Type != -102 || outer.DestID != "bob" {
		t.Fatalf("%.300s: %v", frame, err)
	}
	if err := json.Unmarshal([]byte(outer.Payload), &p); err != nil {
		t.Fatalf("%.300s: %v", frame, err)
	}
	parser := envelope.Parser{From: envelope.FromServer}
	for _, raw := range p.Messages {
		e, err := parser.Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		p.texts = append(p.texts, text(e))
	}
	return p
}

// A legacy client asks for what is pending for its device, page by page.
func TestFetchPending(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ctx := t.Context()
		alice := m.client("alice", "a").connected(m)
		for _, id := range []string{"r", "s"} {
			if _, err := alice.CreateSession(ctx, roomID(id), true); err != nil {
				t.Fatal(err)
			}
			if _, err := m.api("bob", "bob", "b").JoinSession(ctx, roomID(id)); err != nil {
				t.Fatal(err)
			}
		}
		logs := []envelope.Address{deviceAddr("bob"), user("bob"), room("r"), room("s")}
		start := time.Now().UnixMilli()
		for i := range 240 {
			time.Sleep(time.Second)
			alice.send(to(logs[i%4], fmt.Sprint(i), fmt.Sprint(i)))
		}
		if _, err := m.api("bob", "bob", "b").LeaveSession(ctx, "s"); err != nil {
			t.Fatal(err)
		}
		alice.send(to(room("s"), "late", "not for bob"))

		// Not on a connection, whose replay would be acknowledged at once.
		fetch := func(request string) pendingAnswer {
			t.Helper()
			codec := native.NewCodec(true)
			cmd, _, err := codec.Decode(fmt.Appendf(nil, `{"type":-101,"payload":%q}`, request))
			if err != nil {
				t.Fatal(err)
			}
			ev, err := m.at("b").Do(ctx, envelope.Principal{Node: "bob", Client: "bob"}, cmd)
			if err != nil {
				t.Fatal(err)
			}
			return parsePending(t, codec.Append(nil, ev))
		}
		var all, marks []string
		from := 1
		for range 10 {
			p := fetch(fmt.Sprintf(`{"fetch_inbox_messages":true,"fetch_inbox_messages_from_seq":%d}`, from))
			all = append(all, p.texts...)
			marks = append(marks, fmt.Sprintf("%d-%d", p.FromSeq, p.ToSeq))
			if from = p.ToSeq + 1; !p.More {
				break
			}
			alice.send(to(logs[1], fmt.Sprint("new", from), "new")) // moves the later marks
		}
		once := make(map[string]int)
		for _, text := range all {
			once[text]++
		}
		for i := range 240 {
			if once[fmt.Sprint(i)] == 0 {
				t.Errorf("%d is missing in %v", i, marks)
			}
		}
		if once["not for bob"] > 0 || len(marks) != 3 {
			t.Errorf("in %v came %v", marks, once)
		}

		// Nor is it told how much is said where it has left.
		tail := func() int { return fetch(`{"fetch_inbox_messages":true,"fetch_inbox_messages_from_seq":180}`).ToSeq }
		before := tail()
		for i := range 5 {
			alice.send(to(room("s"), fmt.Sprint("later", i), "not for bob"))
		}
		if after := tail(); after != before {
			t.Errorf("the last mark has gone from %d to %d", before, after)
		}

		byTime := func() {
			t.Helper()
			var got []string
			for from := 1; ; {
				p := fetch(fmt.Sprintf(`{"fetch_inbox_messages":true,"fetch_inbox_messages_from_seq":%d,
					"fetch_inbox_messages_from_time_stamp":%d,"fetch_inbox_messages_to_time_stamp":%d}`, from, start+100_000, start+120_000))
				got = append(got, p.texts...)
				if from = p.ToSeq + 1; !p.More {
					break
				}
			}
			slices.Sort(got)
			want := numbers(99, 120)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("by time came %q, want %q", got, want)
			}
		}
		byTime() // exactly

		// What is acknowledged is pending no more, but can be looked back at.
		if code := m.post("bob", "a", "/v1/cursors", `{"delivered":{"node:bob":60,"client:bob":59,"session:r":62}}`); code != "" {
			t.Fatal(code)
		}
		p := fetch(`{"fetch_inbox_messages":true}`)
		if len(p.texts) < 62 || slices.Contains(p.texts, "0") || p.texts[0] != "237" {
			t.Errorf("left are %q", p.texts)
		}
		if p := fetch(`{"fetch_inbox_messages":true,"fetch_inbox_messages_from_seq":1,"fetch_inbox_messages_to_seq":60}`); len(p.texts) != 0 || p.More {
			t.Errorf("up to mark 60 there is %+v", p)
		}
		byTime()
		if p := fetch(fmt.Sprintf(`{"timestamp":%d}`, time.Now().Add(-1500*time.Millisecond).UnixMilli())); p.ClockDiff != 1500 {
			t.Errorf("the clocks differ by %d", p.ClockDiff)
		}
	})
}

// On a connection the answer comes among the messages, and errors as such.
func TestFetchPendingOnConnection(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.legacy("bob", "a")
		pass(time.Second)
		r.send(`{"id":"9","type":-101,"payload":"{\"fetch_inbox_messages\":true,\"timestamp\":1}"}`)
		f, err := r.next(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if p := parsePending(t, []byte(f.text)); len(p.Messages) != 0 || p.More || p.ClockDiff != time.Now().UnixMilli()-1 {
			t.Errorf("%+v", p)
		}
		r.send(`{"id":"8","type":-101,"payload":"{\"update_gcm_key\":\"k\"}"}`)
		if c := r.control("nack"); c.ID != "8" || c.Code != envelope.BadRequest || !strings.Contains(c.Detail, "update_gcm_key") {
			t.Errorf("%+v", c)
		}
		m.at("a").store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "heads" {
					return errAway
				}
				return nil
			}
		})
		r.send(`{"id":"7","type":-101,"payload":"{\"fetch_inbox_messages\":true}"}`)
		if c := r.control("nack"); c.ID != "7" || c.Code != envelope.Busy {
			t.Errorf("%+v", c)
		}
		m.at("a").store.set(func(s *faultyStore) { s.before = nil })
		m.client("alice", "a").send(to(deviceAddr("bob"), "1", "still there"))
		r.message("still there")
	})
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
