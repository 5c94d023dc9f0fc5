package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// A client that is told goodbye and dies before it has read it is gone at once, not
// when Stall is over.
func TestResetAfterGoodbye(t *testing.T) {
	m := newMesh(t, 1, nil, false)
	defer m.close()
	where := m.listenLooped("a")
	slow, _ := m.dialLooped(where, "slow", "topic:t")
	c := m.at("a").conns.device("slow")
	alice := m.raw("alice", "a")
	alice.hello("")
	filler := strings.Repeat("x", 512<<10)
	for i := 0; !c.blocked.Load(); i++ { // until the network takes no more
		if i == 200 {
			t.Fatal("it is not slow")
		}
		alice.send(fmt.Sprintf(`{"dest_id":"slow","class":"volatile","payload":%q}`, filler))
		time.Sleep(time.Millisecond)
	}
	c.close(envelope.GoingAway, "the server is shutting down")
	time.Sleep(50 * time.Millisecond) // now somebody waits for room to say it
	_ = slow.SetLinger(0)
	_ = slow.Close()
	m.within(10*time.Second, "it is gone", func() bool { return m.at("a").conns.device("slow") == nil })
}
