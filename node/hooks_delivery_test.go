package node

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/inbox"
)

// A receiver that is down gets everything when it is back, in order, and is
// asked less and less until then; what it says about when counts.
func TestHooksDown(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		r.set(func(int, []hook.Event) (int, string) { return http.StatusServiceUnavailable, "" })
		var want []string
		for range 10 {
			d := m.device("bob", "phone", "a").connected(m)
			pass(time.Second)
			d.close()
			pass(time.Second)
			want = append(want, "connected node:phone phone bob", "disconnected node:phone phone bob closed")
		}
		pass(10 * time.Minute)
		r.mu.Lock()
		if r.requests < 5 || r.requests > 20 {
			t.Errorf("it was asked %d times in ten minutes", r.requests)
		}
		r.mu.Unlock()
		r.set(func(int, []hook.Event) (int, string) { return http.StatusTooManyRequests, "1500" })
		pass(7 * time.Minute)
		r.mu.Lock()
		before := r.requests
		r.mu.Unlock()
		pass(15 * time.Minute)
		r.mu.Lock()
		if r.requests != before {
			t.Errorf("it was asked %d times before it had said", r.requests-before)
		}
		r.mu.Unlock()
		r.set(nil)
		pass(20 * time.Minute)
		wantTold(t, r.told(hook.Connected, hook.Disconnected), want...)
		if len(r.repeated) > 0 {
			t.Errorf("twice: %+v", r.repeated)
		}
	})
}

// The delivering server dies with a request under way that the receiver has
// taken: another one repeats that, which shows, and goes on.
func TestHooksDeliveringServerDies(t *testing.T) {
	inHookMesh(t, 3, func(t *testing.T, m *mesh, r *receiver) {
		c := m.at("c")
		subject := ""
		for i := 0; subject == "" || !(outbox{n: c.Node}).Mine(hook.Partition(subject)); i++ {
			subject = "node:phone" + strconv.Itoa(i)
		}
		r.set(func(p int, _ []hook.Event) (int, string) {
			if p == hook.Partition(subject) {
				c.store.kill()
			}
			return http.StatusOK, ""
		})
		tell := func(reason string) {
			m.at("a").hooks.tell(hook.Event{Type: hook.PushFailed, Subject: subject, Reason: reason})
		}
		tell("1")
		pass(2 * time.Second)
		wantTold(t, r.told(hook.PushFailed), "push.failed "+subject+" 1")
		m.kill("c")
		r.set(nil)
		tell("2")
		pass(20 * time.Second)
		wantTold(t, r.told(hook.PushFailed), "push.failed "+subject+" 1", "push.failed "+subject+" 2")
		if len(r.repeated) == 0 || r.repeated[0].Reason != "1" {
			t.Errorf("what came again: %+v", r.repeated)
		}
	})
}

// One partition's requests take for ever; the others go on, and so do messages.
func TestHooksSlow(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		slow := hook.Partition("node:phone")
		r.set(func(p int, _ []hook.Event) (int, string) {
			if p == slow {
				time.Sleep(time.Minute)
			}
			return http.StatusOK, ""
		})
		m.device("bob", "phone", "a").connected(m)
		alice := m.client("alice", "a").connected(m)
		var want []string
		for i := range 100 {
			to := to(deviceAddr(fmt.Sprint("away", i)), "1", "x")
			start := time.Now()
			alice.send(to)
			if d := time.Since(start); d > time.Second {
				t.Fatalf("a message took %v", d)
			}
			if hook.Partition("node:away"+strconv.Itoa(i)) != slow {
				want = append(want, fmt.Sprintf("message.offline node:away%d 1", i))
			}
		}
		pass(5 * time.Second)
		got := r.told(hook.Offline)
		slices.Sort(got)
		slices.Sort(want)
		wantTold(t, got, want...)
		r.set(nil)
		pass(10 * time.Minute)
		if got := r.told(hook.Offline); len(got) != 100 {
			t.Errorf("%d in the end", len(got))
		}
	})
}

// Events that retention takes before they are delivered are counted.
func TestHooksGone(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		r.set(func(int, []hook.Event) (int, string) { return http.StatusInternalServerError, "" })
		a := m.at("a")
		for i := range 10 {
			a.hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: strconv.Itoa(i)})
		}
		pass(5 * time.Second)
		log := outboxLog(hook.Partition("node:phone"))
		if gone, err := a.inbox.Tidy(t.Context(), log, inbox.Retention{
			Keep: map[envelope.Kind]inbox.Limits{envelope.KindHook: {Entries: 4}},
		}); gone != 6 || err != nil {
			t.Fatal(gone, err)
		}
		m.kill("a")
		m.start("a")
		r.set(nil)
		pass(10 * time.Minute)
		wantTold(t, r.told(hook.PushFailed),
			"push.failed node:phone 6", "push.failed node:phone 7", "push.failed node:phone 8", "push.failed node:phone 9")
		_, to := m.at("a").HookStats()
		if of := &to[0].Stats; of.Gone.Load() != 6 || of.Delivered.Load() != 4 {
			t.Errorf("%d counted as gone, %d as delivered", of.Gone.Load(), of.Delivered.Load())
		}
	})
}

// Each receiver has what it wants, at its own pace. One that comes later begins
// with what is there still, and has lost nothing.
func TestHooksSeveral(t *testing.T) {
	to := []hook.Receiver{receiverAt("all", "all"), receiverAt("some", "some", hook.Connected), receiverAt("dead", "dead")}
	config := func(cfg *Config) {
		cfg.Hooks.Receivers = to
	}
	inHookMeshTo(t, 3, config, append(to, receiverAt("late", "late")), func(t *testing.T, m *mesh, by map[string]*receiver) {
		by["dead"].set(func(int, []hook.Event) (int, string) { return http.StatusServiceUnavailable, "" })
		var all, some []string
		for _, device := range []string{"phone", "desk", "watch"} {
			d := m.device("bob", device, "a").connected(m)
			pass(2 * time.Second)
			d.close()
			pass(2 * time.Second)
			some = append(some, "connected node:"+device+" "+device+" bob")
			all = append(all, "connected node:"+device+" "+device+" bob", "disconnected node:"+device+" "+device+" bob closed")
		}
		both := []hook.Type{hook.Connected, hook.Disconnected}
		wantTold(t, by["all"].told(both...), all...)
		wantTold(t, by["some"].told(both...), some...)
		wantTold(t, by["dead"].told(both...))

		// Whichever server is asked knows of the others.
		servers := make(map[envelope.ServerID]bool)
		for _, id := range m.ids() {
			for _, r := range asApp[gateway.Hooks](m, id, gateway.GetHooks{}).Receivers {
				for _, p := range r.Partitions {
					servers[p.Server] = true
					behind, trouble := p.Head-p.Position, p.Trouble != nil
					if dead := r.Name == "dead"; p.Head == 0 || p.Server == "" || dead != (behind > 0) || dead != trouble {
						t.Errorf("at %s: %s: %+v", id, r.Name, p)
					}
					if t0 := p.Trouble; t0 != nil && (t0.Attempts == 0 || !strings.Contains(t0.Reason, "503") || t0.Since == 0 || t0.Paused != 0) {
						t.Errorf("at %s: %+v", id, t0)
					}
				}
			}
		}
		if len(servers) < 2 {
			t.Errorf("one server delivers everything: %v", servers)
		}

		by["dead"].set(nil)
		pass(10 * time.Minute)
		got := by["dead"].told(both...)
		slices.Sort(got)
		slices.Sort(all)
		wantTold(t, got, all...)

		// Of one partition retention has taken something, of the others nothing.
		log := outboxLog(hook.Partition("node:phone"))
		gone, err := m.at("a").inbox.Tidy(t.Context(), log, inbox.Retention{
			Keep: map[envelope.Kind]inbox.Limits{envelope.KindHook: {Entries: 1}},
		})
		if gone == 0 || err != nil {
			t.Fatal(gone, err)
		}
		to = append(to, receiverAt("late", "late"))
		for _, id := range m.ids() {
			m.kill(id)
		}
		for _, id := range []string{"a", "b", "c"} {
			m.start(id)
		}
		m.linked()
		pass(time.Minute)
		if got := by["late"].told(both...); len(got) != len(all)-int(gone) {
			t.Errorf("who came late was told %d of %d that are left", len(got), len(all)-int(gone))
		}
		for _, id := range m.ids() {
			_, deliverers := m.at(id).HookStats()
			for _, d := range deliverers {
				if n := d.Stats.Gone.Load(); n > 0 {
					t.Errorf("%s: %d counted as gone", d.Receiver().Name, n)
				}
			}
		}
	})
}

// A receiver that says that it is gone is left alone, and says so to who asks;
// the other one and the senders do not notice, also when the outbox is full.
func TestHooksGoneForGood(t *testing.T) {
	to := []hook.Receiver{receiverAt("gone", "gone"), receiverAt("there", "there")}
	inHookMeshTo(t, 2, func(*Config) {}, to, func(t *testing.T, m *mesh, by map[string]*receiver) {
		by["gone"].set(func(int, []hook.Event) (int, string) { return http.StatusGone, "" })
		alice := m.client("alice", "a").connected(m)
		for i := range 20 {
			alice.send(to1("away", strconv.Itoa(i)))
		}
		pass(time.Minute)
		if got := by["there"].told(hook.Offline); len(got) != 20 {
			t.Errorf("%d events", len(got))
		}
		paused := 0
		for _, p := range asApp[gateway.Hooks](m, "b", gateway.GetHooks{}).Receivers[0].Partitions {
			if p.Trouble == nil || p.Trouble.Attempts != 1 || time.Until(time.UnixMilli(p.Trouble.Paused)) < 55*time.Minute {
				t.Errorf("%+v", p)
			} else {
				paused++
			}
		}
		if by["gone"].mu.Lock(); by["gone"].requests != paused {
			t.Errorf("asked %d times in %d partitions", by["gone"].requests, paused)
		}
		by["gone"].mu.Unlock()

		full := func(s *faultyStore) {
			s.append = func(log envelope.Address, _ string) error {
				if log.Kind == envelope.KindHook {
					return envelope.Errorf(envelope.Quota, "full")
				}
				return nil
			}
		}
		m.at("a").store.set(full)
		m.at("b").store.set(full)
		alice.send(to1("away", "last"))
		if _, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, gateway.CreateSession{ID: "room"}); err != nil {
			t.Errorf("nobody makes a session while the outbox is full: %v", err)
		}
		dropped := uint64(0)
		for _, id := range m.ids() {
			recorded, _ := m.at(id).HookStats()
			dropped += recorded.DroppedRoom.Load()
		}
		if dropped != 3 { // that a message waits, a session, and who is in it
			t.Errorf("%d counted as dropped", dropped)
		}
	})
}

func to1(device envelope.NodeID, id string) envelope.Envelope { return to(device.Address(), id, "x") }

// What a sender is told comes in the order of its messages, also when it takes
// longer to find out for one that its destination is away.
func TestHooksOrderOfAcknowledgements(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, _ *receiver) {
		alice := m.raw("alice", "a")
		alice.hello("")
		alice.control("caught_up")
		var mu sync.Mutex
		held := make(map[string]func(uint64, error)) // by the event's id
		m.at("a").store.set(func(s *faultyStore) {
			s.take = func(log envelope.Address, id string, done func(uint64, error)) bool {
				mu.Lock()
				defer mu.Unlock()
				if strings.HasPrefix(id, "node:phone:") {
					held[id] = done
				}
				return held[id] != nil
			}
		})
		alice.send(`{"id":"1","dest_id":"phone","payload":"x"}`)
		alice.send(`{"id":"2","dest_id":"phone","payload":"x"}`)
		pass(time.Second)
		phone := m.raw("phone", "a")
		phone.hello("")
		pass(time.Second)
		alice.send(`{"id":"3","dest_id":"phone","payload":"x"}`)
		alice.send(`{"id":"4","dest_id":"other","class":"volatile","payload":"x"}`)
		if got := alice.control("ack"); got.ID != "4" {
			t.Errorf("first acknowledged: %s, while 1 to 3 wait", got.ID)
		}
		for _, id := range []string{"node:phone:2", "node:phone:1"} {
			mu.Lock()
			done := held[id]
			mu.Unlock()
			done(1, nil)
		}
		for _, want := range []string{"1", "2", "3"} {
			if got := alice.control("ack"); got.ID != want {
				t.Errorf("acknowledged %s, want %s", got.ID, want)
			}
		}
		if n := len(m.at("a").hooks.turns.of); n > 0 {
			t.Errorf("%d streams wait for ever", n)
		}
	})
}

func TestHooksReplay(t *testing.T) {
	inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
		a, p := m.at("a"), hook.Partition("node:phone")
		for i := range 250 {
			a.hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: strconv.Itoa(i)})
		}
		pass(5 * time.Second)
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		for range 2 { // the second one is the same
			if _, err := m.at("b").Do(t.Context(), app, gateway.ReplayHooks{ID: "again", Partition: p, After: 20}); err != nil {
				t.Fatal(err)
			}
		}
		a.hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: "last"})
		pass(5 * time.Second)
		if got := r.told(hook.PushFailed); len(got) != 251 || got[250] != "push.failed node:phone last" {
			t.Errorf("%d events, the last %q", len(got), got[len(got)-1])
		}
		for i, e := range r.repeated {
			if !e.Again || e.Seq != uint64(21+i) {
				t.Fatalf("at %d came %+v", i, e)
			}
		}
		if len(r.repeated) != 230 {
			t.Errorf("%d came again, want 230", len(r.repeated))
		}
		for name, try := range map[string]struct {
			who  envelope.Principal
			cmd  gateway.ReplayHooks
			want envelope.Code
		}{
			"not the app":       {envelope.Principal{Node: "x", Client: "x"}, gateway.ReplayHooks{}, envelope.Forbidden},
			"no such partition": {app, gateway.ReplayHooks{Partition: hook.Partitions}, envelope.BadRequest},
			"below 0":           {app, gateway.ReplayHooks{Partition: -1}, envelope.BadRequest},
			"no such receiver":  {app, gateway.ReplayHooks{Receiver: "x"}, envelope.NotFound},
			"an odd id":         {app, gateway.ReplayHooks{ID: "a b"}, envelope.BadRequest},
			"another replay":    {app, gateway.ReplayHooks{ID: "again", Partition: p, After: 21}, envelope.Conflict},
		} {
			if _, err := a.Do(t.Context(), try.who, try.cmd); envelope.CodeOf(err) != try.want {
				t.Errorf("%s: %v, want %s", name, err, try.want)
			}
		}
	})
}

// A replay is for one of several receivers, which is to be named.
func TestHooksReplayToOne(t *testing.T) {
	to := []hook.Receiver{receiverAt("one", "one"), receiverAt("two", "two", hook.PushFailed)}
	inHookMeshTo(t, 1, func(*Config) {}, to, func(t *testing.T, m *mesh, by map[string]*receiver) {
		m.at("a").hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: "1"})
		m.at("a").hooks.tell(hook.Event{Type: hook.Connected, Subject: "node:phone"})
		pass(5 * time.Second)
		app, replay := envelope.Principal{Node: "app", Client: "app", App: true}, gateway.ReplayHooks{Partition: hook.Partition("node:phone")}
		if _, err := m.at("a").Do(t.Context(), app, replay); envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("to whom? %v", err)
		}
		replay.Receiver = "two"
		if _, err := m.at("a").Do(t.Context(), app, replay); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if len(by["one"].repeated) != 0 || len(by["two"].repeated) != 1 || by["two"].repeated[0].Type != hook.PushFailed {
			t.Errorf("one was told again %+v, two %+v", by["one"].repeated, by["two"].repeated)
		}
	})
}

// What a server says of its work arrives.
func TestHookWork(t *testing.T) {
	want := hookWork{troubles: map[hookPlace]gateway.HookTrouble{
		{"default", 0}: {Since: 5, Attempts: 7, Reason: "away", Paused: 9}, {"other", 15}: {Since: 6, Attempts: 1},
	}}
	want.delivers[0], want.delivers[15] = true, true
	number, got := parseHookWork(envelope.NewReader(hookWorkBody(300, want)))
	if number != 300 || !reflect.DeepEqual(got, want) {
		t.Errorf("number %d, %+v", number, got)
	}
}

// What can be read of a server's word can be said again.
func FuzzHookWork(f *testing.F) {
	f.Add(hookWorkBody(1, hookWork{}))
	f.Add(hookWorkBody(300, hookWork{troubles: map[hookPlace]gateway.HookTrouble{{"default", 3}: {Since: 5, Attempts: 7, Reason: "away", Paused: 9}}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := envelope.NewReader(body)
		number, work := parseHookWork(r)
		if r.Err() != nil {
			return
		}
		if n, again := parseHookWork(envelope.NewReader(hookWorkBody(number, work))); n != number || !reflect.DeepEqual(again, work) {
			t.Errorf("%d %+v became %d %+v", number, work, n, again)
		}
	})
}

// What the outbox refuses for a moment is not overtaken by what came after it,
// whether the refusal is known at once or while that is on its way.
func TestHooksRefusedKeepTheirOrder(t *testing.T) {
	for name, later := range map[string]time.Duration{"at once": 0, "a little later": time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
				var mu sync.Mutex
				waiting, over := 0, false // of what is refused, behind which everything is; guarded by mu
				refuse := func(done func(uint64, error)) {
					done(0, errAway)
					mu.Lock()
					defer mu.Unlock()
					waiting--
					over = waiting == 0
				}
				for _, at := range m.ids() {
					m.at(at).store.set(func(s *faultyStore) {
						s.take = func(log envelope.Address, _ string, done func(uint64, error)) bool {
							mu.Lock()
							if log.Kind != envelope.KindHook || over {
								mu.Unlock()
								return false
							}
							waiting++
							mu.Unlock()
							if later == 0 {
								refuse(done)
							} else {
								time.AfterFunc(later, func() { refuse(done) })
							}
							return true
						}
					})
				}
				var want []string
				for i := range 50 {
					reason := strconv.Itoa(i)
					m.at("a").hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: reason})
					want = append(want, "push.failed node:phone "+reason)
				}
				pass(time.Minute)
				wantTold(t, r.told(hook.PushFailed), want...)
			})
		})
	}
}

// A queue that is full drops what is new, and counts it.
func TestHooksQueue(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		h := newHooks(m.at("a").Node, Hooks{Receivers: []hook.Receiver{receiverAt("x", "nowhere")}}) // nobody empties its queue
		for range maxHookQueue + 5 {
			h.tell(hook.Event{ID: "x"})
		}
		if got := h.stats.DroppedFull.Load(); got != 5 {
			t.Errorf("%d dropped, want 5", got)
		}
	})
}

// An event that the outbox has refused is not overtaken by what is told at once
// about the same, and later ones go there at once again.
func TestHooksRefused(t *testing.T) {
	inHookMesh(t, 1, func(t *testing.T, m *mesh, r *receiver) {
		alice := m.client("alice", "a").connected(m)
		refusals := 0
		m.at("a").store.set(func(s *faultyStore) {
			s.append = func(_ envelope.Address, id string) error {
				if id == "node:phone:1" && refusals < 3 {
					refusals++
					return envelope.BusyError(1, "not now", nil)
				}
				return nil
			}
		})
		for i := range 3 {
			alice.send(to(deviceAddr("phone"), strconv.Itoa(i), "x"))
		}
		if !m.at("a").hooks.late.has("node:phone") {
			t.Error("nothing was refused")
		}
		pass(10 * time.Second)
		wantTold(t, r.told(hook.Offline), "message.offline node:phone 1", "message.offline node:phone 2", "message.offline node:phone 3")
		if m.at("a").hooks.late.has("node:phone") {
			t.Error("what is in the outbox is still waited for")
		}
		alice.send(to(deviceAddr("phone"), "3", "x"))
		pass(10 * time.Second)
		wantTold(t, r.told(hook.Offline), "message.offline node:phone 1", "message.offline node:phone 2", "message.offline node:phone 3", "message.offline node:phone 4")
	})
}
