package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// What has outlived its time to live is delivered no more: not from a log, nor
// when it has waited for a slow reader, of whatever class it is. What comes
// after it is, and each of them is counted.
func TestTimeToLive(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		mixed := func(round string) {
			for i, class := range []envelope.Class{envelope.Durable, envelope.Volatile, envelope.Latest} {
				for _, ttl := range []int64{5, 60, 0} {
					name := fmt.Sprintf("%s%d-%d", round, i, ttl)
					e := to(deviceAddr("bob"), name, name)
					if e.Class, e.TTL = class, ttl; class == envelope.Latest {
						e.Key = fmt.Sprint(ttl)
					}
					alice.send(e)
					synctest.Wait() // what is not stored may overtake what is
				}
			}
		}
		late := func() uint64 { return m.at("a").Stats().Expired.Load() }

		mixed("away") // of which only the durable ones wait
		pass(10 * time.Second)
		bob := m.raw("bob", "a")
		bob.hello("")
		for _, want := range []string{"away0-60", "away0-0"} {
			bob.message(want)
		}
		bob.control("caught_up")
		if n := late(); n != 1 {
			t.Errorf("%d counted after the replay", n)
		}

		alice.send(to(deviceAddr("bob"), "stuck", "stuck"))
		synctest.Wait() // the writer waits for bob to read it
		mixed("slow")
		pass(10 * time.Second)
		for _, want := range []string{"stuck", "slow0-60", "slow0-0", "slow1-60", "slow1-0", "slow2-60", "slow2-0"} {
			bob.message(want)
		}
		if n := late(); n != 4 {
			t.Errorf("%d counted at the end", n)
		}
		bob.quiet(time.Second)
	})
}
