package node

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

// What a call with an Idempotency-Key makes is made once, whichever server is
// asked again, and the key of another device is another key.
func TestIdempotencyKey(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		type reply struct {
			SessionID string `json:"session_id"`
			ID, Log   string
			Seq       uint64
			Code      envelope.Code
		}
		call := func(who, at, path, body string, keys ...string) (got reply) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+m.mintNamed(who, who, who))
			for _, key := range keys {
				r.Header.Add("Idempotency-Key", key)
			}
			resp, err := m.network.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err == nil {
				err = json.Unmarshal(text, &got)
			}
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return got
		}
		const one, two = `"2f1b3c4d-0001"`, "2f1b3c4d-0002"

		made := call("ann", "a", "/v1/sessions", `{"member_limit":9}`, one)
		if len(made.SessionID) < 26 {
			t.Fatalf("%+v", made)
		}
		for _, at := range []string{"a", "b"} {
			if again := call("ann", at, "/v1/sessions", `{"member_limit":9}`, one); again != made {
				t.Errorf("at %s %+v, and first %+v", at, again, made)
			}
		}
		if other := call("ann", "a", "/v1/sessions", `{"member_limit":8}`, one); other.Code != envelope.Conflict {
			t.Errorf("with other settings %+v", other)
		}
		seen := map[string]bool{made.SessionID: true}
		for _, other := range []reply{
			call("ann", "a", "/v1/sessions", `{"member_limit":9}`, two),
			call("bob", "a", "/v1/sessions", `{"member_limit":9}`, one),
			call("ann", "a", "/v1/sessions", `{"member_limit":9}`),
			call("ann", "a", "/v1/sessions", `{"member_limit":9}`),
			call("ann", "a", "/v1/sessions", `{"session_id":"named"}`, one),
		} {
			if other.SessionID == "" || seen[other.SessionID] {
				t.Errorf("%+v is not another one", other)
			}
			seen[other.SessionID] = true
		}

		sent := call("ann", "a", "/v1/messages", `{"dest_id":"bob","payload":1}`, one)
		if sent.Seq != 1 || sent.ID != strings.Trim(one, `"`) {
			t.Fatalf("%+v", sent)
		}
		for _, test := range []struct {
			at, body, key string
			seq           uint64
			code          envelope.Code
		}{
			{"a", `{"dest_id":"bob","payload":1}`, one, 1, ""},
			{"b", `{"dest_id":"bob","payload":1}`, one, 1, ""},
			{"b", `{"dest_id":"bob","payload":2}`, one, 0, envelope.Conflict},
			{"b", `{"dest_id":"bob","payload":2}`, two, 2, ""},
			{"b", `{"dest_id":"bob","payload":2,"id":"mine"}`, two, 3, ""},
			{"b", `{"dest_id":"bob","payload":2,"id":"mine"}`, one, 3, ""},
		} {
			if got := call("ann", test.at, "/v1/messages", test.body, test.key); got.Seq != test.seq || got.Code != test.code {
				t.Errorf("%+v: %+v", test, got)
			}
		}
		for _, keys := range [][]string{{""}, {`"`}, {`""`}, {`"x`}, {"a b"}, {strings.Repeat("x", 129)}, {one, two}} {
			for path, body := range map[string]string{"/v1/sessions": "{}", "/v1/messages": `{"dest_id":"bob","payload":1}`} {
				if got := call("ann", "a", path, body, keys...); got.Code != envelope.BadRequest {
					t.Errorf("%s with %q: %+v", path, keys, got)
				}
			}
		}
	})
}
