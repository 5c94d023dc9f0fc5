package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// The app sends to many devices by the original's call.
func TestLegacyPushMessage(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		app := m.mintApp("app")
		alice, bob := m.collector("alice", "a"), m.collector("bob", "b")
		pass(time.Second)
		for _, tt := range []struct {
			name, key, to, payload string
			status                 int
			body                   string // or the code
		}{
			{"from the app", app, `["alice","bob"]`, `{"id":"1","payload":"<one>"}`, 200, "ok"},
			{"again", app, `["alice","bob"]`, `{"id":"1","payload":"<one>"}`, 200, "ok"},
			{"in another's name", app, `["bob"]`, `{"id":"2","src_id":"carol","timestamp":1475238418310,"type":4,"payload":"two","dest_id":"x"}`, 200, "ok"},
			{"a user alone is nobody", app, `["bob"]`, `{"id":"3","src_client_id":"carol","payload":"three"}`, 200, "ok"},
			{"another message of that id", app, `["bob"]`, `{"id":"1","payload":"else"}`, 409, "conflict"},
			{"not the app", m.mint("eve", "eve", time.Hour), `["bob"]`, `{"payload":"spam"}`, 403, "forbidden"},
			{"to nobody", app, `[]`, `{"payload":"x"}`, 400, "bad_request"},
			{"to a name", app, `"bob"`, `{"payload":"x"}`, 400, "bad_request"},
			{"to a bad id", app, `["a b"]`, `{"payload":"x"}`, 400, "bad_request"},
			{"nothing", app, `["bob"]`, ``, 400, "bad_request"},
			{"null", app, `["bob"]`, `null`, 400, "bad_request"},
			{"a list", app, `["bob"]`, `[1]`, 400, "bad_request"},
			{"a system message", app, `["bob"]`, `{"type":100,"payload":"x"}`, 400, "bad_request"},
			{"a request", app, `["bob"]`, `{"type":-101,"payload":"x"}`, 400, "bad_request"},
			{"as an alias", app, `["bob"]`, `{"src_id":"room~zorro","payload":"x"}`, 400, "bad_request"},
		} {
			status, body := m.legacyCallWith(tt.key, "a", "push_message", "to_nodes="+tt.to, "payload="+tt.payload)
			var refusal struct{ Code string }
			if status >= 400 && json.Unmarshal([]byte(body), &refusal) == nil {
				body = refusal.Code
			}
			if status != tt.status || body != tt.body {
				t.Errorf("%s: got %d %s, want %d %s", tt.name, status, body, tt.status, tt.body)
			}
		}
		pass(3 * time.Second)
		for _, tt := range []struct {
			who  *collector
			want []string
		}{
			{alice, []string{"0 app/app <one>"}},
			{bob, []string{"0 app/app <one>", "4 carol/carol two", "0 app/app three"}},
		} {
			var got []string
			for _, f := range tt.who.frames() {
				got = append(got, fmt.Sprintf("%d %s/%s %s", f.msg.Type, f.msg.SrcNode, f.msg.SrcClient, text(f.msg)))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		}
		if status, _ := m.fetch(http.MethodGet, "http://a/push_message?auth_key=x", nil); status != envelope.Unauthorized.HTTPStatus() {
			t.Errorf("without a credential: %d", status)
		}
	})
}
