package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// backPage is the answer to GET /v1/messages backwards.
type backPage struct {
	historyPage
	Prev uint64
}

// pagesBack reads all pages before a position, and puts each before those it has.
func (m *mesh) pagesBack(device, at, query string, before uint64) (all []string, last backPage) {
	m.t.Helper()
	for range 300 {
		var p backPage
		if code := m.ask(device, at, fmt.Sprintf("/v1/messages?%s&before=%d", query, before), &p); code != "" {
			m.t.Fatalf("%s before %d: %s", query, before, code)
		}
		all, before = append(p.texts(m.t), all...), p.Prev
		if last = p; !p.More {
			return all, last
		}
	}
	m.t.Fatalf("%s has no beginning", query)
	return nil, last
}

func TestHistoryBack(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		start := time.Now().UnixMilli()
		for i := range 130 {
			time.Sleep(time.Second)
			alice.send(to(user("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		const log = "log=client:bob"
		for query, want := range map[string]string{
			"&before=0&limit=2": `],"floor":1,"head":130,"prev":129,"more":true}`,
			"&before=2&limit=2": `],"floor":1,"head":130,"prev":1,"more":false}`,
			"&before=1":         `"messages":[],"floor":1,"head":130,"prev":1,"more":false}`,
			"&after=128":        `],"floor":1,"head":130,"next":130,"more":false}`,
			fmt.Sprint("&limit=2&until=", start+50_000):      `],"floor":1,"head":130,"prev":49,"more":true}`,
			fmt.Sprint("&limit=2&before=0&until=", start-10): `"messages":[],"floor":1,"head":130,"prev":1,"more":false}`,
		} {
			resp := m.get(t.Context(), "bob", "b", "/v1/messages?"+log+query)
			if got := strings.TrimSpace(readAllOf(t, resp)); !strings.HasSuffix(got, want) {
				t.Errorf("%s: %s", query, got)
			}
			_ = resp.Body.Close()
		}
		for _, q := range []struct {
			query  string
			before uint64
			want   []string
		}{
			{"", 0, numbers(0, 130)},
			{"&limit=7", 0, numbers(0, 130)},
			{"&limit=1", 41, numbers(0, 40)},
			{"&limit=1000000", 1 << 50, numbers(0, 130)},
			{"", 131, numbers(0, 130)},
			{"", 130, numbers(0, 129)},
			{"", 2, numbers(0, 1)},
			{"", 1, nil},
			{fmt.Sprint("&until=", start+130_000), 0, numbers(0, 130)},
			{fmt.Sprint("&until=", start+50_000), 0, numbers(0, 50)},
			{fmt.Sprint("&limit=3&until=", start+49_999), 0, numbers(0, 49)},
			{fmt.Sprint("&until=", start+50_000), 20, numbers(0, 19)},
			{fmt.Sprint("&until=", start), 0, nil},
			{fmt.Sprint("&until=", uint64(1)<<52), 0, numbers(0, 130)},
		} {
			if got, last := m.pagesBack("bob", "b", log+q.query, q.before); !slices.Equal(got, q.want) || last.Prev != 1 || last.Head != 130 || last.Floor != 1 {
				t.Errorf("%s before %d: %q, to %d; want %q", q.query, q.before, got, last.Prev, q.want)
			}
		}
		var p historyPage
		for _, query := range []string{"&before=-1", "&before=x", "&until=x", "&after=1&before=9", "&since=1&until=9", "&after=0&until=9", "&before=1&before=2"} {
			if code := m.ask("bob", "a", "/v1/messages?"+log+query, &p); code != envelope.BadRequest {
				t.Errorf("%s: %q", query, code)
			}
		}
		for _, log := range []string{"session:none", "client:bob", "node:bob"} {
			if code := m.ask("eve", "a", "/v1/messages?before=0&log="+log, &p); code != envelope.NotFound {
				t.Errorf("eve reads %s: %q", log, code)
			}
		}
	})
}

// Backwards there are the same stays as forwards.
func TestHistoryBackRights(t *testing.T) {
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
		do(second(bob.LeaveSession(ctx, "r")))                         // 5
		for i := range 30 {                                            // to 35
			say(fmt.Sprint("between", i))
		}
		do(second(bob.JoinSession(ctx, "r")))  // 36
		say("second")                          // 37
		do(second(bob.LeaveSession(ctx, "r"))) // 38
		say("after")                           // 39
		want := []string{"100", "first", "103", "100", "second", "103"}
		for _, q := range []struct {
			query  string
			before uint64
			want   []string
		}{
			{"", 0, want},
			{"&limit=1", 0, want},
			{"&limit=4", 0, want},
			{"", 39, want},
			{"", 38, want[:5]},
			{"", 36, want[:3]},
			{"", 20, want[:3]},
			{"", 5, want[:2]},
			{"", 3, nil},
			{"", 1, nil},
		} {
			got, last := m.pagesBack("bob", "a", "log=session:r"+q.query, q.before)
			if !slices.Equal(got, q.want) || last.Floor != 3 || last.Head != 38 || last.Prev != 3 {
				t.Errorf("%s before %d: %q, %+v; want %q", q.query, q.before, got, last, q.want)
			}
		}
	})
}

// What has expired or been trimmed makes no page end before it is full, nor
// does what is too large for one.
func TestHistoryBackGoesOn(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 250 {
			e := to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i))
			if i%100 != 0 {
				e.TTL = 60
			}
			alice.send(e)
		}
		time.Sleep(time.Minute)
		var p backPage
		if code := m.ask("bob", "a", "/v1/messages?log=node:bob&before=0&limit=2", &p); code != "" || !slices.Equal(p.texts(t), []string{"100", "200"}) || !p.More || p.Prev != 101 {
			t.Errorf("%s, %q, %+v", code, p.texts(t), p)
		}
		if err := m.store.Trim(t.Context(), deviceAddr("bob"), 50, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got, last := m.pagesBack("bob", "a", "log=node:bob&limit=1", 0); !slices.Equal(got, []string{"100", "200"}) || last.Floor != 50 || last.Prev != 50 {
			t.Errorf("got %q, %+v", got, last)
		}

		large := strings.Repeat("x", 300_000)
		for i := range 20 {
			e := to(user("bob"), fmt.Sprint(i), fmt.Sprint(i))
			if i%3 != 0 {
				e.Body = fmt.Appendf(e.Body, `,"x":%q`, large)
			}
			alice.send(e)
		}
		for _, limit := range []int{1, 4, 100, 1000} {
			if got, _ := m.pagesBack("bob", "a", fmt.Sprint("log=client:bob&limit=", limit), 0); !slices.Equal(got, numbers(0, 20)) {
				t.Errorf("limit %d: %q", limit, got)
			}
		}
		resp := m.get(t.Context(), "bob", "a", "/v1/messages?log=client:bob&before=0&limit=1000")
		defer resp.Body.Close()
		var page struct{ Messages []json.RawMessage }
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, raw := range page.Messages {
			size += len(raw)
		}
		if size > 2*inbox.PageBytes || len(page.Messages) == 0 {
			t.Errorf("a page of %d bytes", size)
		}
	})
}
