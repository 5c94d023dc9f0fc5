package node

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// The Go client's questions and subscriptions against real servers, over a
// reconnect to another one.
func TestClientPresence(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		var mu sync.Mutex
		var heard []envelope.Presence
		alice := m.deviceWith("alice", "alice", client.Options{OnPresence: func(of []envelope.Presence) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, of...)
		}}).connected(m)
		online := func() (got []bool) { // of bob, as told since the last call
			m.settle()
			mu.Lock()
			defer mu.Unlock()
			for _, p := range heard {
				if p.Client == "bob" {
					got = append(got, p.Online)
				}
			}
			heard = nil
			return got
		}
		want := func(what string, want ...bool) {
			t.Helper()
			pass(10 * time.Second)
			if got := online(); !slices.Equal(got, want) {
				t.Errorf("%s: told %v, want %v", what, got, want)
			}
		}
		bob := m.client("bob", "b").connected(m)
		pass(time.Second)
		of, err := alice.Presence(t.Context(), "nobody", "bob")
		if err != nil || len(of) != 2 || of[0] != (envelope.Presence{Client: "nobody"}) || !of[1].Online {
			t.Errorf("got %v, %v", of, err)
		}
		online()
		alice.SubscribePresence("bob")
		want("at first", true)
		bob.close()
		want("gone", false)

		at := "a"
		if m.at("a").conns.device("alice") == nil {
			at = "b"
		}
		m.at(at).conns.device("alice").t.Abort()
		want("after a reconnect", false)
		m.client("bob", "a").connected(m)
		want("back", true)
		alice.UnsubscribePresence("bob")
		pass(time.Second)
		m.devices[len(m.devices)-1].close()
		want("not followed any more")
	})
}
