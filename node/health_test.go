package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// The mesh says how each server is, as the server says it itself, and nothing of
// one that does not answer.
func TestHealth(t *testing.T) {
	seldom := func(c *Config) { c.Timing.PeerBeat = 2 * time.Second } // or the last sign of life is hardly late
	inMeshOf(t, 3, seldom, func(t *testing.T, m *mesh) {
		of := func() map[envelope.ServerID]gateway.MeshServer {
			all := make(map[envelope.ServerID]gateway.MeshServer)
			for _, s := range asApp[gateway.Mesh](m, "a", gateway.GetMesh{}).Servers {
				all[s.ID] = s
			}
			return all
		}
		for id, s := range of() {
			if s.Health == nil || len(s.Health.Links) != 2 || s.Age < 0 || s.Age > time.Minute {
				t.Fatalf("%s: %+v", id, s)
			}
			if s.Health.Ahead != 0 { // they share a clock
				t.Errorf("the clock of %s is ahead by %v", id, s.Health.Ahead)
			}
		}

		// What waits for a reader that does not read.
		m.raw("slow", "b").hello("")
		for i := range windowMessages + 20 {
			asApp[gateway.SentMany](m, "a", gateway.SendMany{
				Envelope: helloOfApp(fmt.Sprint(i), envelope.Durable), To: []gateway.Destination{{Node: "slow"}},
			})
		}
		m.within(time.Second, "b tells of it", func() bool {
			h := of()["b"].Health
			return h.Waiting > windowMessages/2 && h.Longest == h.Waiting && h.Behind == 1
		})

		// What waits for a server.
		m.peers.jam("a", "c", true)
		pass(3 * time.Second) // a sign of life at least has its way blocked
		jammed := func(l gateway.LinkHealth) bool { return l.Server == "c" && l.RoundTrip > 500*time.Millisecond }
		m.peers.jam("a", "c", false)
		m.within(5*time.Second, "a knows how long its word to c took", func() bool { return slices.ContainsFunc(m.at("a").Health().Links, jammed) })
		m.within(10*time.Second, "and that it takes no more", func() bool { return !slices.ContainsFunc(m.at("a").Health().Links, jammed) })

		m.cut("a", "c")
		m.cut("b", "c")
		start := time.Now()
		there := of()
		if s, is := there["c"]; is && s.Health != nil || there["b"].Health == nil {
			t.Errorf("%+v", there)
		}
		if took := time.Since(start); took > askWithin {
			t.Errorf("asking has taken %v", took)
		}
	})
}
