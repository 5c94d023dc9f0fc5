package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/push"
)

const hookSecret = "a secret between the app's backend and the mesh"

// receiver is an app's backend. It notes what comes, and holds it against what
// is promised: each request is signed, in each partition no event comes before
// one with a lower seq, and one that comes again is the same.
type receiver struct {
	t      testing.TB
	answer func(p int, events []hook.Event) (status int, after string) // guarded by mu; nil: 200

	mu       sync.Mutex
	handled  [hook.Partitions]uint64 // guarded by mu
	events   []hook.Event            // guarded by mu; each once, in the order in which they came
	repeated []hook.Event            // guarded by mu; those that came again
	seen     map[string]hook.Event   // guarded by mu; by id
	requests int                     // guarded by mu
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if err := hook.Verify([]byte(hookSecret), req.Header.Get("Allspark-Signature"), body, time.Now(), time.Minute); err != nil {
		r.t.Error(err)
	}
	var said struct {
		Partition int
		Events    []hook.Event
	}
	if err := json.Unmarshal(body, &said); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	r.requests++
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		if status, after := answer(said.Partition, said.Events); status != http.StatusOK {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(status)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range said.Events {
		r.take(said.Partition, e)
	}
}

// take takes one event; under mu.
func (r *receiver) take(partition int, e hook.Event) {
	if want := hook.Partition(e.Subject); partition != want {
		r.t.Errorf("%+v came in partition %d, not %d", e, partition, want)
	}
	if at := r.handled[partition]; e.Seq <= at {
		was, known := r.seen[e.ID]
		was.Again = e.Again
		if !known || was != e {
			r.t.Errorf("behind seq %d came %+v, which was %+v", at, e, was)
		}
		r.repeated = append(r.repeated, e)
		return
	}
	if r.seen == nil {
		r.seen = make(map[string]hook.Event)
	}
	if was, known := r.seen[e.ID]; known {
		r.t.Errorf("%+v and %+v have one id", was, e)
	}
	r.handled[partition], r.seen[e.ID] = e.Seq, e
	r.events = append(r.events, e)
}

func (r *receiver) set(answer func(p int, events []hook.Event) (status int, after string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// told returns what has come of some types, as text.
func (r *receiver) told(types ...hook.Type) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		if slices.Contains(types, e.Type) {
			all = append(all, short(e))
		}
	}
	return all
}

func short(e hook.Event) string {
	text := fmt.Sprintf("%s %s %s %s", e.Type, e.Subject, e.Node, e.Client)
	if e.MessageSeq > 0 {
		text += " " + strconv.FormatUint(e.MessageSeq, 10)
	}
	if e.Reason != "" {
		text += " " + e.Reason
	}
	return strings.Join(strings.Fields(text), " ")
}

// receiverAt returns a receiver of that name at a host of the test's network.
func receiverAt(name, host string, types ...hook.Type) hook.Receiver {
	return hook.Receiver{Name: name, URL: "http://" + host + "/events", Secrets: [][]byte{[]byte(hookSecret)}, Types: types}
}

// inHookMesh is inMesh with a backend that is told what happens.
func inHookMesh(t *testing.T, n int, f func(t *testing.T, m *mesh, r *receiver)) {
	t.Helper()
	inHookMeshOf(t, n, func(*Config) {}, f)
}

func inHookMeshOf(t *testing.T, n int, config func(*Config), f func(t *testing.T, m *mesh, r *receiver)) {
	t.Helper()
	to := []hook.Receiver{receiverAt(hook.DefaultReceiver, "backend")}
	inHookMeshTo(t, n, config, to, func(t *testing.T, m *mesh, by map[string]*receiver) { f(t, m, by[hook.DefaultReceiver]) })
}

// inHookMeshTo is inHookMeshOf with several receivers, by their names.
func inHookMeshTo(t *testing.T, n int, config func(*Config), to []hook.Receiver, f func(t *testing.T, m *mesh, by map[string]*receiver)) {
	t.Helper()
	network := new(clienttest.Network)
	by := make(map[string]*receiver)
	for _, r := range to {
		by[r.Name] = new(receiver)
	}
	inMeshOf(t, n, func(cfg *Config) {
		cfg.SharedStore = true
		cfg.Hooks = Hooks{Receivers: to, Client: network.Client()}
		config(cfg)
	}, func(t *testing.T, m *mesh) {
		var serving sync.WaitGroup
		defer serving.Wait()
		for _, r := range to {
			by[r.Name].t = t
			backend := &http.Server{Handler: by[r.Name]}
			u, err := url.Parse(r.URL)
			if err != nil {
				t.Fatal(err)
			}
			l := network.Listen(u.Host + ":80")
			serving.Go(func() { _ = backend.Serve(l) })
			defer func() { _ = backend.Close() }()
		}
		f(t, m, by)
	})
}

// hookTap is an app's backend that keeps what it is told, in place of a network.
type hookTap struct {
	mu     sync.Mutex
	events []hook.Event // guarded by mu
}

func (h *hookTap) RoundTrip(r *http.Request) (*http.Response, error) {
	var said struct{ Events []hook.Event }
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, said.Events...)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

// check holds that no event tells of those with one of these ids what they do in
// sessions: only that they have connected, and that their own log has something.
func (h *hookTap) check(t *testing.T, ids []string) {
	t.Helper()
	types := make(map[hook.Type]bool)
	for _, e := range h.events {
		types[e.Type] = true
		text := string(e.Said())
		for _, id := range ids {
			own := e.Subject == "node:"+id && !strings.Contains(text, "~") && e.Session == ""
			if strings.Contains(text, id) && !own && (id != "turncoat" || strings.Contains(text, "r~hid")) {
				t.Errorf("the backend is told of %s: %s", id, text)
			}
		}
	}
	for _, want := range []hook.Type{hook.Connected, hook.Disconnected, hook.SessionCreated, hook.SessionJoined, hook.SessionLeft, hook.Delivered, hook.MessageRead} {
		if !types[want] {
			t.Errorf("the backend is told of nothing %s", want)
		}
	}
}

func wantTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestHooksRevoked: why a connection ended is what the server says, and not how
// soon its client has answered.
func TestHooksRevoked(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		m.device("bob", "phone", "a").connected(m)
		pass(2 * time.Second)
		m.revoke("a", gateway.Revoke{Client: "bob"})
		pass(5 * time.Second)
		wantTold(t, r.told(hook.Disconnected), "disconnected node:phone phone bob revoked")
	})
}

func TestHooksConnections(t *testing.T) {
	inHookMesh(t, 3, func(t *testing.T, m *mesh, r *receiver) {
		bob := m.device("bob", "phone", "a").connected(m)
		pass(2 * time.Second)
		bob.close()
		pass(2 * time.Second)
		m.device("bob", "phone", "b").connected(m)
		pass(2 * time.Second)
		m.device("bob", "phone", "c").connected(m)
		pass(2 * time.Second)
		wantTold(t, r.told(hook.Connected, hook.Disconnected)[:3],
			"connected node:phone phone bob", "disconnected node:phone phone bob closed", "connected node:phone phone bob")
		r.mu.Lock()
		defer r.mu.Unlock()
		// The two of one connection are told by its name.
		ended := make(map[string]string)
		for _, e := range r.events {
			if e.Type == hook.Disconnected {
				ended[e.Connection] = e.Reason
			}
		}
		var reasons []string
		for _, e := range r.events {
			if e.Type == hook.Connected {
				reasons = append(reasons, ended[e.Connection])
			}
		}
		if !slices.Contains(reasons, "closed") || !slices.Contains(reasons, "replaced") {
			t.Errorf("the connections ended as %q", reasons)
		}
	})
}

// Of a server that crashes the others tell which devices it had.
func TestHooksCrash(t *testing.T) {
	inHookMesh(t, 3, func(t *testing.T, m *mesh, r *receiver) {
		for i := range 20 {
			m.raw(fmt.Sprint("device", i), "a").hello("")
		}
		pass(5 * time.Second)
		if got := r.told(hook.Connected); len(got) != 20 {
			t.Fatalf("%d connected", len(got))
		}
		m.kill("a")
		// Some of them it may still have told itself: a server that is killed here
		// ends its connections, which one that crashes does not.
		lost := func() []string {
			return slices.DeleteFunc(r.told(hook.Disconnected), func(e string) bool { return !strings.HasSuffix(e, " lost") })
		}
		m.within(15*time.Second, "the lost connections are told", func() bool { return len(lost()) >= 20 })
		pass(5 * time.Minute)
		got := lost()
		slices.Sort(got)
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("disconnected node:device%d device%d lost", i, i))
		}
		slices.Sort(want)
		wantTold(t, got, want...)
	})
}

// A server alone tells of its last life when it starts anew.
func TestHooksCrashAlone(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		m.raw("phone", "a").hello("")
		pass(5 * time.Second)
		m.kill("a")
		pass(time.Second)
		m.start("a")
		pass(10 * time.Second)
		wantTold(t, r.told(hook.Connected, hook.Disconnected), "connected node:phone phone phone", "disconnected node:phone phone lost")
	})
}

func TestHooksOffline(t *testing.T) {
	inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
		alice := m.client("alice", "a").connected(m)
		m.device("carol", "desk", "b").connected(m)
		pass(time.Second)
		alice.send(to(deviceAddr("phone"), "1", "x"))
		alice.send(to(deviceAddr("phone"), "1", "x")) // again: it is the same
		alice.send(to(user("bob"), "2", "x"))
		alice.send(to(user("carol"), "3", "x"))
		alice.send(to(deviceAddr("desk"), "4", "x"))
		for _, call := range []struct{ path, body string }{
			{"", `{"session_id":"room"}`}, {"/room/invite", `{"node_id":"tablet"}`},
		} {
			if status, answer := m.call("alice", "alice", "a", "POST", "/v1/sessions"+call.path, call.body); status != http.StatusOK {
				t.Fatal(answer)
			}
		}
		pass(5 * time.Second)
		got := r.told(hook.Offline)
		slices.Sort(got)
		wantTold(t, got, "message.offline client:bob 1", "message.offline node:phone 1", "message.offline node:tablet 1")
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if e.Type == hook.Offline && (e.Src != "alice" || e.SrcClient != "alice" && e.Subject != "node:tablet" || e.MessageID == "") {
				t.Errorf("%+v", e)
			}
		}
	})
}

// What a device has not acknowledged when its connection ends waits for it.
func TestHooksOfflineAfter(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		alice := m.client("alice", "a").connected(m)
		phone := m.raw("phone", "a")
		phone.hello("")
		phone.control("caught_up")
		alice.send(to(deviceAddr("phone"), "1", "x"))
		phone.message("x")
		pass(time.Second)
		wantTold(t, r.told(hook.Offline))
		_ = phone.ws.CloseNow()
		pass(5 * time.Second)
		wantTold(t, r.told(hook.Offline), "message.offline node:phone 1 disconnected")
	})
}

func TestHooksReceipts(t *testing.T) {
	inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
		alice := m.client("alice", "a").connected(m)
		bob := m.device("bob", "phone", "b").connected(m)
		alice.send(to(deviceAddr("phone"), "1", "nobody asks"))
		alice.send(withReceipt(deviceAddr("phone"), "2"))
		pass(5 * time.Second)
		bob.MarkRead(deviceAddr("phone"), 2)
		pass(5 * time.Second)
		wantTold(t, r.told(hook.Delivered, hook.MessageRead),
			"message.delivered node:phone phone bob 2", "message.read node:phone phone bob 2")
	})
}

// Who is in a session by an alias is told by that name only.
func TestHooksSessions(t *testing.T) {
	inHookMesh(t, 3, func(t *testing.T, m *mesh, r *receiver) {
		const settings = `{"session_id":"room","anyone_can_join":true,"anonymous":true}`
		if status, answer := m.call("alice", "alice", "a", "POST", "/v1/sessions", settings); status/100 != 2 {
			t.Fatalf("%d %s", status, answer)
		}
		for _, call := range []struct{ id, at, path, body string }{
			{"bob", "b", "join", `{}`},
			{"hidden", "c", "join", `{"as_anonymous":true,"alias":"fox"}`},
			{"hidden", "c", "leave", `{}`},
			{"alice", "a", "kick", `{"node_id":"bob"}`},
		} {
			if status, answer := m.call(call.id, call.id, call.at, "POST", "/v1/sessions/room/"+call.path, call.body); status/100 != 2 {
				t.Fatalf("%s: %d %s", call.path, status, answer)
			}
		}
		pass(5 * time.Second)
		wantTold(
			t, r.told(hook.SessionCreated, hook.SessionJoined, hook.SessionLeft),
			"session.created session:room alice alice 1", "session.joined session:room alice alice 1",
			"session.joined session:room bob bob 2", "session.joined session:room room~fox 3",
			"session.left session:room room~fox 4", "session.left session:room bob bob 5 kicked",
		)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if text := string(e.Said()); strings.Contains(text, "hidden") {
				t.Errorf("it says who is hidden: %s", text)
			}
		}
	})
}

// The entry of a joining is stored, its event is not, and the server dies: who
// finds that the joining is not complete completes it, event and all.
func TestHooksJoinCrash(t *testing.T) {
	inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
		a := m.at("a")
		create := gateway.CreateSession{ID: "room", Settings: envelope.Settings{AnyoneCanJoin: new(true)}}
		if _, err := a.Do(t.Context(), envelope.Principal{Node: "alice", Client: "alice"}, create); err != nil {
			t.Fatal(err)
		}
		refuse := func(s *faultyStore) {
			s.append = func(log envelope.Address, _ string) error {
				if log.Kind == envelope.KindHook {
					return errAway
				}
				return nil
			}
		}
		a.store.set(refuse)
		m.at("b").store.set(refuse)
		_, err := a.Do(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, gateway.JoinSession{ID: "room"})
		if envelope.CodeOf(err) != envelope.Busy {
			t.Fatalf("joining while the outbox takes nothing: %v", err)
		}
		m.kill("a")
		m.at("b").store.set(func(s *faultyStore) { s.append = nil })
		if _, err := m.at("b").Do(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, gateway.JoinSession{ID: "room"}); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		wantTold(t, r.told(hook.SessionJoined), "session.joined session:room alice alice 1", "session.joined session:room bob bob 2")
	})
}

func TestHooksPush(t *testing.T) {
	refuses := &service{answer: func(push.Token) error { return &push.Failure{Reason: "BadTopic"} }}
	inHookMeshOf(t, 1, func(cfg *Config) {
		cfg.Push = Push{Store: cfg.Inbox.(push.Store), Senders: map[push.Service]push.Sender{push.FCM: refuses}}
	}, func(t *testing.T, m *mesh, r *receiver) {
		m.registers("bob", "phone", "a")
		m.client("alice", "a").connected(m).send(to(user("bob"), "1", "x"))
		pass(time.Minute)
		wantTold(t, r.told(hook.PushFailed), "push.failed node:phone phone BadTopic")
	})
}

func TestHooksOff(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.client("alice", "a").connected(m).send(to(deviceAddr("phone"), "1", "x"))
		heads, err := m.store.Heads(t.Context(), map[envelope.Address]uint64{outboxLog(hook.Partition("node:phone")): 0})
		if err != nil || len(heads) > 0 {
			t.Errorf("%v %v", heads, err)
		}
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		if _, err := m.at("a").Do(t.Context(), app, gateway.ReplayHooks{}); envelope.CodeOf(err) != envelope.NotFound {
			t.Error(err)
		}
	})
}
