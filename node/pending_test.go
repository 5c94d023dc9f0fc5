package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
)

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
			if _, err := alice.CreateSession(ctx, roomID(id), envelope.Settings{}); err != nil {
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
