package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// world is a network with servers, inside a bubble.
type world struct {
	t   *testing.T
	net *clienttest.Network
	end []func()
}

// inWorld runs f in a bubble of its own; what f starts with the world's methods
// is ended afterwards.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: new(clienttest.Network)}
		defer func() {
			for _, end := range slices.Backward(w.end) {
				end()
			}
		}()
		f(t, w)
	})
}

// serve starts a server as http://HOST.
func (w *world) serve(host string, s *clienttest.Server) (stop func()) {
	srv := &http.Server{Handler: s}
	l := w.net.Listen(host + ":80")
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	stop = sync.OnceFunc(func() {
		_ = srv.Close()
		wg.Wait()
	})
	w.end = append(w.end, stop)
	return stop
}

// start returns a client for device "bob" that connects in the background.
func (w *world) start(o client.Options) *client.Client {
	w.t.Helper()
	if o.Servers == nil {
		o.Servers = []string{"http://a"}
	}
	o.AuthKey = "bob"
	o.HTTPClient = w.net.Client()
	if o.Rand == nil {
		o.Rand = rand.NewPCG(1, 2)
	}
	c, err := client.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.end = append(w.end, func() { _ = c.Close(context.Background()) })
	return c
}

// receive takes n messages and returns their bodies.
func receive(t *testing.T, c *client.Client, n int) []string {
	t.Helper()
	var bodies []string
	for range n {
		m, err := c.Receive(t.Context())
		if err != nil {
			t.Fatalf("after %d messages: %v", len(bodies), err)
		}
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

// idle fails the test when c has a message to receive.
func idle(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if m, err := c.Receive(ctx); err == nil {
		t.Errorf("received %s %d %s", m.Dest(), m.Seq, m.Body)
	}
}

var bob = envelope.NodeID("bob").Address()

// toBob and toDevice return durable messages with the number n as their body.
func toBob(n int) envelope.Envelope { return toDevice("bob", n) }

func toDevice(d envelope.NodeID, n int) envelope.Envelope {
	return envelope.Envelope{ID: fmt.Sprintf("%s-%d", d, n), DestNode: d, Body: fmt.Appendf(nil, `"n":%d`, n)}
}

func bodies(from, to int) []string {
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf(`"n":%d`, n))
	}
	return all
}

// pass lets d go by in the bubble, and everything due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
