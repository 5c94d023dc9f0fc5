package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Who is put out of a session is told, by whom and how, as the last it hears
// there: at once on another server, when it comes back, and where only the last
// few members hear who leaves. Who leaves by itself knows.
func TestOustedAreTold(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		m.must("ann", "/v1/sessions", `{"session_id":"r","notify_only_last_few_users":1}`)
		here := m.device("tom", "tom", "b").connected(m)
		masked := m.device("max", "max", "c").connected(m)
		goes := m.device("pat", "pat", "c").connected(m)
		away := m.device("sam", "sam", "b").connected(m)
		m.must("tom", "/v1/sessions/r/join", "")
		m.must("max", "/v1/sessions/r/join", `{"alias":"zorro"}`)
		m.must("pat", "/v1/sessions/r/join", "")
		m.must("sam", "/v1/sessions/r/join", "")
		m.must("eve", "/v1/sessions/r/join", "")
		pass(time.Second)
		away.close()
		m.must("ann", "/v1/sessions/r/kick", `{"node_id":"tom"}`)
		m.must("ann", "/v1/sessions/r/ban", `{"node_id":"r~zorro"}`)
		m.must("ann", "/v1/sessions/r/kick", `{"node_id":"sam"}`)
		m.must("pat", "/v1/sessions/r/leave", "")
		pass(time.Second)
		back := m.device("sam", "sam", "a").connected(m)
		pass(time.Second)
		for _, tt := range []struct {
			id   string
			who  *device
			want string
		}{
			{"tom", here, `[tom "payload":{"by":"ann","reason":"kicked"}]`},
			{"max", masked, `[r~zorro "payload":{"by":"ann","reason":"banned"}]`},
			{"sam", back, `[sam "payload":{"by":"ann","reason":"kicked"}]`},
			{"pat", goes, `[]`},
		} {
			var told []string
			for _, e := range tt.who.messages() {
				if e.Type == envelope.TypeLeft {
					told = append(told, fmt.Sprintf("%s %s", e.SrcNode, e.Body))
				}
			}
			if fmt.Sprint(told) != tt.want {
				t.Errorf("%s was told %s, want %s", tt.id, told, tt.want)
			}
		}
	})
}
