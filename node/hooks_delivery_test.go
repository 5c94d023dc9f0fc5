package node

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
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
				time.Sleep(time.Hour)
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
		pass(2 * time.Hour)
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

func TestHooksReplay(t *testing.T) {
	inHookMesh(t, 2, func(t *testing.T, m *mesh, r *receiver) {
		a, p := m.at("a"), hook.Partition("node:phone")
		for i := range 250 {
			a.hooks.tell(hook.Event{Type: hook.PushFailed, Subject: "node:phone", Reason: strconv.Itoa(i)})
		}
		pass(5 * time.Second)
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		if _, err := m.at("b").Do(t.Context(), app, gateway.ReplayHooks{Partition: p, After: 20}); err != nil {
			t.Fatal(err)
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
			p    int
			want envelope.Code
		}{
			"not the app":       {envelope.Principal{Node: "x", Client: "x"}, 0, envelope.Forbidden},
			"no such partition": {app, hook.Partitions, envelope.BadRequest},
			"below 0":           {app, -1, envelope.BadRequest},
		} {
			if _, err := a.Do(t.Context(), try.who, gateway.ReplayHooks{Partition: try.p}); envelope.CodeOf(err) != try.want {
				t.Errorf("%s: %v, want %s", name, err, try.want)
			}
		}
	})
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
