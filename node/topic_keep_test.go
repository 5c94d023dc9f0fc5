package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// keep makes rules of a topic.
func (m *mesh) keep(topic envelope.SessionID, change envelope.Settings) {
	m.t.Helper()
	kind := "topic"
	change.Kind = &kind
	if _, err := m.app("a", gateway.CreateSession{ID: topic, Settings: change}); err != nil {
		m.t.Fatal(err)
	}
	m.settle()
}

// A client that comes back within what is kept goes on from its position, on
// whatever server; one that comes without a position starts with what comes.
func TestTopicRecovery(t *testing.T) {
	for _, by := range []string{"hello", "subscribe"} {
		inMesh(t, 3, func(t *testing.T, m *mesh) {
			m.keep("topic:news", envelope.Settings{KeepCount: new(100)})
			alice := m.raw("alice", "a").open()
			alice.subscribe("", "topic:news")
			bob := m.raw("bob", "b").open()
			if c := bob.subscribe("", "topic:news"); c.Cursors["session:topic:news"] != 0 || c.Heads["session:topic:news"] != 0 || len(c.Cursors) != 1 {
				t.Errorf("answered %+v", c)
			}
			if c := alice.say("topic:news", "1", "1", ""); c.Seq != 1 || c.Log != "session:topic:news" {
				t.Errorf("answered %+v", c)
			}
			if e := bob.message("1"); e.Seq != 1 {
				t.Errorf("got %+v", e)
			}
			_ = bob.ws.CloseNow()
			pass(5 * time.Second)
			for i := 2; i <= 5; i++ {
				alice.say("topic:news", fmt.Sprint(i), fmt.Sprint(i), "")
			}

			bob = m.raw("bob", "c")
			cursors := `,"cursors":{"session:topic:news":1}`
			if by == "hello" {
				bob.hello(`,"topics":["topic:news"]` + cursors)
			} else {
				bob.open()
			}
			var c envelope.Control
			if by == "hello" {
				c = bob.control("subscribed")
			} else {
				c = bob.subscribe(cursors, "topic:news")
			}
			if c.Cursors["session:topic:news"] != 1 || c.Heads["session:topic:news"] != 5 {
				t.Errorf("answered %+v", c)
			}
			for i := 2; i <= 5; i++ {
				if e := bob.message(fmt.Sprint(i)); e.Seq != uint64(i) {
					t.Errorf("got %+v", e)
				}
			}
			if by == "hello" {
				if c := bob.control("caught_up"); c.Heads["session:topic:news"] != 5 {
					t.Errorf("caught up with %+v", c)
				}
			}
			carol := m.raw("carol", "c").open()
			if c := carol.subscribe("", "topic:news"); c.Cursors["session:topic:news"] != 5 {
				t.Errorf("answered %+v", c)
			}
			alice.say("topic:news", "6", "6", "")
			bob.message("6")
			carol.message("6")
			again := carol.say("topic:news", "7", "7", "")
			bob.message("7")
			alice.message("7")
			if c := carol.say("topic:news", "7", "7", ""); c.Seq != again.Seq {
				t.Errorf("repeated: %+v, first %+v", c, again)
			}
			if c := alice.say("topic:news", "v", "v", `,"class":"volatile"`); c.Seq != 0 {
				t.Errorf("answered %+v", c)
			}
			bob.message("v")
			bob.send(`{"control":"ack","cursors":{"session:topic:news":7}}`)
			bob.send(`{"control":"read","cursors":{"session:topic:news":7}}`)
			bob.quiet(5 * time.Second)
			readers, err := m.store.Readers(t.Context(), room("topic:news"), 10)
			if err != nil || len(readers) != 0 {
				t.Errorf("positions %v, %v", readers, err)
			}
			page, err := m.at("b").Do(t.Context(), envelope.Principal{Node: "dave", Client: "dave"}, gateway.History{Log: room("topic:news"), Back: true, Limit: 3})
			if err != nil || len(page.(gateway.Page).Entries) != 3 || page.(gateway.Page).Head != 7 {
				t.Errorf("history %+v, %v", page, err)
			}
		})
	}
}

// What is no longer there is said to be missing; so is what a position of
// another store, or one beyond the head, means.
func TestTopicGap(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(10)})
		alice := m.raw("alice", "a").open()
		alice.subscribe("", "topic:news")
		for i := 1; i <= 200; i++ {
			alice.say("topic:news", fmt.Sprint(i), fmt.Sprint(i), "")
		}
		m.within(10*time.Second, "the log is short", func() bool {
			x, err := m.store.Extent(t.Context(), room("topic:news"))
			return err == nil && x.Head-x.Floor+1 <= 10+topicTidyLeast
		})
		x, _ := m.store.Extent(t.Context(), room("topic:news"))
		for i, position := range []string{
			`,"cursors":{"session:topic:news":1}`,
			`,"cursors":{"session:topic:news":0}`,
			`,"cursors":{"session:topic:news":1000}`,
			`,"cursors":{"session:topic:news":190},"epoch":"another"`,
		} {
			r := m.raw(fmt.Sprint("device", i), "a").open()
			r.subscribe(position, "topic:news")
			if i >= 2 {
				if c := r.control("gap"); c.Floor != 1 {
					t.Errorf("%s: %+v", position, c)
				}
			}
			if c := r.control("gap"); c.Log != "session:topic:news" || c.Floor != x.Floor {
				t.Errorf("%s: %+v, floor %d", position, c, x.Floor)
			}
			for seq := x.Floor; seq <= 200; seq++ {
				r.message(fmt.Sprint(seq))
			}
			r.quiet(time.Second)
		}
	})
}

func TestTopicAge(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepSeconds: new(60)})
		say := func(id string) uint64 {
			t.Helper()
			ev, err := m.app("a", gateway.Send{Envelope: new(to(room("topic:news"), id, "x"))})
			if err != nil {
				t.Fatal(err)
			}
			return ev.(gateway.Ack).Seq
		}
		floor := func() uint64 {
			t.Helper()
			if err := m.at("a").keeper.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			x, err := m.store.Extent(t.Context(), room("topic:news"))
			if err != nil {
				t.Fatal(err)
			}
			return x.Floor
		}
		for i := 1; i <= 20; i++ {
			if seq := say(fmt.Sprint(i)); seq != uint64(i) {
				t.Fatalf("number %d is %d", i, seq)
			}
			if i == 10 {
				time.Sleep(time.Hour)
			}
		}
		if n := floor(); n != 11 {
			t.Errorf("begins at %d", n)
		}
		alice := m.raw("alice", "a").open()
		alice.subscribe("", "topic:news")
		if _, err := m.app("a", gateway.UpdateSession{ID: "topic:news", Change: envelope.Settings{KeepSeconds: new(0)}}); err != nil {
			t.Fatal(err)
		}
		if f, err := alice.next(time.Minute); err != nil || f.msg.Type != envelope.TypeSettings || f.msg.Seq != 21 {
			t.Errorf("got %q, %v", f.text, err)
		}
		if seq := say("21"); seq != 0 {
			t.Errorf("stored at %d, though nothing is to be", seq)
		}
		alice.message("x")
		if n := floor(); n != 21 {
			t.Errorf("begins at %d", n)
		}
	})
}

// Rules made on one server hold on all of them at once.
func TestTopicRules(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		var all []*raw
		for _, at := range []string{"a", "b", "c"} {
			all = append(all, m.raw("at-"+at, at).open())
			all[len(all)-1].subscribe("", "topic:news")
		}
		all[1].say("topic:news", "1", "1", "")
		all[0].message("1")
		all[2].message("1")
		m.keep("topic:news", envelope.Settings{KeepCount: new(5), Publishers: new("owner")})
		for _, r := range all {
			if c := r.say("topic:news", "2", "2", ""); c.Code != envelope.Forbidden {
				t.Errorf("answered %+v", c)
			}
		}
		if _, err := m.app("c", gateway.Send{Envelope: new(to(room("topic:news"), "3", "3"))}); err != nil {
			t.Error(err)
		}
		for _, r := range all {
			if e := r.message("3"); e.Seq != 1 {
				t.Errorf("got %+v", e)
			}
		}
		_, err := m.app("b", gateway.UpdateSession{ID: "topic:news", Change: envelope.Settings{Publishers: new("members")}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, r := range all {
			if f, err := r.next(time.Minute); err != nil || f.msg.Type != envelope.TypeSettings || f.msg.Seq != 2 {
				t.Errorf("got %q, %v", f.text, err)
			}
		}
		if c := all[2].say("topic:news", "4", "4", ""); c.Seq != 3 {
			t.Errorf("answered %+v", c)
		}
		all[0].message("4")
		all[1].message("4")
	})
}

// Followers who come and go on three servers miss nothing of a topic that keeps
// enough, get nothing twice, and everything in order.
func TestRandomTopic(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				m.keep("topic:news", envelope.Settings{KeepCount: new(1000)})
				rnd := rand.New(rand.NewPCG(seed, 0))
				servers := m.ids()
				said := uint64(0)
				followers := make([]*follower, 6)
				for i := range followers {
					followers[i] = &follower{name: fmt.Sprint("follower", i)}
				}
				for range 400 {
					switch f, at := followers[rnd.IntN(len(followers))], servers[rnd.IntN(len(servers))]; rnd.IntN(6) {
					case 0:
						f.comeOrGo(m, at)
					case 1:
						f.read(t, rnd.Uint64N(said-f.seq+1))
					case 2:
						time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
					default:
						said++
						ev, err := m.app(at, gateway.Send{Envelope: new(to(room("topic:news"), fmt.Sprint(said), fmt.Sprint(said)))})
						if err != nil || ev.(gateway.Ack).Seq != said {
							t.Fatalf("%+v, %v", ev, err)
						}
					}
				}
				for _, f := range followers {
					if f.raw == nil {
						f.comeOrGo(m, "a")
					}
					f.read(t, said-f.seq)
					f.raw.quiet(time.Second)
				}
			})
		})
	}
}

// follower is a device that comes and goes, and what it has got.
type follower struct {
	name string
	raw  *raw // nil while it is away
	seq  uint64
}

func (f *follower) comeOrGo(m *mesh, at string) {
	m.t.Helper()
	pass(time.Millisecond) // of two connections made at the same moment any may be the newer
	if f.raw != nil {
		_ = f.raw.ws.CloseNow()
		f.raw = nil
		return
	}
	f.raw = m.raw(f.name, at).open()
	f.raw.subscribe(fmt.Sprintf(`,"cursors":{"session:topic:news":%d}`, f.seq), "topic:news")
}

// read reads the next n messages, if it is there.
func (f *follower) read(t *testing.T, n uint64) {
	t.Helper()
	for ; n > 0 && f.raw != nil; n-- {
		f.seq++
		if e := f.raw.message(fmt.Sprint(f.seq)); e.Seq != f.seq {
			t.Fatalf("%s got %+v", f.name, e)
		}
	}
}

// A stream follows the topics named in its request, and one that comes back
// goes on from its position, also when nothing had been said before. A poll gets
// what was kept since the last one.
func TestTopicOverStreams(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(10)})
		say := func(text string) {
			t.Helper()
			if _, err := m.app("b", gateway.Send{Envelope: new(to(room("topic:news"), text, text))}); err != nil {
				t.Fatal(err)
			}
		}
		open := func(position string) *events {
			t.Helper()
			time.Sleep(time.Millisecond)
			ctx, cancel := context.WithCancel(t.Context())
			resp := m.get(ctx, "alice", "a", "/v1/stream?topic=topic:news&topic=topic:other&last_event_id="+position)
			s := m.eventsOf(resp, cancel, position)
			for {
				e, err := s.next(time.Minute)
				if err != nil || e.ctl.Control != "hello" && e.ctl.Control != "subscribed" {
					t.Fatalf("got %q, %v; want the answer to hello", e.data, err)
				}
				if e.ctl.Control == "subscribed" {
					return s
				}
			}
		}
		heard := func(s *events, want string) {
			t.Helper()
			e, err := s.next(time.Minute)
			for ; err == nil && e.ctl.Control == "caught_up"; e, err = s.next(time.Minute) {
			}
			if err != nil || text(e.msg) != want {
				t.Fatalf("got %q, %v; want %q", e.data, err, want)
			}
		}
		s := open("")
		s.close()
		say("1")
		s = open(s.id)
		heard(s, "1")
		say("2")
		heard(s, "2")
		s.close()
		say("3")
		say("4")
		s = open(s.id)
		heard(s, "3")
		heard(s, "4")
		s.close()

		poll := func(cursors string, want int) string {
			t.Helper()
			frames, next, err := m.poll("bob", "b", cursors, "1s&topic=topic:news")
			if err != nil || len(frames) != want {
				t.Errorf("%s, %v; want %d frames", frames, err, want)
			}
			return next
		}
		at := poll("", 0)
		say("5")
		at = poll(at, 1)
		poll(at, 0)
		for _, bad := range []string{"news", "topic:a%20b", ""} {
			if resp := m.get(t.Context(), "alice", "a", "/v1/stream?topic="+bad); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("topic=%s: %s", bad, resp.Status)
			}
			if _, _, err := m.poll("bob", "b", "", "1s&topic="+bad); err == nil {
				t.Errorf("topic=%s: polled", bad)
			}
		}
	})
}

// The client library follows its topics again after every reconnect, from where
// it was, and acknowledges nothing of them.
func TestTopicClient(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(100)})
		alice, bob := m.client("alice", "a").connected(m), m.device("bob", "bob", "a", "b")
		for _, d := range []*device{alice, bob} {
			if err := d.Subscribe(t.Context(), "topic:news", "topic:live"); err != nil {
				t.Fatal(err)
			}
			if err := d.Subscribe(t.Context(), "topic:news"); err != nil { // as it is already
				t.Fatal(err)
			}
		}
		if err := bob.Subscribe(t.Context(), "news"); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("followed what is no topic: %v", err)
		}
		want := 0
		say := func(n int) {
			t.Helper()
			for range n {
				want++
				alice.send(to(room("topic:news"), "", fmt.Sprint(want)))
			}
		}
		got := func() bool {
			got := bob.texts()
			for i, text := range got {
				if text != fmt.Sprint(i+1) {
					t.Fatalf("got %v", got)
				}
			}
			return len(got) == want
		}
		say(10)
		m.within(time.Second, "all is there", got)
		for range 3 {
			if c := m.at("a").conns.device("bob"); c != nil {
				c.t.Abort()
			}
			if c := m.at("b").conns.device("bob"); c != nil {
				c.t.Abort()
			}
			say(10)
			m.within(30*time.Second, "what was said meanwhile as well", got)
		}
		if ack := alice.send(to(room("topic:live"), "x", "live")); ack.Seq != 0 {
			t.Errorf("ack is %+v", ack)
		}
		pass(5 * time.Second)
		if n := len(bob.texts()); n != want+1 {
			t.Errorf("%d messages, want %d", n, want+1)
		}
		bob.Unsubscribe("topic:news", "topic:live")
		pass(time.Second)
		say(1)
		pass(time.Second)
		if n := len(bob.texts()); n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
		cursors, err := m.store.Cursors(t.Context(), "bob")
		if err != nil || len(cursors) != 0 {
			t.Errorf("positions %v, %v", cursors, err)
		}
	})
}

// What a topic keeps can be edited and deleted by who has said it, and deleted
// by the app; who comes later sees what has become of it.
func TestTopicRevisions(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.keep("topic:news", envelope.Settings{KeepCount: new(100)})
		alice, bob := m.raw("alice", "a").open(), m.raw("bob", "b").open()
		alice.subscribe("", "topic:news")
		bob.subscribe("", "topic:news")
		for i := 1; i <= 3; i++ {
			alice.say("topic:news", fmt.Sprint(i), fmt.Sprint(i), "")
			bob.message(fmt.Sprint(i))
		}
		if c := bob.say("topic:news", "x", "x", `,"edits":1`); c.Code != envelope.Forbidden {
			t.Errorf("another's edit: %+v", c)
		}
		bob.send(`{"id":"y","dest_session_id":"topic:news","deletes":1}`)
		if c := bob.control("nack"); c.Code.Retry() {
			t.Errorf("another's deletion: %+v", c)
		}
		if c := alice.say("topic:news", "4", "edited", `,"edits":1`); c.Seq != 4 {
			t.Errorf("answered %+v", c)
		}
		if e := bob.message("edited"); e.Edits != 1 {
			t.Errorf("got %+v", e)
		}
		deletion := envelope.Envelope{ID: "5", DestSession: "topic:news", Deletes: 2}
		if _, err := m.app("b", gateway.Send{Envelope: &deletion}); err != nil {
			t.Error(err)
		}
		for _, r := range []*raw{alice, bob} {
			if e := r.message(""); e.Deletes != 2 {
				t.Errorf("got %+v", e)
			}
		}
		carol := m.raw("carol", "a").open()
		carol.subscribe(`,"cursors":{"session:topic:news":0}`, "topic:news")
		for _, want := range []string{"1", "", "3", "edited", ""} { // as it was said, but for what is not to be there
			carol.message(want)
		}
		page, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "dave", Client: "dave"}, gateway.History{Log: room("topic:news"), Back: true})
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, e := range page.(gateway.Page).Entries {
			texts = append(texts, text(e))
		}
		if fmt.Sprint(texts) != "[edited  3]" {
			t.Errorf("history %q", texts)
		}
	})
}
