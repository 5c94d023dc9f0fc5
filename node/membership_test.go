package node

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
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

// What it takes to join a session does not depend on how many others the device
// is in: its connection looks at that one alone.
func TestJoiningLooksAtOneSession(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.client("bob", "b").connected(m)
		count := func(asked map[string]int) {
			m.at("b").store.set(func(f *faultyStore) {
				if f.before = nil; asked == nil {
					return
				}
				f.before = func(op string) error {
					f.mu.Lock()
					defer f.mu.Unlock()
					asked[op]++
					return nil
				}
			})
		}
		const sessions = maxUnlooked / 2
		var first, last map[string]int
		for i := range sessions {
			last = make(map[string]int)
			count(last)
			m.must("alice", "/v1/sessions", fmt.Sprintf(`{"session_id":"r%d"}`, i))
			m.must("bob", fmt.Sprintf("/v1/sessions/r%d/join", i), "")
			pass(100 * time.Millisecond)
			if i == 0 {
				first = last
			}
		}
		count(nil)
		if last["memberships"] != 0 || last["cursors"] != 0 || last["member"] > first["member"] {
			t.Errorf("the store was asked %v for the first, %v for the last", first, last)
		}
		m.must("alice", "/v1/messages", `{"id":"1","dest_session_id":"r0","payload":"one"}`)
		m.must("alice", "/v1/messages", fmt.Sprintf(`{"id":"2","dest_session_id":"r%d","payload":"two"}`, sessions-1))
		m.within(time.Second, "both arrive", func() bool {
			got := strings.Join(bob.payloads(), " ")
			return strings.Contains(got, "one") && strings.Contains(got, "two")
		})
	})
}
