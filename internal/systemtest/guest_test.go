package systemtest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// request makes a call with header fields, given as names and values in turn.
func request(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// A page of another origin does all that a guest can, by what browsers let it.
func TestGuestOfAPage(t *testing.T) {
	const page, evil = "https://app.example", "https://evil.example"
	s := newServer(t, "--data", t.TempDir(), "--guests", "--guest-ttl=1h", "--guest-rate=1", "--origins=app.example")
	alice := &client.API{Servers: []string{s.url}, AuthKey: keyOf(authKey(t, "alice"))}
	if _, err := alice.CreateSession(t.Context(), "lobby", envelope.Settings{}); err != nil {
		t.Fatal(err)
	}

	// fromPage calls as a browser does for a page, and fails where it would.
	fromPage := func(method, path, body, key string) string {
		t.Helper()
		header := []string{"Origin", page}
		if key != "" {
			header = append(header, "Authorization", "Bearer "+key, "Content-Type", "application/json")
			resp, _ := request(t, http.MethodOptions, s.url+path, "", "Origin", page,
				"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type")
			h := resp.Header
			if resp.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != page ||
				!strings.Contains(h.Get("Access-Control-Allow-Methods"), method) ||
				!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
				t.Errorf("%s %s: the preflight is answered with %s %v", method, path, resp.Status, h)
			}
		}
		resp, text := request(t, method, s.url+path, body, header...)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != page {
			t.Errorf("%s %s: %s %v %s", method, path, resp.Status, resp.Header, text)
		}
		return text
	}
	var guest client.Guest
	if err := json.Unmarshal([]byte(fromPage(http.MethodPost, "/v1/guests", "", "")), &guest); err != nil || guest.Lasts().Round(time.Minute) != time.Hour {
		t.Fatalf("%+v, %v", guest, err)
	}
	fromPage(http.MethodPost, "/v1/sessions/lobby/join", `{"alias":"zorro"}`, guest.AuthKey)
	fromPage(http.MethodGet, "/v1/sessions/lobby", "", guest.AuthKey)
	fromPage(http.MethodPost, "/v1/messages", `{"id":"1","dest_session_id":"lobby","payload":"hi"}`, guest.AuthKey)
	fromPage(http.MethodGet, "/v1/poll?wait=0s", "", guest.AuthKey)

	token := func() string {
		t.Helper()
		var where struct{ Servers []client.Node }
		if err := json.Unmarshal([]byte(fromPage(http.MethodPost, "/v1/connect", "", guest.AuthKey)), &where); err != nil || len(where.Servers) != 1 {
			t.Fatalf("%+v, %v", where, err)
		}
		return where.Servers[0].ValidationToken
	}
	for origin, status := range map[string]int{page: http.StatusSwitchingProtocols, evil: http.StatusForbidden} {
		ws, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+"/ws", &websocket.DialOptions{
			Subprotocols: []string{"allspark.v2.json", "bearer." + token()}, HTTPHeader: http.Header{"Origin": {origin}},
		})
		if resp == nil || resp.StatusCode != status {
			t.Errorf("a page of %s: %v", origin, err)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
	resp, _ := request(t, http.MethodPost, s.url+"/v1/guests", "", "Origin", evil)
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a page of another origin reads its guest's key: %q", got)
	}

	// Refusals can be read as well. With one a second, five were made at once.
	var text string
	for range 6 {
		if resp, text = request(t, http.MethodPost, s.url+"/v1/guests", "", "Origin", page); resp.StatusCode != http.StatusOK {
			break
		}
	}
	if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(text, `"code":"rate_limited"`) || !strings.Contains(text, `"retry_ms":`) ||
		resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("%s %v %s", resp.Status, resp.Header, text)
	}

	// The identity outlives the process, because the mesh key does.
	s.signal(syscall.SIGTERM)
	s.wait(20 * time.Second)
	for _, part := range strings.Split(guest.AuthKey, ".")[1:] {
		if strings.Contains(s.log.String(), part) {
			t.Error("a guest's key is in the log")
		}
	}
	s.start()
	s.waitReady()
	if text := fromPage(http.MethodGet, "/v1/sessions/lobby", "", guest.AuthKey); !strings.Contains(text, `"node_id":"lobby~zorro"`) {
		t.Errorf("after a restart: %s", text)
	}
}

// Without --guests there are none, whatever the key says.
func TestNoGuests(t *testing.T) {
	s := newServer(t, "--data", t.TempDir(), "--guests")
	guest, err := (&client.API{Servers: []string{s.url}}).Guest(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.kill()
	s = newServer(t, "--data", t.TempDir())
	if _, err := (&client.API{Servers: []string{s.url}}).Guest(t.Context(), ""); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("a guest where there are none: %v", err)
	}
	_, err = (&client.API{Servers: []string{s.url}, AuthKey: keyOf(guest.AuthKey)}).JoinSession(t.Context(), "lobby")
	if envelope.CodeOf(err) != envelope.Unauthorized {
		t.Errorf("a guest's key where there are none: %v", err)
	}
}

// keyOf returns what gives a client that key.
func keyOf(key string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return key, nil }
}
