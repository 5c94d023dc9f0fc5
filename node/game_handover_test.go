package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// master returns who is master of a game.
func (m *mesh) master(id string) string {
	m.t.Helper()
	_, text := m.do(http.MethodGet, theApp, m.ids()[0], "/v1/sessions/"+id, "")
	_, rest, ok := strings.Cut(text, `"master":"`)
	if !ok {
		return ""
	}
	return rest[:strings.Index(rest, `"`)]
}

// handovers returns what a device was told of changes of the master.
func (d *device) handovers() []string {
	var all []string
	for _, msg := range d.messages() {
		if msg.HasType && msg.Type == envelope.TypeMaster {
			all = append(all, string(msg.Body))
		}
	}
	return all
}

// Who leaves as the master, whichever way, is followed at once: by the owner,
// then moderators, then who has been in longest, as far as they are connected and
// the settings let them.
func TestMasterLeaves(t *testing.T) {
	for _, tt := range []struct {
		name, end, successors string
		away                  []string
		want                  string
	}{
		{"leaves", "leave", "members", nil, "owner"},
		{"is kicked", "kick", "members", nil, "owner"},
		{"is banned", "ban", "members", nil, "owner"},
		{"the owner is away", "leave", "members", []string{"owner"}, "mona"},
		{"who leads is away", "leave", "members", []string{"owner", "mona"}, "ann"},
		{"the first is away, too", "leave", "members", []string{"owner", "mona", "ann"}, "bob"},
		{"only a reader is here", "leave", "members", []string{"owner", "mona", "ann", "bob"}, "owner"},
		{"moderators only, a member is here", "leave", "moderators", []string{"owner", "mona"}, "owner"},
		{"moderators only", "leave", "moderators", []string{"owner"}, "mona"},
		{"nobody", "leave", "nobody", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				m.must("owner", "/v1/sessions", fmt.Sprintf(`{"session_id":"g","kind":"game","successors":%q}`, tt.successors))
				for _, id := range []string{"master", "rita", "ann", "bob", "mona"} {
					m.must(id, "/v1/sessions/g/join", "")
				}
				m.must("owner", "/v1/sessions/g/role", `{"node_id":"mona","role":"moderator"}`)
				m.must("owner", "/v1/sessions/g/role", `{"node_id":"rita","role":"reader"}`)
				m.must("owner", "/v1/sessions/g/master", `{"node_id":"master"}`)
				devices := map[string]*device{}
				for i, id := range []string{"master", "rita", "ann", "bob", "mona", "owner"} {
					if !slices.Contains(tt.away, id) {
						devices[id] = m.client(id, string(rune('a'+i%3))).connected(m)
					}
				}
				pass(time.Second)
				by, body := "owner", `{"node_id":"master"}`
				if tt.end == "leave" {
					by, body = "master", ""
				}
				m.must(by, "/v1/sessions/g/"+tt.end, body)
				if got := m.master("g"); got != tt.want {
					t.Errorf("the master is %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A change of the master is told to all and holds from its entry on: for what is
// sent, and for what is read, in which the new one finds what its predecessor got.
func TestNewMaster(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.play("g", "old", "ann", "new")
		old := m.client("old", "a").connected(m)
		ann := m.client("ann", "b").connected(m)
		heir := m.client("new", "c").connected(m)
		pass(time.Second)
		ann.send(to(room("g"), "1", "to the old one"))
		m.must("old", "/v1/sessions/g/master", `{"node_id":"new"}`)
		ann.send(to(room("g"), "2", "to the new one"))
		synctest.Wait() // all servers have heard
		ann.send(volatile("g", "not stored"))
		heir.send(to(room("g"), "1", "to all"))
		old.send(to(room("g"), "1", "also to the new one"))
		pass(time.Second)
		const note = `"payload":{"by":"old","reason":"transferred","node_id":"new"}`
		for _, tt := range []struct {
			of   *device
			want []string
			note int
		}{
			{old, []string{"to all", "to the old one"}, 0}, // who asked has the answer
			{ann, []string{"to all"}, 1},
			{heir, []string{"also to the new one", "not stored", "to the new one"}, 1},
		} {
			got := tt.of.payloads()
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if told := tt.of.handovers(); len(told) != tt.note || tt.note > 0 && told[0] != note {
				t.Errorf("told %q", told)
			}
		}
		for device, want := range map[string]string{
			"new": "also to the new one|to all|to the new one|to the old one", "old": "also to the new one|to all", "ann": "to all|to the new one|to the old one",
		} {
			if got := m.reads(device, "g"); strings.Join(got, "|") != want {
				t.Errorf("%s reads %q, want %q", device, got, want)
			}
		}
		// Nor does who is not the master any more find the rest when it connects anew.
		old.close()
		again := m.raw("old", "b")
		again.hello(`,"cursors":{"session:g":0}`)
		var got []string
		for f, err := again.next(time.Minute); f.ctl.Control != "caught_up"; f, err = again.next(time.Minute) {
			if err != nil {
				t.Fatal(err)
			}
			if !f.msg.HasType {
				got = append(got, text(f.msg))
			}
		}
		if !slices.Equal(got, []string{"to all"}) {
			t.Errorf("from the beginning: %q", got)
		}
	})
}

// reads returns the texts of what a device finds in a session's history, in
// alphabetical order.
func (m *mesh) reads(device, id string) []string {
	m.t.Helper()
	_, text := m.do(http.MethodGet, device, m.ids()[0], "/v1/messages?log=session:"+id, "")
	var got []string
	for _, part := range strings.Split(text, `"payload":"`)[1:] {
		got = append(got, part[:strings.Index(part, `"`)])
	}
	slices.Sort(got)
	return got
}

// A master that is connected nowhere for the time of grace is followed by one who
// is connected; one that comes back in time stays it, also at another server.
func TestMasterLost(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.play("g", "master", "ann", "bob")
		master := m.client("master", "a").connected(m)
		ann := m.client("ann", "b").connected(m)
		pass(time.Second)
		master.close()
		pass(4 * time.Second)
		master = m.client("master", "c").connected(m)
		pass(20 * time.Second)
		if got := m.master("g"); got != "master" {
			t.Errorf("who came back in time: the master is %q", got)
		}
		master.close()
		took := m.within(10*time.Second, "another master", func() bool { return m.master("g") == "ann" })
		if took < 5*time.Second {
			t.Errorf("after %v", took)
		}
		if told := ann.handovers(); !slices.Equal(told, []string{`"payload":{"reason":"lost","node_id":"ann"}`}) {
			t.Errorf("ann was told %q", told)
		}
		master = m.client("master", "a").connected(m)
		pass(time.Second)
		if told := master.handovers(); len(told) != 1 {
			t.Errorf("who was lost was told %q", told)
		}
		master.send(to(room("g"), "1", "I am back"))
		pass(time.Second)
		if got := ann.payloads(); !slices.Equal(got, []string{"I am back"}) {
			t.Errorf("the new master got %q", got)
		}
	})
}

// A master whose server dies is lost, too, and its players, of which one was at
// the same server, go on.
func TestMasterServerDies(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.play("g", "master", "ann", "bob")
		m.client("master", "a").connected(m)
		ann := m.device("ann", "ann", "a", "b").connected(m)
		bob := m.client("bob", "c").connected(m)
		pass(time.Second)
		m.kill("a")
		m.within(30*time.Second, "another master", func() bool { return m.master("g") != "master" })
		is := map[string]*device{"ann": ann, "bob": bob}
		heir := is[m.master("g")]
		delete(is, m.master("g"))
		for _, other := range is {
			other.send(to(room("g"), "1", "who is there?"))
		}
		pass(10 * time.Second)
		if got := heir.payloads(); !slices.Equal(got, []string{"who is there?"}) {
			t.Errorf("%s got %q", m.master("g"), got)
		}
	})
}

// Without a master, what is stored waits and what is not is dropped, of which its
// sender is told; who becomes the master finds what has waited.
func TestNoMaster(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("owner", "/v1/sessions", `{"session_id":"g","kind":"game","successors":"nobody"}`)
		m.must("ann", "/v1/sessions/g/join", "")
		m.must("bob", "/v1/sessions/g/join", "")
		m.must("owner", "/v1/sessions/g/master", `{"node_id":"bob"}`)
		ann := m.client("ann", "a").connected(m)
		bob := m.client("bob", "b").connected(m)
		owner := m.client("owner", "b").connected(m)
		pass(time.Second)
		m.must("bob", "/v1/sessions/g/leave", "")
		ann.send(to(room("g"), "1", "waits"))
		e := volatile("g", "gone")
		e.ID, e.Receipt = "2", true
		before := m.at("a").Stats().DroppedAway.Load()
		if ack := ann.send(e); !ack.Offline {
			t.Errorf("to nobody: %+v", ack)
		}
		if got := m.at("a").Stats().DroppedAway.Load() - before; got != 1 {
			t.Errorf("%d dropped", got)
		}
		pass(time.Minute)
		if got := m.master("g"); got != "" {
			t.Errorf("the master is %q", got)
		}
		m.must("owner", "/v1/sessions/g/master", `{"node_id":"owner"}`)
		ann.send(to(room("g"), "3", "arrives"))
		pass(time.Second)
		if got := owner.payloads(); !slices.Equal(got, []string{"arrives"}) {
			t.Errorf("the new master got %q", got)
		}
		if got := m.reads("owner", "g"); !slices.Equal(got, []string{"arrives", "waits"}) {
			t.Errorf("the new master reads %q", got)
		}
		if got := bob.payloads(); len(got) != 0 {
			t.Errorf("who has left got %q", got)
		}
	})
}

// Where the last one has left, who joins next is the master.
func TestVacantGame(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.play("g", "owner")
		m.must("owner", "/v1/sessions/g/leave", "")
		if got := m.master("g"); got != "" {
			t.Errorf("of nobody the master is %q", got)
		}
		m.must("ann", "/v1/sessions/g/join", "")
		if got := m.master("g"); got != "ann" {
			t.Errorf("the master is %q", got)
		}
		// One that the app has made waits for the app to appoint one.
		m.must("ann", "/v1/sessions", `{"session_id":"none"}`)
		if code, _ := m.do(http.MethodPost, "ann", "a", "/v1/sessions/none/master", `{"node_id":"ann"}`); code != envelope.Conflict {
			t.Errorf("the master of what is no game: %q", code)
		}
	})
}

// An alias is a master like any: it gets what is for the master wherever its
// device is, is not lost while that is connected, and is when it is not; and who
// it is, nobody learns.
func TestAnonymousMaster(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.play("r", "owner", "ann")
		m.joinAs("zorro")
		m.must("owner", "/v1/sessions/r/master", `{"node_id":"r~zorro"}`)
		if code, _ := m.do(http.MethodPost, "owner", "a", "/v1/sessions/r/master", `{"node_id":"canary"}`); code != envelope.NotFound {
			t.Errorf("by its id: %q", code)
		}
		ann, owner, canary := m.listens("ann", "a"), m.listens("owner", "b"), m.listens("canary", "c")
		for _, l := range []*listener{ann, owner, canary} {
			l.take()
		}
		pass(time.Minute)
		if got := m.master("r"); got != "r~zorro" {
			t.Errorf("the master is %q", got)
		}
		ann.send(`{"id":"1","dest_session_id":"r","payload":"stored"}`)
		ann.send(`{"dest_session_id":"r","class":"volatile","payload":"not stored"}`)
		ann.send(private("r~zorro", `"id":"2","payload":"private"`))
		if got := canary.take(); strings.Count(got, `"src_id":"ann"`) != 3 || !strings.Contains(got, `"not stored"`) {
			t.Errorf("the master got %s", got)
		}
		canary.send(`{"id":"1","dest_session_id":"r","payload":"to all"}`)
		canary.send(`{"dest_session_id":"r","class":"volatile","payload":"also"}`)
		canary.send(private("ann", `"id":"2","payload":"to one"`))
		got := ann.take()
		has(t, "ann", got, `"to all"`, `"also"`, `"to one"`, `"src_id":"r~zorro"`)
		has(t, "the owner", owner.take(), `"to all"`, `"also"`)
		_ = canary.ws.CloseNow()
		m.within(10*time.Second, "another master", func() bool { return m.master("r") == "owner" })
		has(t, "ann", ann.take(), `"reason":"lost","node_id":"owner"`)
		has(t, "the owner", owner.take(), `"reason":"lost","node_id":"owner"`)
		canary = m.listens("canary", "a")
		if got := canary.take(); !strings.Contains(got, `"reason":"lost","node_id":"owner"`) {
			t.Errorf("who was lost got %s", got)
		}
	})
}

// A server may die between a master's leaving and what follows of it. Those with
// players of the game see to it: at once when the log told them, and in a while
// when it did not.
func TestMasterLeftAndServerDied(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("told ", told), func(t *testing.T) {
			inMesh(t, 2, func(t *testing.T, m *mesh) {
				m.play("g", "owner", "master", "ann")
				m.must("owner", "/v1/sessions/g/master", `{"node_id":"master"}`)
				ann := m.client("ann", "b").connected(m)
				pass(time.Second)
				tell := m.at("a").appendNotice
				if !told {
					tell = func(_ context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
						return inbox.Wait(t.Context(), func(done func(uint64, error)) { m.store.Append(log, env, done) })
					}
				}
				dying := session.New(m.store, tell, nil)
				if _, err := dying.Leave(t.Context(), envelope.Principal{Node: "master", Client: "master"}, "g"); err != nil {
					t.Fatal(err)
				}
				wait := 100 * time.Millisecond
				if !told {
					wait = 2 * time.Minute
				}
				m.within(wait, "another master", func() bool { return m.master("g") == "ann" })
				pass(time.Second)
				if got := ann.handovers(); len(got) != 2 || got[1] != `"payload":{"reason":"left","node_id":"ann"}` {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}
