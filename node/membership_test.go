package node

import (
	"net/http"
	"strings"
	"testing"
)

// Whatever finds the owner as it is says that it is the owner.
func TestOwnersRoleIsTold(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		m.must("ann", "/v1/sessions", `{"session_id":"r","kind":"game","as_anonymous":true,"alias":"zorro"}`)
		m.must("tom", "/v1/sessions/r/join", "")
		for _, tt := range []struct{ device, call, body, want string }{
			{theApp, "invite", `{"node_id":"r~zorro"}`, `"role":"owner"`},
			{theApp, "unban", `{"node_id":"r~zorro"}`, `"role":"owner"`},
			{theApp, "master", `{"node_id":"r~zorro"}`, `"role":"owner"`},
			{"ann", "reveal", "", `"role":"owner"`},
			{"ann", "transfer", `{"node_id":"tom"}`, `"role":"owner"`},
			{"ann", "transfer", `{"node_id":"tom"}`, `"role":"owner"`},
			{"tom", "invite", `{"node_id":"r~zorro"}`, `"role":"moderator"`},
		} {
			if code, text := m.do(http.MethodPost, tt.device, "a", "/v1/sessions/r/"+tt.call, tt.body); code != "" || !strings.Contains(text, tt.want) {
				t.Errorf("%s %s by %s: %q %s", tt.call, tt.body, tt.device, code, text)
			}
		}
	})
}
