package graph

import (
	"context"
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

// Gossip that comes long before the record says nothing against it.
func TestRecordAfterGossip(t *testing.T) {
	v := newView("a", 8*time.Second)
	b := Record{ID: "b", Boot: "boot", Beat: 1, Addr: "b:80", URL: "http://b", PeerURL: "ws://b/peer"}
	now := time.Now()
	poll := func(records ...Record) {
		now = now.Add(2 * time.Second)
		v.poll(records, now)
	}
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
