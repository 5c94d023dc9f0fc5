package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// open says hello and reads on until everything that waited has come.
func (r *raw) open() *raw {
	r.t.Helper()
	r.hello("")
	r.control("caught_up")
	return r
}

// subscribe follows topics; more are further members of the frame.
func (r *raw) subscribe(more string, topics ...string) envelope.Control {
	r.t.Helper()
	r.send(fmt.Sprintf(`{"control":"subscribe","topics":[%s]%s}`, `"`+strings.Join(topics, `","`)+`"`, more))
	return r.control("subscribed")
}

// say sends a message to a topic and returns the answer.
func (r *raw) say(topic, id, payload, more string) envelope.Control {
	r.t.Helper()
	r.send(fmt.Sprintf(`{"id":%q,"dest_session_id":%q,"payload":%q%s}`, id, topic, payload, more))
	f, err := r.next(time.Minute)
	if err != nil || f.ctl.Control == "" {
		r.t.Fatalf("got %q, %v; want an answer", f.text, err)
	}
	return f.ctl
}

// app does something as the app, at a server.
func (m *mesh) app(at string, cmd gateway.Command) (gateway.Event, error) {
	m.t.Helper()
	return m.at(at).Do(m.t.Context(), envelope.Principal{Node: "backend", Client: "backend", App: true}, cmd)
}

// A topic that nobody has made: whoever follows it hears what others say there,
// and nothing but one edge for each server is stored.
func TestTopic(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		var all []*raw
		for _, at := range []string{"a", "a", "b", "c"} {
			r := m.raw(fmt.Sprint("device", len(all)), at).open()
			if c := r.subscribe(`,"id":"s"`, "topic:news"); c.ID != "s" || len(c.Topics) != 1 || c.Topics[0] != "topic:news" {
				t.Errorf("answered %+v", c)
			}
			all = append(all, r)
		}
		for i, class := range []string{"", `,"class":"volatile"`, `,"class":"latest","key":"k"`} {
			if c := all[0].say("topic:news", fmt.Sprint("id", i), fmt.Sprint(i), class); c.Control != "ack" || c.Seq != 0 {
				t.Errorf("class %q: answered %+v", class, c)
			}
			for _, r := range all[1:] {
				if e := r.message(fmt.Sprint(i)); e.SrcNode != "device0" || e.DestSession != "topic:news" || e.Seq != 0 {
					t.Errorf("got %+v", e)
				}
			}
		}
		edges := func() int {
			edges, err := m.store.Edges(t.Context(), room("topic:news"))
			if err != nil {
				t.Fatal(err)
			}
			return len(edges)
		}
		if n := edges(); n != 3 {
			t.Errorf("%d edges", n)
		}
		all[1].send(`{"control":"unsubscribe","id":"u","topics":["topic:news","topic:other"]}`)
		if c := all[1].control("unsubscribed"); c.ID != "u" || len(c.Topics) != 2 {
			t.Errorf("answered %+v", c)
		}
		all[2].send(`{"control":"unsubscribe","topics":["topic:news"]}`)
		all[2].control("unsubscribed")
		pass(time.Second)
		if n := edges(); n != 2 {
			t.Errorf("%d edges when b has left", n)
		}
		all[0].say("topic:news", "last", "last", "")
		all[3].message("last")
		if c := all[1].say("topic:news", "x", "x", ""); c.Code != envelope.NotFound {
			t.Errorf("who has left was answered %+v", c)
		}
		all[1].quiet(time.Second) // and so gets no copy of its own as well
		all[2].quiet(time.Second)
		all[0].quiet(time.Second)
		for _, r := range all {
			_ = r.ws.CloseNow()
		}
		pass(10 * time.Second)
		if n := edges(); n != 0 {
			t.Errorf("%d edges when all have gone", n)
		}
		for i := range all {
			if cursors, err := m.store.Cursors(t.Context(), envelope.NodeID(fmt.Sprint("device", i))); err != nil || len(cursors) != 0 {
				t.Errorf("cursors %v, %v", cursors, err)
			}
		}
		members, err := m.store.Members(t.Context(), "topic:news")
		x, xerr := m.store.Extent(t.Context(), room("topic:news"))
		if len(members) != 0 || x.Head != 0 || err != nil || xerr != nil {
			t.Errorf("stored: %v, %+v (%v, %v)", members, x, err, xerr)
		}
	})
}

// Only the first follower on a server writes or reads anything of the topic.
func TestTopicFollowersAreCheap(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		var all []*raw
		for i := range 50 {
			all = append(all, m.raw(fmt.Sprint("device", i), "a").open())
		}
		all[0].subscribe("", "topic:news")
		m.settle()
		ops := make(map[string]int)
		m.at("a").store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				ops[op]++
				return nil
			}
		})
		for _, r := range all[1:] {
			r.subscribe("", "topic:news")
		}
		if len(ops) != 0 {
			t.Errorf("the others did %v", ops)
		}
	})
}

func TestTopicRefusals(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("alice", "a").open()
		r.subscribe("", "topic:news")
		for _, of := range []struct {
			frame string
			want  envelope.Code
		}{
			{`{"id":"i","dest_session_id":"topic:other","payload":1}`, envelope.NotFound},
			{`{"id":"i","dest_session_id":"topic:news","dest_id":"bob","payload":1}`, envelope.BadRequest},
			{`{"id":"i","dest_session_id":"topic:news","edits":1,"payload":1}`, envelope.BadRequest},
			{`{"id":"i","dest_session_id":"topic:news","deletes":1}`, envelope.BadRequest},
			{`{"control":"subscribe","topics":["news"]}`, envelope.BadRequest},
			{`{"control":"subscribe","topics":["topic:a b"]}`, envelope.BadRequest},
			{`{"control":"subscribe","id":"a b","topics":["topic:news"]}`, envelope.BadRequest},
			{`{"control":"subscribe","topics":["topic:news"],"cursors":{"topic:news":1}}`, envelope.BadRequest},
			{`{"control":"subscribe","topics":"topic:news"}`, envelope.BadRequest},
			{`{"control":"subscribe","id":"i","topics":[` + many(0, 1000) + `]}`, envelope.Forbidden}, // with topic:news one too many
			{`{"control":"subscribe","topics":[` + many(0, 1001) + `]}`, envelope.BadRequest},
		} {
			r.send(of.frame)
			f, err := r.next(time.Minute)
			if err != nil || f.ctl.Code != of.want {
				t.Errorf("%.100s: got %.200q, %v; want %s", of.frame, f.text, err, of.want)
			}
			if named := strings.Contains(of.frame, `"id":"i"`); named != (f.ctl.Control == "nack" && f.ctl.ID == "i") {
				t.Errorf("%.100s: got %.200q", of.frame, f.text)
			}
		}
		r.send(`{"control":"subscribe","topics":[` + many(0, 999) + `]}`)
		if c := r.control("subscribed"); len(c.Topics) != 999 {
			t.Errorf("%d topics", len(c.Topics))
		}
		r.send(`{"control":"subscribe","topics":["topic:x"]}`)
		if c := r.control("error"); c.Code != envelope.Forbidden {
			t.Errorf("got %+v", c)
		}
		r.subscribe("", "topic:news", "topic:0", "topic:0") // are no further ones

		alice := envelope.Principal{Node: "alice", Client: "alice"}
		for _, cmd := range []gateway.Command{
			gateway.JoinSession{ID: "topic:news"},
			gateway.LeaveSession{ID: "topic:news"},
			gateway.RevealAnonymity{ID: "topic:news"},
			gateway.ChangeMember{ID: "topic:news", Action: gateway.Add, Node: "bob", Client: "bob"},
		} {
			for _, who := range []envelope.Principal{alice, {Node: "backend", Client: "backend", App: true}} {
				if _, err := m.at("a").Do(t.Context(), who, cmd); envelope.CodeOf(err) != envelope.BadRequest {
					t.Errorf("%+v: %v", cmd, err)
				}
			}
		}
		topic := "topic"
		_, err := m.at("a").Do(t.Context(), alice, gateway.CreateSession{ID: "topic:news", Settings: envelope.Settings{Kind: &topic}})
		if envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("a device made rules of a topic: %v", err)
		}
		legacy := m.legacy("old", "a")
		legacy.send(`{"control":"subscribe","topics":["topic:news"]}`)
		if c := legacy.control("error"); c.Code != envelope.BadRequest {
			t.Errorf("a legacy client got %+v", c)
		}
	})
}

// many returns the quoted names of topics from one number to another.
func many(from, to int) string {
	names := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprintf("%q", fmt.Sprint("topic:", i)))
	}
	return strings.Join(names, ",")
}

// The app says into a topic what it likes; a device without a connection here,
// or one that does not follow it, nothing.
func TestTopicOverHTTP(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		r := m.raw("alice", "a").open()
		r.subscribe("", "topic:news")
		if _, err := m.app("b", gateway.Send{Envelope: new(to(room("topic:news"), "1", "1"))}); err != nil {
			t.Error(err)
		}
		r.message("1")
		for _, who := range []string{"alice", "bob"} {
			ack, err := m.api(who, who, "a").SendHTTP(t.Context(), to(room("topic:news"), "2", "2"))
			if want := map[string]envelope.Code{"alice": "", "bob": envelope.NotFound}[who]; envelope.CodeOf(err) != want || ack.Seq != 0 {
				t.Errorf("%s: %+v, %v", who, ack, err)
			}
		}
		r.quiet(time.Second) // no copy of its own
	})
}

// A topic goes on when the store is away, for those who follow it.
func TestTopicWithoutStore(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice, bob := m.raw("alice", "a").open(), m.raw("bob", "a").open()
		alice.subscribe("", "topic:news")
		bob.subscribe("", "topic:news")
		alice.say("topic:news", "1", "1", "")
		bob.message("1")
		m.at("a").store.set(func(s *faultyStore) { s.before = func(string) error { return errAway } })
		time.Sleep(3 * time.Second)
		if c := alice.say("topic:news", "2", "2", ""); c.Control != "ack" {
			t.Errorf("answered %+v", c)
		}
		bob.message("2")
		alice.send(`{"control":"subscribe","id":"s","topics":["topic:new"]}`)
		if c := alice.control("nack"); c.ID != "s" || !c.Code.Retry() {
			t.Errorf("answered %+v", c)
		}
		m.at("a").store.set(func(s *faultyStore) {
			s.before = nil
			s.delay = func(op string) time.Duration {
				if op == "put edges" {
					return time.Minute
				}
				return 0
			}
		})
		pass(time.Second)
		bob.send(`{"control":"subscribe","id":"s","topics":["topic:slow"]}`)
		if c := bob.control("nack"); c.ID != "s" || c.Code != envelope.Busy {
			t.Errorf("answered %+v", c)
		}
		m.at("a").store.set(func(s *faultyStore) { s.delay = nil })
		pass(5 * time.Second)
		alice.subscribe("", "topic:new")
	})
}

// What a topic keeps reaches its followers after a link was cut; the rest is
// lost to those behind it.
func TestTopicAcrossACutLink(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(100)})
		alice, bob := m.raw("alice", "a").open(), m.raw("bob", "b").open()
		for _, r := range []*raw{alice, bob} {
			r.subscribe("", "topic:news", "topic:live")
		}
		alice.say("topic:news", "1", "1", "")
		bob.message("1")
		m.cut("a", "b")
		alice.say("topic:news", "2", "2", "")
		alice.say("topic:live", "3", "3", "")
		alice.say("topic:news", "4", "4", `,"class":"volatile"`)
		pass(time.Second)
		m.heal("a", "b")
		if e := bob.message("2"); e.Seq != 2 {
			t.Errorf("got %+v", e)
		}
		pass(12 * time.Second) // until the silent link is given up
		m.linked()
		alice.say("topic:live", "5", "5", "")
		for {
			f, err := bob.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if text(f.msg) == "5" {
				break
			}
		}
		ev, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "alice", Client: "alice"}, gateway.Trace{ID: "2", Dest: room("topic:news")})
		if traced, ok := ev.(gateway.Traced); err != nil || !ok || traced.Seq != 2 || len(traced.Readers) != 0 {
			t.Errorf("traced %+v, %v", ev, err)
		}
	})
}

// A guest follows topics, but one of a session only that.
func TestTopicGuests(t *testing.T) {
	for _, of := range []struct {
		only envelope.SessionID
		cmd  gateway.Command
		want envelope.Code
	}{
		{"", gateway.Subscribe{Topics: []envelope.SessionID{"topic:a", "topic:b"}}, ""},
		{"", gateway.Hello{Topics: []envelope.SessionID{"topic:a", "topic:b"}}, ""},
		{"topic:a", gateway.Subscribe{Topics: []envelope.SessionID{"topic:a"}}, ""},
		{"topic:a", gateway.Subscribe{Topics: []envelope.SessionID{"topic:a", "topic:b"}}, envelope.Forbidden},
		{"room", gateway.Hello{Topics: []envelope.SessionID{"topic:a"}}, envelope.Forbidden},
		{"room", gateway.Hello{}, ""},
		{"room", gateway.Unsubscribe{Topics: []envelope.SessionID{"topic:a"}}, ""},
		{"room", gateway.History{Log: room("topic:a")}, envelope.Forbidden},
		{"topic:a", gateway.History{Log: room("topic:a")}, ""},
		{"", gateway.History{Log: room("topic:a")}, ""},
	} {
		if got := envelope.CodeOf(mayGuest(envelope.Principal{Guest: true, Only: of.only}, of.cmd)); got != of.want {
			t.Errorf("only %q, %+v: %q", of.only, of.cmd, got)
		}
	}
}

// The owner of a topic may say there as much as it likes, others not.
func TestTopicSignals(t *testing.T) {
	limit := func(c *Config) { c.Signals = SignalLimit{PerSecond: 1, Burst: 2} }
	inMeshOf(t, 1, limit, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{})
		owner, other := m.raw("backend", "a").open(), m.raw("alice", "a").open()
		owner.subscribe("", "topic:news")
		refused := func(r *raw) (n int) {
			for i := range 10 {
				if c := r.say("topic:news", fmt.Sprint(i), "x", ""); c.Code == envelope.RateLimited {
					n++
				} else if c.Control != "ack" {
					t.Errorf("answered %+v", c)
				}
			}
			return n
		}
		if n := refused(owner); n != 0 {
			t.Errorf("the owner was refused %d times", n)
		}
		owner.send(`{"control":"unsubscribe","topics":["topic:news"]}`)
		owner.control("unsubscribed")
		other.subscribe("", "topic:news")
		if n := refused(other); n != 8 {
			t.Errorf("another was refused %d times", n)
		}
	})
}

// Who follows topics only to leave them again is held back.
func TestTopicChurn(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		r := m.raw("eve", "a").open()
		all := `"topics":[` + many(0, envelope.MaxTopics) + `]}`
		r.send(`{"control":"subscribe",` + all)
		r.control("subscribed")
		r.send(`{"control":"unsubscribe",` + all)
		r.control("unsubscribed")
		r.send(`{"control":"subscribe","id":"i",` + all)
		c := r.control("nack")
		if c.Code != envelope.RateLimited || c.RetryMS < 19_000 || c.RetryMS > 20_000 {
			t.Errorf("answered %+v", c)
		}
		time.Sleep(100 * time.Millisecond)
		r.subscribe("", "topic:0", "topic:1", "topic:2") // so many are allowed again
	})
}

// Followers whose server has died go on elsewhere, and miss nothing kept.
func TestTopicServerDies(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(100)})
		bob := m.device("bob", "bob", "b", "c").connected(m)
		if err := bob.Subscribe(t.Context(), "topic:news"); err != nil {
			t.Fatal(err)
		}
		say := func(i int) {
			t.Helper()
			if _, err := m.app("a", gateway.Send{Envelope: new(to(room("topic:news"), fmt.Sprint(i), fmt.Sprint(i)))}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			say(i)
		}
		m.within(time.Second, "the first are there", func() bool { return len(bob.texts()) == 10 })
		for _, id := range []string{"b", "c"} {
			if m.at(id).conns.device("bob") != nil {
				m.kill(id)
				break
			}
		}
		for i := 10; i < 20; i++ {
			say(i)
			time.Sleep(100 * time.Millisecond)
		}
		m.within(30*time.Second, "the rest is as well", func() bool { return len(bob.texts()) == 20 })
		for i, text := range bob.texts() {
			if text != fmt.Sprint(i) {
				t.Fatalf("got %v", bob.texts())
			}
		}
	})
}

// What is known of a topic is trusted for a moment, whatever becomes of the
// memberships of sessions meanwhile.
func TestTopicRulesAreRemembered(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		n, reads := m.at("a"), 0
		n.store.set(func(s *faultyStore) {
			s.before = func(op string) error {
				if op == "session" {
					reads++
					n.forget("room", "bob")
				}
				return nil
			}
		})
		for range 10 {
			if _, err := n.topics.Get(t.Context(), "topic:news"); err != nil {
				t.Fatal(err)
			}
		}
		if reads != 1 {
			t.Errorf("read %d times", reads)
		}
		n.forget("topic:news", "")
		if _, err := n.topics.Get(t.Context(), "topic:news"); err != nil || reads != 2 {
			t.Errorf("read %d times, %v", reads, err)
		}
	})
}
