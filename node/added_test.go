package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// Who is made a member by the app need not have heard of the session: a message
// in its own log says so, once, whether it is there or comes back.
func TestAddedAreTold(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("ann", "/v1/sessions", `{"session_id":"r"}`)
		here := m.device("tom", "tom", "b").connected(m)
		for range 2 { // a call that fails is made again
			for _, id := range []envelope.NodeID{"tom", "sam"} {
				if _, err := m.app("a", gateway.ChangeMember{ID: "r", Action: gateway.Add, Node: id, Client: envelope.ClientID(id)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := m.app("a", gateway.ChangeMember{ID: "r", Action: gateway.Add, Node: "ann", Client: "ann"}); err != nil {
			t.Fatal(err) // who has come by herself is not told
		}
		away := m.device("sam", "sam", "a").connected(m)
		ann := m.device("ann", "ann", "a").connected(m)
		pass(time.Second)
		for id, d := range map[string]*device{"tom": here, "sam": away, "ann": ann} {
			var told []string
			for _, e := range d.messages() {
				if e.Type == envelope.TypeJoined && e.DestNode != "" {
					told = append(told, fmt.Sprintf("%s %s: %s", e.DestSession, e.SrcNode, e.Body))
				}
			}
			want := fmt.Sprintf(`[r %s: "payload":{"by":"backend","reason":"added"}]`, id)
			if d == ann {
				want = "[]"
			}
			if fmt.Sprint(told) != want {
				t.Errorf("%s is told %s, want %s", id, told, want)
			}
		}
	})
}
