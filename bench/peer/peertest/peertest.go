// Package peertest is what every driver promises, as one test that drives the
// real server.
package peertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// patience is how long something may take that is to happen.
const patience = 30 * time.Second

// bodySize is that of the scenarios' messages.
const bodySize = 200

// Need fails the test unless the programs can be found. find is called with each name.
func Need(t *testing.T, find func(name string) (string, error), names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := find(name); err != nil {
			t.Fatal(err)
		}
	}
}

// Run starts a target and tests all that it says it can do.
func Run(t *testing.T, target peer.Target) {
	loop, err := wire.NewLoop(1)
	if err != nil {
		t.Fatal(err)
	}
	env := peer.Env{Dir: directory(t), Loop: loop}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	if err := target.Start(ctx, env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(loop.Close(), target.Stop()); err != nil {
			t.Error(err)
		}
	})
	about := target.About()
	t.Logf("%+v", about)
	if about.Name == "" || about.Title == "" || about.Version == "" || about.Settings == "" || about.Can.Servers < 1 {
		t.Error("the target does not say what it is")
	}
	for _, pid := range target.PIDs() {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			t.Error(err)
		}
	}
	s := &suite{ctx: ctx, target: target}
	can := about.Can
	for _, part := range []struct {
		name string
		can  bool
		test func(*testing.T)
	}{
		{"volatile", can.Volatile, s.volatile},
		{"many at once", can.Volatile, s.burst},
		{"topic", can.Topics, s.topic},
		{"accepted", can.Durable || can.Offline, s.accepted},
		{"offline", can.Offline, s.offline},
		{"group", can.Groups, s.group},
		{"no group", !can.Groups, s.noGroup},
	} {
		if part.can {
			t.Run(part.name, part.test)
		}
	}
}

// directory is t.TempDir that a server under another account can enter.
func directory(t *testing.T) string {
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type suite struct {
	ctx    context.Context
	target peer.Target
}

// inbox is what came on one connection.
type inbox struct {
	mu       sync.Mutex
	bodies   []string
	accepted []uint64
	refused  []string
	closed   error
	changed  chan struct{}
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{}, 1)} }

func (i *inbox) change(f func()) {
	i.mu.Lock()
	f()
	i.mu.Unlock()
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

func (i *inbox) handler() peer.Handler {
	return peer.Handler{
		Message:  func(body []byte) { i.change(func() { i.bodies = append(i.bodies, string(body)) }) },
		Accepted: func(tag uint64) { i.change(func() { i.accepted = append(i.accepted, tag) }) },
		Refused:  func(tag uint64, why string) { i.change(func() { i.refused = append(i.refused, fmt.Sprint(tag, why)) }) },
		Closed:   func(err error) { i.change(func() { i.closed = err }) },
	}
}

// await waits until done, which may look at everything.
func (i *inbox) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		i.mu.Lock()
		ok := done()
		i.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-i.changed:
		case <-limit:
			i.mu.Lock()
			defer i.mu.Unlock()
			t.Fatalf("%s: %d messages, %d accepted, refused %v, closed: %v",
				what, len(i.bodies), len(i.accepted), i.refused, i.closed)
		}
	}
}

func (i *inbox) has(bodies ...string) func() bool {
	return func() bool { return len(i.bodies) >= len(bodies) && slices.Equal(i.bodies, bodies) }
}

// covers is has for what may come in any order, and more than once: what a
// user who leaves has got but not yet acknowledged.
func (i *inbox) covers(bodies ...string) func() bool {
	return func() bool {
		missing := func(b string) bool { return !slices.Contains(i.bodies, b) }
		return !slices.ContainsFunc(bodies, missing)
	}
}

func (s *suite) connect(t *testing.T, u peer.User) (peer.Client, *inbox) {
	t.Helper()
	i := newInbox()
	c, err := s.target.Connect(s.ctx, u, i.handler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, i
}

func body(what string) string { return what + " " + strings.Repeat("x", bodySize-len(what)-1) }

func (s *suite) send(t *testing.T, c peer.Client, to, b string, tag uint64) {
	t.Helper()
	if err := c.Send(to, peer.Message{Body: []byte(b), Durable: tag > 0, Tag: tag}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) volatile(t *testing.T) {
	a, ai := s.connect(t, peer.User{Name: "v-alice"})
	b, bi := s.connect(t, peer.User{Name: "v-bob", Index: 1})
	s.send(t, a, "v-bob", body("one"), 0)
	bi.await(t, "bob", bi.has(body("one")))
	s.send(t, b, "v-alice", body("two"), 0)
	ai.await(t, "alice", ai.has(body("two")))
	bi.await(t, "bob", bi.has(body("one")))
}

// burst sends more than fits into one frame or one read.
func (s *suite) burst(t *testing.T) {
	const n = 200
	a, _ := s.connect(t, peer.User{Name: "b-alice"})
	_, bi := s.connect(t, peer.User{Name: "b-bob", Index: 1})
	var want []string
	for k := range n {
		want = append(want, body(fmt.Sprint(k)))
		s.send(t, a, "b-bob", want[k], 0)
	}
	bi.await(t, "bob", bi.has(want...))
}

func (s *suite) topic(t *testing.T) {
	a, _ := s.connect(t, peer.User{Name: "t-alice"})
	_, bi := s.connect(t, peer.User{Name: "t-bob", Index: 1, Topics: []string{"news", "t-more"}})
	_, ci := s.connect(t, peer.User{Name: "t-carol", Index: 2, Topics: []string{"news"}})
	for _, m := range []struct{ topic, body string }{{"t-more", body("bob only")}, {"news", body("both")}} {
		if err := a.Publish(m.topic, peer.Message{Body: []byte(m.body)}); err != nil {
			t.Fatal(err)
		}
	}
	bi.await(t, "bob", bi.covers(body("bob only"), body("both")))
	ci.await(t, "carol", ci.has(body("both")))
}

func (s *suite) accepted(t *testing.T) {
	const n = 50
	a, ai := s.connect(t, peer.User{Name: "d-alice", Durable: true})
	_, bi := s.connect(t, peer.User{Name: "d-bob", Index: 1, Durable: true})
	var want []string
	for k := range n {
		want = append(want, body(fmt.Sprint(k)))
		s.send(t, a, "d-bob", want[k], uint64(k+1))
	}
	bi.await(t, "bob", bi.has(want...))
	ai.await(t, "alice", func() bool { return len(ai.accepted) == n })
	ai.mu.Lock()
	defer ai.mu.Unlock()
	slices.Sort(ai.accepted)
	if len(slices.Compact(ai.accepted)) != n || len(ai.refused) > 0 {
		t.Errorf("accepted %v, refused %v", ai.accepted, ai.refused)
	}
}

// offline: what was sent to a user who is away comes when the user is back.
func (s *suite) offline(t *testing.T) {
	const n = 200
	a, ai := s.connect(t, peer.User{Name: "o-alice", Durable: true})
	bob := peer.User{Name: "o-bob", Index: 1, Durable: true}
	b, bi := s.connect(t, bob)
	s.send(t, a, "o-bob", body("before"), 1)
	bi.await(t, "bob", bi.has(body("before")))
	ai.await(t, "alice", func() bool { return len(ai.accepted) == 1 })
	leave(t, b)
	var want []string
	for k := range n {
		want = append(want, body(fmt.Sprint(k)))
		s.send(t, a, "o-bob", want[k], uint64(k+2))
	}
	ai.await(t, "alice", func() bool { return len(ai.accepted) == n+1 })
	_, bi = s.connect(t, bob)
	bi.await(t, "bob is back", bi.covers(want...))
}

// leave closes a connection and gives the server the time to notice, which
// nothing tells. What is sent before that may be lost by some.
func leave(t *testing.T, c peer.Client) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-time.After(500 * time.Millisecond)
}

func (s *suite) group(t *testing.T) {
	alice, bob, carol := peer.User{Name: "g-alice", Durable: true}, peer.User{Name: "g-bob", Index: 1, Durable: true}, peer.User{Name: "g-carol", Index: 2, Durable: true}
	c, ci := s.connect(t, carol) // has been there once
	if err := s.target.Group(s.ctx, "friends", []string{alice.Name, bob.Name, carol.Name}); err != nil {
		t.Fatal(err)
	}
	a, ai := s.connect(t, alice)
	_, bi := s.connect(t, bob)
	publish := func(b string, tag uint64) {
		t.Helper()
		if err := a.Publish("friends", peer.Message{Body: []byte(b), Durable: true, Tag: tag}); err != nil {
			t.Fatal(err)
		}
		ai.await(t, "alice", func() bool { return len(ai.accepted) == int(tag) })
	}
	publish(body("one"), 1)
	bi.await(t, "bob", bi.has(body("one")))
	ci.await(t, "carol", ci.has(body("one")))
	leave(t, c)
	publish(body("two"), 2)
	publish(body("three"), 3)
	bi.await(t, "bob", bi.has(body("one"), body("two"), body("three")))
	_, ci = s.connect(t, carol)
	ci.await(t, "carol is back", ci.covers(body("two"), body("three")))
}

func (s *suite) noGroup(t *testing.T) {
	if err := s.target.Group(s.ctx, "friends", nil); !errors.Is(err, peer.ErrCannot) {
		t.Errorf("a group that cannot be: %v", err)
	}
}
