package node

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/gateway"
)

// What a device sends after it has joined by its alias goes by that, also at a
// server that has not heard yet that it is not there by its name any more; and
// the other way round.
func TestAliasOfNow(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("canary", "/v1/sessions/r/join", "")
		canary := m.listens("canary", "b")
		m.cut("a", "b")
		m.says(canary, "one", "canary")
		m.must("canary", "/v1/sessions/r/leave", "")
		m.joinAs("zorro")
		m.says(canary, "two", "r~zorro")
		m.must("canary", "/v1/sessions/r/leave", "")
		m.must("canary", "/v1/sessions/r/join", "")
		m.says(canary, "three", "canary")
	})
}

// The same when the app adds the device by its other name.
func TestAliasOfNowAdded(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		m.must("alice", "/v1/sessions", `{"session_id":"r"}`)
		m.must("canary", "/v1/sessions/r/join", "")
		canary := m.listens("canary", "b")
		m.cut("a", "b")
		add := func(as gateway.Alias) {
			t.Helper()
			asApp[gateway.MemberInfo](m, "a", gateway.ChangeMember{ID: "r", Action: gateway.Add, Node: "canary", Client: "canary", As: as})
		}
		m.says(canary, "one", "canary")
		m.must("canary", "/v1/sessions/r/leave", "")
		add(gateway.Alias{Anonymous: true, Name: "zorro"})
		m.says(canary, "two", "r~zorro")
		m.must("canary", "/v1/sessions/r/leave", "")
		add(gateway.Alias{})
		m.says(canary, "three", "canary")
	})
}

// The same when it comes back by repeating the call that made the session.
func TestAliasOfNowCreatedAgain(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		const create = `{"session_id":"r","as_anonymous":true,"alias":"zorro"}`
		m.must("canary", "/v1/sessions", create)
		m.must("canary", "/v1/sessions/r/leave", "")
		m.must("alice", "/v1/sessions/r/join", "")
		canary := m.listens("canary", "b")
		m.must("canary", "/v1/sessions/r/join", "")
		m.cut("a", "b")
		m.says(canary, "one", "canary")
		m.must("canary", "/v1/sessions/r/leave", "")
		m.must("canary", "/v1/sessions", create)
		m.says(canary, "two", "r~zorro")
	})
}

// says has canary send a message to the session r, where it must show as by that name.
func (m *mesh) says(canary *listener, payload, by string) {
	m.t.Helper()
	canary.send(fmt.Sprintf(`{"id":%q,"dest_session_id":"r","payload":%q}`, payload, payload))
	canary.take()
	_, page := m.do(http.MethodGet, "alice", "a", "/v1/messages?log=session:r", "")
	at := strings.Index(page, fmt.Sprintf(`"id":%q`, payload))
	if at < 0 || !strings.HasPrefix(page[at:], fmt.Sprintf(`"id":%q,"dest_session_id":"r","src_id":%q`, payload, by)) {
		m.t.Errorf("%q is not by %s:\n%s", payload, by, page)
	}
}
