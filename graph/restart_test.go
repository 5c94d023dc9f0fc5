package graph

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// A server that has crashed and is started again gossips before it claims its
// record: it watches for a lease first whether the old one is alive. Whenever that is,
// and whether others have forgotten its address or not, they take it for alive then.
func TestRestartAfterCrash(t *testing.T) {
	for name, c := range map[string]struct{ from, to, step time.Duration }{
		"at once":        {1500 * time.Millisecond, 8 * time.Second, 130 * time.Millisecond},
		"when forgotten": {30 * time.Second, 38 * time.Second, 400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			for down := c.from; down < c.to; down += c.step {
				bubble(t, func(t *testing.T) { restartAfter(t, down) })
			}
		})
	}
}

// watching returns the view of a server that hears of another one, and what has it
// poll records that it finds, 2 s later each time.
func watching() (v *view, b Record, poll func(...Record)) {
	v = newView("a", 8*time.Second)
	b = Record{ID: "b", Boot: "boot", Beat: 1, Addr: "b:80", URL: "http://b", PeerURL: "ws://b/peer"}
	now := time.Now()
	return v, b, func(records ...Record) {
		now = now.Add(2 * time.Second)
		v.poll(records, now)
	}
}

// Gossip that comes long before the record says nothing against it.
func TestRecordAfterGossip(t *testing.T) {
	v, b, poll := watching()
	poll()
	if !v.gossip(b, false) || !v.isAlive("b", "boot") {
		t.Fatal("gossip did not begin a lease")
	}
	for range 5 {
		poll()
	}
	if v.isAlive("b", "boot") {
		t.Fatal("the lease lives on without a record")
	}
	poll(b)
	if !v.isAlive("b", "boot") {
		t.Error("b is not alive, with its record in the store")
	}
	b.Beat++
	poll(b)
	poll() // the record is gone
	poll(b)
	if v.isAlive("b", "boot") {
		t.Error("b is alive, although its record was gone")
	}
}

// It is swept when it dies later, also when it was swept before.
func TestSweptAgain(t *testing.T) {
	v, b, poll := watching()
	poll()
	v.gossip(b, false)
	for range 40 {
		poll()
	}
	for _, l := range v.leftovers() {
		v.swept(l.leaseKey)
	}
	for range 50 {
		poll(b)
	}
	if len(v.leftovers()) == 0 {
		t.Error("nobody cleans up after b")
	}
}

// While the janitor looks at what one dead server has left, another one comes
// back. Its record stays.
func TestBackWhileJanitorIsBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		var asked atomic.Int32
		a := start(t, "a", store, network, func(c *Config) {
			c.OnDead = func(ctx context.Context, _ Record) error {
				asked.Add(1)
				select {
				case <-time.After(2 * time.Minute):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		b, c := start(t, "b", store, network, nil), start(t, "c", store, network, nil)
		time.Sleep(10 * time.Second)
		b.store.setAway(true)
		c.store.setAway(true)
		for asked.Load() == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		b.store.setAway(false)
		c.store.setAway(false)
		time.Sleep(30 * time.Second)
		if !a.sees("a", "b", "c") {
			t.Fatal("they are not back")
		}
		boots := []string{b.Boot(), c.Boot()}
		time.Sleep(6 * time.Minute)
		if boots[0] != b.Boot() || boots[1] != c.Boot() {
			t.Error("the record of a living server was deleted")
		}
	})
}

func restartAfter(t *testing.T, down time.Duration) {
	store, network := newMemStore(), newMemNet()
	far := func(c *Config) { c.Gossip.Local = false }
	a := start(t, "a", store, network, far)
	time.Sleep(370 * time.Millisecond)
	join := func(c *Config) { far(c); c.Gossip.Join = []string{a.host.addr.String()} }
	d := start(t, "d", store, network, join)
	at := network.host()
	run := func() *Graph {
		c := testConfig("b", store.handle(), at)
		join(&c)
		b, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := run()
	ctx, kill := context.WithCancel(t.Context())
	go b.Run(ctx)
	time.Sleep(30 * time.Second)
	if !a.sees("a", "b", "d") || !d.sees("a", "b", "d") {
		t.Fatal("b is not taken for alive at first")
	}
	kill()
	b.Close()
	time.Sleep(down)
	network.mu.Lock()
	network.hosts[at.addr.String()] = at
	network.mu.Unlock()
	b = run()
	t.Cleanup(b.Close)
	go b.Run(t.Context())
	time.Sleep(30 * time.Second)
	if !a.sees("a", "b", "d") || !d.sees("a", "b", "d") {
		t.Errorf("30 s after it was started again, after %v, b is not taken for alive: by a %t, by d %t",
			down, a.sees("a", "b", "d"), d.sees("a", "b", "d"))
	}
}
