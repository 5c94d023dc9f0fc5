package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

// service is a push service that notes what it is given.
type service struct {
	mu     sync.Mutex
	got    []pushed
	answer func(to push.Token) error // guarded by mu; nil: taken
	tried  int                       // guarded by mu
}

type pushed struct {
	to push.Token
	n  push.Notification
	at time.Time
}

// Send implements [push.Sender].
func (s *service) Send(_ context.Context, to push.Token, n push.Notification) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	if s.answer != nil {
		if err := s.answer(to); err != nil {
			return err
		}
	}
	s.got = append(s.got, pushed{to, n, time.Now()})
	return nil
}

func (s *service) set(answer func(to push.Token) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// tries returns how often it was asked since it was asked for that last.
func (s *service) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	tried := s.tried
	s.tried = 0
	return tried
}

// take returns what has come since it was asked last.
func (s *service) take() []pushed {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// inPushMesh is inMesh with a push service.
func inPushMesh(t *testing.T, n int, f func(t *testing.T, m *mesh, s *service)) {
	t.Helper()
	s := new(service)
	var stores []push.Store
	inMeshOf(t, n, func(cfg *Config) {
		stores = append(stores, cfg.Inbox.(push.Store))
		cfg.Push = Push{
			Store: stores[len(stores)-1], Senders: map[push.Service]push.Sender{push.FCM: s},
			Text: push.Text{TitleKey: "title", Body: "{sender} in {session}: {unread}", Content: true},
		}
	}, func(t *testing.T, m *mesh) { f(t, m, s) })
}

// tokenOf is the token of a device's push service.
func tokenOf(id string) string { return strings.Repeat("x", 20) + id }

// call makes an HTTP call of a device that the client has no words for.
func (m *mesh) call(clientID, id, at, method, path, body string) (status int, answer string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, "http://"+at+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.mint(clientID, id, time.Hour))
	resp, err := m.network.Client().Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&text); err != nil {
		m.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// registers has a device register its token.
func (m *mesh) registers(clientID, id, at string) {
	m.t.Helper()
	if err := m.api(clientID, id, at).PutPushToken(m.t.Context(), client.PushToken{Service: "fcm", Token: tokenOf(id)}); err != nil {
		m.t.Fatal(err)
	}
}

// Who goes away gets exactly one push of a message, and has it when it is back.
func TestPushAway(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		m.registers("bob", "phone", "a")
		bob := m.device("bob", "phone", "a").connected(m)
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("phone"), "1", "here"))
		pass(time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("woken while it is there: %+v", got)
		}
		bob.close()
		pass(time.Minute)
		alice.send(to(deviceAddr("phone"), "2", "away"))
		pass(10 * time.Second)
		got := s.take()
		if len(got) != 1 {
			t.Fatalf("%d pushes, want one: %+v", len(got), got)
		}
		n := got[0].n
		if got[0].to.Value != tokenOf("phone") || n.Body != "alice in : 1" || n.TitleKey != "title" || *n.Badge != 1 ||
			n.Silent || n.Dismiss || n.Data["log"] != "node:phone" || n.Data["seq"] != "2" || !strings.Contains(n.Data["message"], "away") {
			t.Errorf("%+v", got[0])
		}
		pass(10 * time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("once more: %+v", got)
		}
		again := m.device("bob", "phone", "a").connected(m)
		pass(time.Second)
		if texts := again.texts(); !slices.Equal(texts, []string{"away"}) {
			t.Errorf("on return it has %q", texts)
		}
		pass(10 * time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("after its return: %+v", got)
		}
	})
}

// At most one push for a device in an interval; what came meanwhile is told
// when it is over.
func TestPushInterval(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		m.registers("bob", "phone", "a")
		alice := m.client("alice", "a").connected(m)
		for i := range 300 {
			addr := deviceAddr("phone")
			if i%2 == 1 {
				addr = user("bob")
			}
			alice.send(to(addr, fmt.Sprint(i), "x"))
			pass(time.Second)
		}
		pass(5 * time.Minute)
		got := s.take()
		if len(got) != 4 {
			t.Fatalf("%d pushes in 300 s, want 4", len(got))
		}
		for i := range got[1:] {
			if d := got[i+1].at.Sub(got[i].at); d < pushInterval {
				t.Errorf("push %d after %v", i+1, d)
			}
		}
		if badge := *got[3].n.Badge; badge != 300 {
			t.Errorf("the badge is %d in the end", badge)
		}
	})
}

// Of a user's devices those are woken that have not got it; what the user reads
// on one is taken back on the other.
func TestPushTwoDevices(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		for _, id := range []string{"phone", "tablet", "desk"} {
			m.registers("bob", id, "a")
		}
		desk := m.device("bob", "desk", "b").connected(m)
		alice := m.client("alice", "a").connected(m)
		alice.send(to(user("bob"), "1", "hi"))
		pass(10 * time.Second)
		var to []string
		for _, p := range s.take() {
			to = append(to, p.to.Value)
		}
		slices.Sort(to)
		if !slices.Equal(to, []string{tokenOf("phone"), tokenOf("tablet")}) {
			t.Fatalf("woken: %q", to)
		}
		tablet := m.device("bob", "tablet", "a").connected(m)
		pass(2 * time.Second)
		desk.MarkRead(user("bob"), 1)
		pass(10 * time.Second)
		got := s.take()
		if len(got) != 1 || got[0].to.Value != tokenOf("phone") || !got[0].n.Dismiss || !got[0].n.Silent || *got[0].n.Badge != 0 {
			t.Errorf("taken back: %+v", got)
		}
		tablet.close()
		pass(10 * time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("once more: %+v", got)
		}
	})
}

// Members who are away are woken by what is said in a session, unless they have
// muted it; nobody by who comes and goes, nor by what has expired, nor its author.
func TestPushSession(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, s *service) {
		alice := m.client("alice", "a").connected(m)
		if _, err := alice.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"alice", "bob", "carol", "dave"} {
			m.registers(id, id, "a")
			if id != "alice" && id != "dave" {
				if _, err := m.api(id, id, "a").JoinSession(t.Context(), "room"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := m.api("dave", "dave", "a").Mute(t.Context(), room("room"), time.Time{}); envelope.CodeOf(err) != envelope.NotFound {
			t.Errorf("an outsider mutes: %v", err)
		}
		carol := m.api("carol", "carol", "a")
		if err := carol.Mute(t.Context(), room("room"), time.Now().Add(24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		short := to(room("room"), "short", "gone")
		short.TTL = 3
		alice.send(short)
		pass(time.Minute)
		if got := s.take(); len(got) != 0 {
			t.Errorf("woken by nothing: %+v", got)
		}
		alice.close()
		if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(room("room"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		got := s.take()
		if len(got) != 1 || got[0].to.Node != "bob" || got[0].n.Body != "alice in room: 1" {
			t.Fatalf("woken: %+v", got)
		}
		if err := carol.Unmute(t.Context(), room("room")); err != nil {
			t.Fatal(err)
		}
		if _, err := m.api("alice", "alice", "a").SendHTTP(t.Context(), to(room("room"), "2", "ho")); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if got := s.take(); len(got) != 1 || got[0].to.Node != "carol" {
			t.Errorf("woken: %+v", got)
		}
	})
}

// Nobody learns from a notification who is anonymous.
func TestPushTaint(t *testing.T) {
	inPushMesh(t, 2, func(t *testing.T, m *mesh, s *service) {
		owner := m.api("owner", "owner", "a")
		if _, err := owner.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		m.registers("owner", "owner", "a")
		secret := m.api("hidden-user", "hidden-device", "b")
		m.registers("hidden-user", "hidden-device", "b")
		if _, err := secret.JoinSession(t.Context(), "room", client.Anonymously("zorro")); err != nil {
			t.Fatal(err)
		}
		zorro := envelope.AliasOf("room", "zorro")
		if _, err := secret.SendHTTP(t.Context(), to(room("room"), "1", "hi")); err != nil {
			t.Fatal(err)
		}
		private := envelope.Envelope{ID: "2", DestSession: "room", DestNode: zorro}
		private.SetPayload("psst")
		if _, err := owner.SendHTTP(t.Context(), private); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		got := s.take()
		var to []string
		for _, p := range got {
			to = append(to, string(p.to.Node))
			text, err := json.Marshal(p.n)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "hidden") {
				t.Errorf("told to %s: %s", p.to.Node, text)
			}
			if p.to.Node == "owner" && p.n.Body != string(zorro)+" in room: 1" {
				t.Errorf("the owner is told %q", p.n.Body)
			}
		}
		slices.Sort(to)
		if !slices.Equal(to, []string{"hidden-device", "owner"}) {
			t.Errorf("woken: %q", to)
		}
	})
}

// A token belongs to the device that registered it last, by whatever way; a
// device has one for each app.
func TestPushTokens(t *testing.T) {
	inPushMesh(t, 1, func(t *testing.T, m *mesh, _ *service) {
		owner := func(value string) (nodes []envelope.NodeID) {
			t.Helper()
			for _, node := range []envelope.NodeID{"bob", "carol"} {
				tokens, err := m.store.TokensOf(t.Context(), []envelope.NodeID{node})
				if err != nil {
					t.Fatal(err)
				}
				for _, tok := range tokens {
					if tok.Value == value {
						nodes = append(nodes, node)
					}
				}
			}
			return nodes
		}
		check := func(value string, want ...envelope.NodeID) {
			t.Helper()
			if got := owner(value); !slices.Equal(got, want) {
				t.Errorf("%q is of %q, want %q", value, got, want)
			}
		}
		m.registers("bob", "bob", "a")
		check(tokenOf("bob"), "bob")
		pass(time.Second)
		carol := m.legacy("carol", "a")
		carol.send(`{"id":"8","type":-101,"payload":"{\"update_gcm_key\":\"` + tokenOf("bob") + `\"}"}`)
		if f, err := carol.next(time.Second); err != nil || !strings.Contains(f.text, "-102") {
			t.Errorf("%q, %v", f.text, err)
		}
		check(tokenOf("bob"), "carol")
		pass(time.Second)
		m.call("carol", "carol", "a", "PUT", "/v1/push/token", fmt.Sprintf(`{"service":"fcm","token":%q}`, tokenOf("new")))
		check(tokenOf("bob"))
		check(tokenOf("new"), "carol")
		for _, drop := range []struct {
			who string
			of  client.PushToken
		}{
			{"bob", client.PushToken{}},
			{"carol", client.PushToken{Service: "apns"}},
			{"carol", client.PushToken{Service: "fcm", Token: tokenOf("bob")}},
		} {
			if err := m.api(drop.who, drop.who, "a").DropPushToken(t.Context(), drop.of); err != nil {
				t.Fatal(err)
			}
			check(tokenOf("new"), "carol")
		}
		if err := m.api("carol", "carol", "a").DropPushToken(t.Context(), client.PushToken{Token: tokenOf("new")}); err != nil {
			t.Fatal(err)
		}
		check(tokenOf("new"))
		for _, bad := range []string{
			`{"service":"fcm","token":"short"}`, `{"service":"pigeon","token":"xxxxxxxxxxxxxxxxxxxxxxxxx"}`, `{"token":1}`,
			`{"service":"webpush","endpoint":"https://x.example","keys":{"p256dh":"&","auth":""}}`,
		} {
			if status, answer := m.call("bob", "bob", "a", "PUT", "/v1/push/token", bad); status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", bad, status, answer)
			}
		}
	})
}

// Without a service there is no call, no job and nothing to count.
func TestPushOff(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		if status, _ := m.call("bob", "bob", "a", "PUT", "/v1/push/token", `{"service":"fcm","token":"`+tokenOf("x")+`"}`); status != http.StatusNotFound {
			t.Errorf("status %d", status)
		}
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("phone"), "1", "hi"))
		pass(time.Minute)
		if jobs, err := m.store.DueJobs(t.Context(), 1<<60, 10); err != nil || len(jobs) != 0 {
			t.Errorf("%+v, %v", jobs, err)
		}
		if m.at("a").PushStats() != nil {
			t.Error("something is counted")
		}
	})
}
