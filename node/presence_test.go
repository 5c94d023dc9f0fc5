package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/graph"
)

// watching is a connection that notes the control frames it gets.
type watching struct {
	*raw
	mu   sync.Mutex
	told []telling
}

type telling struct {
	envelope.Control
	at time.Time
}

// watching opens a connection of a device of a client of the same name.
func (m *mesh) watching(id, at string) *watching {
	m.t.Helper()
	w := &watching{raw: m.raw(id, at)}
	w.hello("")
	w.control("caught_up")
	go w.read()
	return w
}

func (w *watching) read() {
	for {
		_, b, err := w.ws.Read(context.Background())
		if err != nil {
			return
		}
		var c envelope.Control
		if json.Unmarshal(b, &c) == nil && c.Control != "" {
			w.mu.Lock()
			w.told = append(w.told, telling{c, time.Now()})
			w.mu.Unlock()
		}
	}
}

// ask sends a presence frame and returns the answer.
func (w *watching) ask(m *mesh, members string) telling {
	w.t.Helper()
	before := len(w.frames())
	w.send(`{"control":"presence"` + members + `}`)
	m.within(20*time.Second, "an answer", func() bool { return len(w.frames()) > before })
	return w.frames()[before]
}

func (w *watching) frames() []telling {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// presences returns what was told of users, as "bob+" or "bob-".
func (w *watching) presences() []string {
	var all []string
	for _, f := range w.frames() {
		all = append(all, signs(f.Control)...)
	}
	return all
}

func signs(c envelope.Control) []string {
	var all []string
	for _, p := range c.Presence {
		sign := "-"
		if p.Online {
			sign = "+"
		}
		all = append(all, string(p.Client)+sign)
	}
	return all
}

// expect fails unless that is what has been told of users so far.
func (w *watching) expect(when string, want ...string) {
	w.t.Helper()
	if got := w.presences(); !slices.Equal(got, want) {
		w.t.Fatalf("%s: told %q, want %q", when, got, want)
	}
}

const subscribeBob = `,"clients":["bob"],"subscribe":true`

func TestPresenceAsked(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.device("bob", "bob-phone", "b").connected(m)
		m.client("alice", "a").connected(m)
		m.client("carol", "b").connected(m).close()
		left := time.Now()
		pass(3 * time.Second)
		eve := envelope.Principal{Node: "eve", Client: "eve"}
		ask := func(cmd gateway.GetPresence) ([]envelope.Presence, envelope.Code) {
			ev, err := m.at("a").Do(t.Context(), eve, cmd)
			if err != nil {
				return nil, envelope.CodeOf(err)
			}
			return ev.(gateway.Presence).Of, ""
		}
		got, code := ask(gateway.GetPresence{Clients: []envelope.ClientID{"nobody", "carol", "bob", "alice", "bob"}})
		if code != "" || len(got) != 4 {
			t.Fatalf("%v, %v", got, code)
		}
		seen := got[1].LastSeen
		got[1].LastSeen = 0
		if want := []envelope.Presence{{Client: "nobody"}, {Client: "carol"}, {Client: "bob", Online: true}, {Client: "alice", Online: true}}; !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if ago := left.Sub(time.UnixMilli(seen)); ago < -time.Millisecond || ago > time.Second {
			t.Errorf("carol was seen %v before she left", ago)
		}
		yes := true
		for name, bad := range map[string]gateway.GetPresence{
			"about nobody":   {},
			"about both":     {Clients: []envelope.ClientID{"bob"}, Session: "r"},
			"about too many": {Clients: make([]envelope.ClientID, maxPresence+1)},
			"not an id":      {Clients: []envelope.ClientID{"not an id"}},
			"a subscription": {Clients: []envelope.ClientID{"bob"}, Subscribe: &yes},
		} {
			if _, code := ask(bad); code != envelope.BadRequest {
				t.Errorf("%s: %q", name, code)
			}
		}
		m.at("a").store.set(func(f *faultyStore) { f.before = failNth("edges", 1) })
		if _, code := ask(gateway.GetPresence{Clients: []envelope.ClientID{"bob"}}); code != envelope.Busy {
			t.Errorf("without a store: %q", code)
		}
	})
}

func TestPresenceOfSession(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.api("alice", "alice", "a")
		_, _ = alice.CreateSession(t.Context(), "r", envelope.Settings{})
		m.device("bob", "bob-phone", "b").connected(m)
		for _, device := range []string{"bob-phone", "bob-laptop"} { // one user with two members
			if _, err := m.api("bob", device, "b").JoinSession(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
		}
		w := m.watching("eve", "a")
		if f := w.ask(m, `,"session_id":"r"`); f.Code != envelope.NotFound {
			t.Errorf("not a member: %+v", f)
		}
		if f := w.ask(m, `,"session_id":"r","subscribe":true`); f.Code != envelope.NotFound {
			t.Errorf("not a member: %+v", f)
		}
		if f := w.ask(m, `,"session_id":"none"`); f.Code != envelope.NotFound {
			t.Errorf("no session: %+v", f)
		}
		if _, err := m.api("eve", "eve", "a").JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if got := signs(w.ask(m, `,"session_id":"r"`).Control); !slices.Equal(got, []string{"alice-", "bob+", "eve+"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A subscriber at a third server hears of a user's first device, wherever it
// is, and of the end of the last one, with the time of it; nothing in between.
func TestPresenceSubscribed(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "c")
		if got := signs(w.ask(m, subscribeBob).Control); !slices.Equal(got, []string{"bob-"}) {
			t.Fatalf("the answer is %q", got)
		}
		phone := m.device("bob", "bob-phone", "a").connected(m)
		took := m.within(time.Second, "online", func() bool { return len(w.presences()) == 2 })
		if took > 200*time.Millisecond {
			t.Errorf("told after %v", took)
		}
		laptop := m.device("bob", "bob-laptop", "b").connected(m)
		pass(10 * time.Second)
		phone.close()
		pass(10 * time.Second)
		w.expect("one of two gone", "bob-", "bob+")
		start := time.Now()
		laptop.close()
		closed := time.Now()
		pass(10 * time.Second)
		w.expect("all gone", "bob-", "bob+", "bob-")
		last := w.frames()[2]
		if took := last.at.Sub(start); took < goneAfter || took > goneAfter+time.Second {
			t.Errorf("told after %v", took)
		}
		if seen := time.UnixMilli(last.Presence[0].LastSeen); seen.Before(start.Add(-time.Millisecond)) || seen.After(closed) {
			t.Errorf("last seen %v, gone between %v and %v", seen, start, closed)
		}
		for id := range m.servers {
			if edges, _ := m.store.Edges(t.Context(), user("alice")); len(edges) != 1 {
				t.Errorf("edges %v", edges)
			}
			if slices.Contains(m.at(id).conns.logs(), user("bob")) {
				t.Errorf("%s follows the log of a user that is away", id)
			}
		}

		// Who has ended its subscription hears nothing more, and nothing is left.
		w.ask(m, `,"clients":["bob"],"subscribe":false`)
		m.device("bob", "bob-phone", "a").connected(m)
		pass(5 * time.Second)
		w.expect("unsubscribed", "bob-", "bob+", "bob-")
		if n := len(m.at("c").watchers.watches); n != 0 {
			t.Errorf("%d watches are left", n)
		}
	})
}

// Who watches from the same server needs no other one.
func TestPresenceAtOneServer(t *testing.T) {
	seldom := func(c *Config) { c.Timing.Sweep = time.Hour }
	inMeshOf(t, 1, seldom, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "a")
		w.ask(m, subscribeBob)
		bob := m.device("bob", "bob-phone", "a").connected(m)
		pass(time.Second)
		w.expect("connected", "bob-", "bob+")
		bob.close()
		pass(5 * time.Second)
		w.expect("gone", "bob-", "bob+", "bob-")
	})
}

func TestPresenceAfterCrash(t *testing.T) {
	for _, offset := range []time.Duration{0, 400 * time.Millisecond, 1100 * time.Millisecond, 1900 * time.Millisecond} { // within the rhythm of leases
		inMesh(t, 3, func(t *testing.T, m *mesh) {
			w := m.watching("alice", "c")
			m.device("bob", "bob", "b").connected(m)
			w.ask(m, subscribeBob)
			pass(10*time.Second + offset)
			m.kill("b")
			killed := time.Now()
			took := m.within(10*time.Second, "the truth", func() bool { return len(w.presences()) == 2 })
			t.Logf("told %v after the crash", took)
			w.expect("after the crash", "bob+", "bob-")
			seen := time.UnixMilli(w.frames()[1].Presence[0].LastSeen)
			if ago := killed.Sub(seen).Round(time.Second); ago < 10*time.Second || ago > 12*time.Second { // when it connected
				t.Errorf("last seen %v before the crash", ago)
			}
			m.device("bob", "bob", "a").connected(m)
			m.within(time.Second, "online again", func() bool { return len(w.presences()) == 3 })
		})
	}
}

// A device that connects again at once, at the same server or another one, or
// is sent away by a server that shuts down, has not been away.
func TestPresenceDoesNotFlap(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "c")
		phone := m.rawDevice("bob", "bob-phone", "a")
		phone.hello("")
		w.ask(m, subscribeBob)
		for _, at := range []string{"a", "b", "b", "a", "b"} {
			_ = phone.ws.CloseNow()
			pass(time.Second)
			phone = m.rawDevice("bob", "bob-phone", at)
			phone.hello("")
			pass(time.Minute / 10)
		}
		next := m.rawDevice("bob", "bob-phone", "a") // replaces the one at b
		next.hello("")
		pass(10 * time.Second)
		m.device("bob", "bob-phone", "a", "b").connected(m) // and so does this
		pass(10 * time.Second)
		w.expect("moved about", "bob+")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		leaving := "a"
		if m.at("b").conns.device("bob-phone") != nil {
			leaving = "b"
		}
		m.at(leaving).Drain(ctx)
		pass(20 * time.Second)
		w.expect("drained", "bob+")
	})
}

// What was lost with a link is found out when the link is known to be gone.
func TestPresenceLostWithLink(t *testing.T) {
	seldom := func(c *Config) { c.Timing.Sweep = time.Hour }
	inMeshOf(t, 3, seldom, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "c")
		phone := m.rawDevice("bob", "bob-phone", "a")
		phone.hello("")
		w.ask(m, subscribeBob)
		pass(time.Second)
		m.cut("a", "c")
		_ = phone.ws.CloseNow()
		pass(20 * time.Second)
		w.expect("a black hole", "bob+", "bob-")
	})
}

// What nobody tells is found out in the background.
func TestPresenceNeverTold(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "b")
		w.ask(m, subscribeBob)
		edge := graph.Edge{Addr: user("bob"), Server: "a", Boot: m.at("a").graph.Boot(), Gen: 1 << 40}
		if err := m.store.PutEdges(t.Context(), []graph.Edge{edge}); err != nil {
			t.Fatal(err)
		}
		pass(95 * time.Second)
		w.expect("an edge appeared", "bob-", "bob+")
		if err := m.store.DeleteEdges(t.Context(), []graph.Edge{edge}); err != nil {
			t.Fatal(err)
		}
		pass(95 * time.Second)
		w.expect("an edge disappeared", "bob-", "bob+", "bob-")
	})
}

// A reader that has no room for a change is told later.
func TestPresenceForSlowReader(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		r := m.raw("alice", "b")
		r.hello("")
		r.control("caught_up")
		r.send(`{"control":"presence"` + subscribeBob + `}`)
		r.control("presence")
		carol := m.client("carol", "a").connected(m)
		for i := range 2 * windowMessages { // more than the window and the pipes hold
			e := to(deviceAddr("alice"), "", strings.Repeat("x", 4<<10))
			e.Class = envelope.Volatile
			if err := carol.SendAsync(t.Context(), e, nil); err != nil {
				t.Fatal(i, err)
			}
		}
		pass(time.Second)
		m.device("bob", "bob", "a").connected(m)
		pass(time.Second)
		if n := m.at("b").Stats().DroppedNotice.Load(); n == 0 {
			t.Fatal("the reader was not slow")
		}
		for {
			f, err := r.next(2 * time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if f.ctl.Control != "" {
				if got := signs(f.ctl); !slices.Equal(got, []string{"bob+"}) {
					t.Errorf("got %+v", f.ctl)
				}
				return
			}
		}
	})
}

func TestPresenceLimit(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "a")
		ids := make([]string, maxWatched)
		for i := range ids {
			ids[i] = fmt.Sprintf("%q", fmt.Sprint("user-", i))
		}
		all := `,"clients":[` + strings.Join(ids, ",") + `]`
		if f := w.ask(m, all+`,"subscribe":true`); len(f.Presence) != maxWatched {
			t.Fatalf("got %.200v", f)
		}
		if f := w.ask(m, all+`,"subscribe":true`); len(f.Presence) != maxWatched {
			t.Errorf("again: %.200v", f)
		}
		if f := w.ask(m, subscribeBob); f.Code != envelope.Quota {
			t.Errorf("one more: %+v", f)
		}
		if f := w.ask(m, `,"clients":["user-1"],"subscribe":false`); f.Control.Control != envelope.ControlPresence {
			t.Errorf("unsubscribed: %+v", f)
		}
		if f := w.ask(m, subscribeBob); len(f.Presence) != 1 {
			t.Errorf("in its place: %+v", f)
		}
		if n := m.at("a").watchers.followed; n != maxWatched {
			t.Errorf("%d are counted", n)
		}
		if n := len(m.at("a").watchers.watches); n != maxWatched {
			t.Errorf("%d watches", n)
		}
		w.ask(m, `,"subscribe":false`)
		if n := len(m.at("a").watchers.watches); n != 0 {
			t.Errorf("%d watches after ending all", n)
		}
		w.ask(m, subscribeBob)
		_ = w.ws.CloseNow()
		pass(time.Second)
		if n := len(m.at("a").watchers.watches); n != 0 {
			t.Errorf("%d watches after the end of the connection", n)
		}
		if n := m.at("a").watchers.followed; n != 0 {
			t.Errorf("%d are counted after the end of the connection", n)
		}
		m.at("a").watchers.followed = maxFollowed // by others
		if f := m.watching("dora", "a").ask(m, subscribeBob); f.Code != envelope.Busy {
			t.Errorf("at a server that follows all it can: %+v", f)
		}
	})
}

// With the store away a subscription is refused and leaves nothing behind; one
// that is there hears of what happened meanwhile.
func TestPresenceWithoutStore(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		w, other := m.watching("alice", "b"), m.watching("carol", "b")
		w.ask(m, subscribeBob)
		phone := m.rawDevice("bob", "bob-phone", "a")
		phone.hello("")
		pass(time.Second)
		m.at("b").store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "edges" {
					return errAway
				}
				return nil
			}
		})
		if f := other.ask(m, `,"clients":["dave"],"subscribe":true`); f.Code != envelope.Busy {
			t.Errorf("got %+v", f)
		}
		if n := len(m.at("b").watchers.watches); n != 1 {
			t.Errorf("%d watches", n)
		}
		_ = phone.ws.CloseNow()
		pass(20 * time.Second)
		w.expect("without a store", "bob-", "bob+")
		m.at("b").store.set(func(f *faultyStore) { f.before = nil })
		pass(5 * time.Second)
		w.expect("with the store back", "bob-", "bob+", "bob-")
	})
}

func TestPresenceOff(t *testing.T) {
	inMeshOf(t, 2, func(c *Config) { c.PresenceOff = true }, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "a")
		for _, members := range []string{`,"clients":["bob"]`, subscribeBob, `,"session_id":"r"`} {
			if f := w.ask(m, members); f.Code != envelope.Forbidden {
				t.Errorf("%s: %+v", members, f)
			}
		}
		e := to(user("bob"), "1", "x")
		e.Class, e.Receipt = envelope.Volatile, true
		if ack := m.client("carol", "a").connected(m).send(e); ack.Offline {
			t.Error("a sender was told that nobody was there")
		}
		m.client("bob", "b").connected(m).close()
		pass(5 * time.Second)
		if seen, err := m.store.Sightings(t.Context(), user("alice"), user("bob"), deviceAddr("bob")); err != nil || len(seen) != 0 {
			t.Errorf("noted %v, %v", seen, err)
		}
	})
}

// A herd costs few questions, and those who are not watched none.
func TestPresenceOfHerd(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		w := m.watching("alice", "b")
		const herd = 50
		var ids []string
		for i := range herd {
			ids = append(ids, fmt.Sprintf("%q", fmt.Sprint("user-", i)))
		}
		w.ask(m, `,"clients":[`+strings.Join(ids, ",")+`],"subscribe":true`)
		pass(time.Second)
		var questions int
		m.at("b").store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "edges" {
					questions++
				}
				return nil
			}
		})
		for i := range 2 * herd {
			m.raw(fmt.Sprint("user-", i), "a").hello("")
		}
		pass(time.Second)
		if n := len(w.presences()); n != 2*herd {
			t.Errorf("told %d times", n)
		}
		m.at("b").store.set(func(*faultyStore) {
			if questions > herd {
				t.Errorf("%d questions", questions)
			}
		})
	})
}

func TestSightings(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		seen := func(addr envelope.Address) time.Duration {
			got, err := m.store.Sightings(t.Context(), addr)
			if err != nil || len(got) != 1 {
				return -1
			}
			return time.Since(time.UnixMilli(got[0].At)).Round(time.Second)
		}
		fails := 0
		m.at("a").store.set(func(f *faultyStore) {
			f.before = func(op string) error {
				if op == "put sightings" && fails < 3 {
					fails++
					return errAway
				}
				return nil
			}
		})
		bob := m.device("bob", "bob-phone", "a").connected(m)
		pass(10 * time.Second)
		if got := seen(user("bob")); got != 10*time.Second {
			t.Errorf("after connecting: %v ago", got)
		}
		pass(sightAgain + time.Minute)
		if got := seen(deviceAddr("bob-phone")); got > 2*time.Minute {
			t.Errorf("while connected: %v ago", got)
		}
		bob.close()
		m.settle()
		if got, err := m.at("a").sights.last(t.Context(), []envelope.Address{user("bob")}); err != nil || time.Since(time.UnixMilli(got[user("bob")])) > time.Second {
			t.Errorf("before it is written: %v, %v", got, err)
		}
		pass(5 * time.Second)
		if got := seen(user("bob")); got != 5*time.Second {
			t.Errorf("after leaving: %v ago", got)
		}
	})
}
