package client_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// TestOrderHoldsWhateverHappens has a server that refuses at random, then holds
// the destination until the refused message comes again, forgets to answer, and
// breaks connections. All messages must end up in their logs once, in the order
// of the calls, and everything sent to the client must reach it once, in order.
func TestOrderHoldsWhateverHappens(t *testing.T) {
	for seed := range uint64(30) {
		inWorld(t, func(t *testing.T, w *world) {
			const messages, devices = 300, 3
			chance := rand.New(rand.NewPCG(seed, 0)) // used by one goroutine at a time: one connection
			held := make(map[string]string)          // destination to the id refused, on this connection
			s := new(clienttest.Server)
			s.OnHello = func(*clienttest.Conn, envelope.Control) { clear(held) }
			s.OnMessage = func(c *clienttest.Conn, e envelope.Envelope) bool {
				to := string(e.DestNode)
				if id := held[to]; id != "" && id != e.ID {
					c.WriteControl(nack(e, envelope.Busy, 10*time.Millisecond))
					return true
				}
				delete(held, to)
				switch n := chance.IntN(100); {
				case n < 5:
					held[to] = e.ID
					c.WriteControl(nack(e, envelope.Busy, time.Duration(chance.IntN(100))*time.Millisecond))
					return true
				case n < 6:
					c.Abort() // stored, and never answered
				}
				return false
			}
			w.serve("a", s)
			c := w.start(client.Options{MaxInflight: 1 + int(seed)*3, Rand: rand.NewPCG(seed, 1)})
			for n := range messages {
				s.Deliver(toBob(n + 1))
			}
			go func() {
				for n := range messages {
					e := toDevice(envelope.NodeID(fmt.Sprintf("d%d", n%devices)), n)
					if err := c.SendAsync(t.Context(), e, func(_ client.Ack, err error) {
						if err != nil {
							t.Errorf("seed %d: message %d: %v", seed, n, err)
						}
					}); err != nil {
						t.Error(err)
					}
				}
			}()
			if got := receive(t, c, messages); !slices.Equal(got, bodies(1, messages)) {
				t.Errorf("seed %d: received %v", seed, got)
			}
			pass(10 * time.Minute)
			for d := range devices {
				var want []string
				for n := d; n < messages; n += devices {
					want = append(want, fmt.Sprintf(`"n":%d`, n))
				}
				got := s.Log(envelope.NodeID(fmt.Sprintf("d%d", d)).Address())
				if !slices.Equal(got, want) {
					t.Errorf("seed %d, d%d:\ngot  %v\nwant %v", seed, d, got, want)
				}
			}
			synctest.Wait()
		})
	}
}
