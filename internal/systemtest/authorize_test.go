package systemtest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/hook/ask"
)

// The program asks a backend as it has been told to, signs with the secret of
// the file, and goes by the answers; without one it refuses for now.
func TestAuthorize(t *testing.T) {
	const secret = "a secret between the backend and the mesh"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := hook.Verify([]byte(secret), r.Header.Get(hook.SignatureHeader), body, time.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		var q ask.Question
		if err := json.Unmarshal(body, &q); err != nil || !q.Address.IsLoopback() {
			t.Errorf("asked %s, %v", body, err)
		}
		switch {
		case away.Load():
			w.WriteHeader(http.StatusBadGateway)
		case q.Action == ask.Join && q.Client != "ann":
			_, _ = io.WriteString(w, `{"allow":false,"reason":"ann's friends only"}`)
		default:
			_, _ = io.WriteString(w, `{"allow":true}`)
		}
	}))
	defer backend.Close()
	s := newServer(t, "--data", t.TempDir(), "--authorize-url="+backend.URL+"/may", "--authorize-secret-file="+file, "--authorize-cache=0s")

	call := func(who, path, body string) (int, string) {
		resp, text := request(t, http.MethodPost, s.url+path, body, "Authorization", "Bearer "+authKey(t, who))
		return resp.StatusCode, text
	}
	if status, text := call("ann", "/v1/sessions", `{"session_id":"room","anyone_can_join":true}`); status != http.StatusOK {
		t.Fatal(text)
	}
	for _, test := range []struct {
		who, path, body string
		status          int
		detail          string
	}{
		{"ann", "/v1/connect", "", http.StatusOK, ""},
		{"ann", "/v1/sessions/room/join", "", http.StatusOK, ""},
		{"bob", "/v1/connect", "", http.StatusOK, ""},
		{"bob", "/v1/sessions/room/join", "", http.StatusForbidden, "ann's friends only"},
		{"bob", "/v1/messages", `{"dest_id":"ann","payload":1}`, http.StatusOK, ""}, // about which nobody is asked
	} {
		if status, text := call(test.who, test.path, test.body); status != test.status || !strings.Contains(text, test.detail) {
			t.Errorf("%s %s: %d %s", test.who, test.path, status, text)
		}
	}
	away.Store(true)
	for _, who := range []string{"ann", "bob", "carl", "dora"} {
		if status, text := call(who, "/v1/connect", ""); status != http.StatusServiceUnavailable || !strings.Contains(text, `"retry_ms":`) {
			t.Errorf("%d %s", status, text)
		}
	}
	away.Store(false)
	eventually(t, 10*time.Second, func() error {
		if status, text := call("ann", "/v1/connect", ""); status != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
	resp, text := request(t, http.MethodGet, s.metrics+"/metrics", "")
	for _, line := range []string{
		`allspark_authorize_total{answer="denied"} 1`, `allspark_authorize_breaker_opened_total 1`, `allspark_authorize_breaker_open 0`,
		`allspark_authorize_failed_total{reason="no_answer"} 3`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s: no %s", resp.Status, line)
		}
	}
}
