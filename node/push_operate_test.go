package node

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/push"
)

// asApp carries out a command of the app at a server.
func (m *mesh) asApp(at string, cmd gateway.Command) (gateway.Event, error) {
	return m.at(at).Do(m.t.Context(), envelope.Principal{Node: "backend", Client: "backend", App: true}, cmd)
}

// appCall makes an HTTP call of the app.
func (m *mesh) appCall(at, method, path string) (status int, answer string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, "http://"+at+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.mintApp("backend"))
	resp, err := m.network.Client().Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// A test goes out at once to each token, between two notifications as well, and
// says what the services say.
func TestPushTest(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		bob, alice := m.api("bob", "phone", "a"), m.api("alice", "alice", "a")
		if _, err := bob.TestPush(t.Context(), client.PushTest{}); envelope.CodeOf(err) != envelope.NotFound {
			t.Errorf("without a token: %v", err)
		}
		for _, app := range []string{"one", "two"} {
			if err := bob.PutPushToken(t.Context(), client.PushToken{Service: "fcm", Token: tokenOf(app), App: app}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := alice.SendHTTP(t.Context(), to(deviceAddr("phone"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if got := s.take(); len(got) != 2 {
			t.Fatalf("woken: %+v", got)
		}
		s.set(func(to push.Token) error {
			if to.App == "two" {
				return &push.Failure{Reason: "UNREGISTERED", Gone: true}
			}
			return nil
		})
		tried, err := bob.TestPush(t.Context(), client.PushTest{Title: "T", Body: "B"})
		slices.SortFunc(tried, func(a, b client.PushTry) int { return len(a.Reason) - len(b.Reason) })
		if err != nil || len(tried) != 2 || !tried[0].Sent || tried[1].Sent || tried[1].Reason != "UNREGISTERED" || !tried[1].Gone {
			t.Errorf("%+v, %v", tried, err)
		}
		if got := s.take(); len(got) != 1 || got[0].n.Title != "T" || got[0].n.Body != "B" || got[0].n.Silent || got[0].n.Badge != nil || !got[0].n.Urgent {
			t.Errorf("sent: %+v", got)
		}
		left, err := m.store.TokensOf(t.Context(), []envelope.NodeID{"phone"})
		if err != nil || len(left) != 1 || left[0].App != "one" {
			t.Errorf("left: %v, %v", left, err)
		}

		if _, err := alice.TestPush(t.Context(), client.PushTest{Node: "phone"}); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("of somebody else: %v", err)
		}
		for _, bad := range []client.PushTest{{Title: "a\nb"}, {Body: string(make([]rune, gateway.MaxTestText+1))}, {Node: "not an id"}} {
			if _, err := m.asApp("a", gateway.TestPush{Node: bad.Node, Title: bad.Title, Body: bad.Body}); err == nil {
				t.Errorf("%q was taken", bad)
			}
		}
		code := envelope.Code("")
		for range 10 {
			_, err := bob.TestPush(t.Context(), client.PushTest{})
			if code = envelope.CodeOf(err); code != "" {
				break
			}
		}
		if code != envelope.RateLimited {
			t.Errorf("a device tests itself without end: %q", code)
		}
		s.take()
		if _, err := m.asApp("a", gateway.TestPush{Node: "phone"}); err != nil {
			t.Errorf("the app: %v", err)
		}
		if got := s.take(); len(got) != 1 || got[0].n.Title == "" {
			t.Errorf("a test without a text would not be seen: %+v", got)
		}
	})
}

// Whether the host of an endpoint is one of the servers' own network the app is
// told and nobody else.
func TestPushTestOfInnerAddress(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		bob := m.api("bob", "phone", "a")
		if err := bob.PutPushToken(t.Context(), client.PushToken{Service: "fcm", Token: tokenOf("one"), App: "one"}); err != nil {
			t.Fatal(err)
		}
		inner := &push.Failure{Reason: "address not allowed", Inner: true}
		nobody := push.Unanswered(io.ErrUnexpectedEOF)
		var told [2]client.PushTry
		for i, failure := range []*push.Failure{inner, nobody} {
			s.set(func(push.Token) error { return failure })
			tried, err := bob.TestPush(t.Context(), client.PushTest{})
			if err != nil || len(tried) != 1 {
				t.Fatal(tried, err)
			}
			told[i] = tried[0]
			ev, err := m.asApp("a", gateway.TestPush{Node: "phone"})
			if err != nil {
				t.Fatal(err)
			}
			if of := ev.(gateway.PushTested).Of[0]; of.Reason != failure.Reason || of.Retry != failure.Retry {
				t.Errorf("the app is told %+v of %v", of, failure)
			}
		}
		if told[0] != told[1] || told[0].Reason != "unreachable" || !told[0].Retry {
			t.Errorf("told %+v and %+v", told[0], told[1])
		}
	})
}

// What was given up is listed, forgotten, and told again, without waiting for
// the interval.
func TestPushFailed(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		alice := m.api("alice", "alice", "a")
		s.set(func(push.Token) error { return &push.Failure{Reason: "SENDER_ID_MISMATCH"} })
		for i := range 5 {
			id := fmt.Sprint("phone", i)
			m.registers(id, id, "b")
			if _, err := alice.SendHTTP(t.Context(), to(deviceAddr(id), id, "hi")); err != nil {
				t.Fatal(err)
			}
		}
		pass(20 * time.Second)
		s.set(nil)
		list := func(after envelope.NodeID, limit int) (nodes []envelope.NodeID, next envelope.NodeID) {
			t.Helper()
			ev, err := m.asApp("a", gateway.GetFailedPushes{After: after, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			page := ev.(gateway.FailedPushes)
			for _, f := range page.Of {
				if f.Log != f.Node.Address() || f.Seq != 1 || f.Reason != "SENDER_ID_MISMATCH" || f.Attempts != 1 || f.Service != "fcm" || f.At == 0 {
					t.Errorf("%+v", f)
				}
				nodes = append(nodes, f.Node)
			}
			if page.More {
				next = page.Next
			}
			return nodes, next
		}
		var all []envelope.NodeID
		after, pages := envelope.NodeID(""), 0
		for {
			nodes, next := list(after, 2)
			all, pages = append(all, nodes...), pages+1
			if after = next; after == "" {
				break
			}
		}
		if want := []envelope.NodeID{"phone0", "phone1", "phone2", "phone3", "phone4"}; !slices.Equal(all, want) || pages != 3 {
			t.Fatalf("%q in %d pages", all, pages)
		}
		settle := func(node envelope.NodeID, again bool) envelope.Code {
			_, err := m.asApp("b", gateway.SettleFailedPush{Node: node, Again: again})
			return envelope.CodeOf(err)
		}
		for _, step := range []struct {
			node  envelope.NodeID
			again bool
			want  envelope.Code
		}{
			{"phone1", true, ""},
			{"phone1", true, ""}, // which does nothing more; so below
			{"phone2", false, ""},
			{"phone2", true, ""},
			{"alice", true, ""},
			{"not an id", true, envelope.BadRequest},
		} {
			if code := settle(step.node, step.again); code != step.want {
				t.Errorf("%+v: %q", step, code)
			}
		}
		pass(5 * time.Second)
		if got := s.take(); len(got) != 1 || got[0].to.Node != "phone1" {
			t.Errorf("told again: %+v", got)
		}
		if nodes, _ := list("", 0); !slices.Equal(nodes, []envelope.NodeID{"phone0", "phone3", "phone4"}) {
			t.Errorf("left: %q", nodes)
		}
		pass(5 * time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("once more: %+v", got)
		}
		// Who has it by then is not told.
		phone3 := m.device("phone3", "phone3", "a").connected(m)
		pass(time.Second)
		phone3.close()
		if code := settle("phone3", true); code != "" {
			t.Error(code)
		}
		pass(time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("told of what it has: %+v", got)
		}
	})
}

// The app does not learn from what was given up where a device is by an alias.
func TestPushFailedTaint(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		alice, hidden := m.api("alice", "alice", "a"), m.api("bob", "bob", "a")
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		m.registers("bob", "bob", "a")
		if _, err := hidden.JoinSession(t.Context(), "room", client.Anonymously("zorro")); err != nil {
			t.Fatal(err)
		}
		s.set(func(push.Token) error { return &push.Failure{Reason: "BAD"} })
		private := envelope.Envelope{ID: "private", DestSession: "room", DestNode: envelope.AliasOf("room", "zorro")}
		private.SetPayload("psst")
		for _, e := range []envelope.Envelope{to(room("room"), "all", "hi"), private} {
			if _, err := alice.SendHTTP(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			pass(5 * time.Minute)
			status, text := m.appCall("a", "GET", "/v1/push/failed")
			if status != 200 || !strings.Contains(text, `"node_id":"bob"`) || strings.Contains(text, "room") || strings.Contains(text, "seq") {
				t.Errorf("%s: %d %s", e.ID, status, text)
			}
			s.set(nil)
			if _, err := m.asApp("a", gateway.SettleFailedPush{Node: "bob", Again: true}); err != nil {
				t.Fatal(err)
			}
			pass(5 * time.Second)
			if got := s.take(); len(got) != 1 || got[0].to.Node != "bob" {
				t.Errorf("%s, again: %+v", e.ID, got)
			}
			s.set(func(push.Token) error { return &push.Failure{Reason: "BAD"} })
		}
	})
}

// A device mutes so many logs and no more; those that are over do not count.
func TestPushMutesBounded(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, _ *service) {
		bob := m.api("bob", "bob", "a")
		for i := range maxMutes {
			mute := push.Mute{Node: "bob", Log: room(fmt.Sprint(i))}
			if i == 0 {
				mute.Until = time.Now().Add(time.Minute).UnixMilli()
			}
			if err := m.store.PutMute(t.Context(), mute); err != nil {
				t.Fatal(err)
			}
		}
		if err := bob.Mute(t.Context(), user("bob"), time.Time{}); envelope.CodeOf(err) != envelope.Quota {
			t.Errorf("one too many: %v", err)
		}
		if _, err := bob.CreateSession(t.Context(), "7", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		if err := bob.Mute(t.Context(), room("7"), time.Now().Add(time.Hour)); err != nil {
			t.Errorf("one that is there already: %v", err)
		}
		pass(2 * time.Minute)
		if err := bob.Mute(t.Context(), user("bob"), time.Time{}); err != nil {
			t.Errorf("in the place of one that is over: %v", err)
		}
		if mutes, err := m.store.Mutes(t.Context(), "bob"); err != nil || len(mutes) != maxMutes {
			t.Errorf("%d mutes, %v", len(mutes), err)
		}
	})
}

// Who leaves a session, or is put out of it, has what was shown of it taken back
// and its mute forgotten; what it has not read there counts no more.
func TestPushLeft(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		alice := m.api("alice", "alice", "a")
		for _, id := range []envelope.SessionID{"room", "other"} {
			if _, err := alice.CreateSession(t.Context(), id, envelope.Settings{}); err != nil {
				t.Fatal(err)
			}
		}
		bob, carol := m.api("bob", "bob", "a"), m.api("carol", "carol", "a")
		for name, api := range map[string]*client.API{"bob": bob, "carol": carol} {
			m.registers(name, name, "a")
			if _, err := api.JoinSession(t.Context(), "room", client.Anonymously("")); err != nil {
				t.Fatal(err)
			}
		}
		if err := bob.Mute(t.Context(), user("bob"), time.Time{}); err != nil { // which stays
			t.Fatal(err)
		}
		if _, err := alice.SendHTTP(t.Context(), to(room("room"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		shown := s.take()
		if len(shown) != 2 || *shown[0].n.Badge != 1 {
			t.Fatalf("woken: %+v", shown)
		}
		for _, api := range []*client.API{bob, carol} {
			if err := api.Mute(t.Context(), room("room"), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := bob.LeaveSession(t.Context(), "room"); err != nil {
			t.Fatal(err)
		}
		ses, err := alice.Session(t.Context(), "room")
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range ses.Members {
			if member.Node != "alice" {
				if _, err := m.asApp("a", gateway.ChangeMember{ID: "room", Action: gateway.Kick, Node: member.Node}); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass(10 * time.Second)
		back := s.take()
		if len(back) != 2 {
			t.Fatalf("taken back: %+v", back)
		}
		for _, p := range back {
			if !p.n.Dismiss || *p.n.Badge != 0 || p.n.CollapseID != shown[0].n.CollapseID {
				t.Errorf("taken back: %+v", p)
			}
			mutes, err := m.store.Mutes(t.Context(), p.to.Node)
			if err != nil || slices.ContainsFunc(mutes, func(of push.Mute) bool { return of.Log == room("room") }) ||
				p.to.Node == "bob" && len(mutes) != 1 {
				t.Errorf("mutes of %s: %v, %v", p.to.Node, mutes, err)
			}
		}
		pass(10 * time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("later: %+v", got)
		}
	})
}
