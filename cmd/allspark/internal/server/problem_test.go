package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// mintKey returns an auth key of a user that is good for a minute.
func mintKey(t *testing.T, client envelope.ClientID) string {
	t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(strings.Repeat("s", 32))}, auth.Claims{
		Client: client, Issued: time.Now(), Expires: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Whatever is refused, by whichever part of the server, is refused with a
// problem document (RFC 9457) that says what the status says.
func TestEveryRefusalIsAProblem(t *testing.T) {
	s := started(t, func(c *config.Config) { c.MaxFrameBytes = 64 << 10 })
	key := mintKey(t, "ann")
	ticket := func() string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/connect", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var reply struct {
			Servers []struct {
				Token string `json:"validation_token"`
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || len(reply.Servers) != 1 {
			t.Fatalf("%+v, %v", reply, err)
		}
		return reply.Servers[0].Token
	}
	socket := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for name, test := range map[string]struct {
		call   string
		body   string
		header []string
		status int
		code   envelope.Code
		allow  string
	}{
		"no page":                  {"GET /nothing", "", nil, 404, envelope.NotFound, ""},
		"the root":                 {"GET /", "", nil, 404, envelope.NotFound, ""},
		"no call":                  {"GET /v1/nothing", "", nil, 404, envelope.NotFound, ""},
		"no call below one":        {"POST /v1/connect/more", "", nil, 404, envelope.NotFound, ""},
		"method":                   {"DELETE /v1/messages", "", nil, 405, envelope.BadRequest, "GET, POST"},
		"method of a path with id": {"PUT /v1/sessions/room", "", nil, 405, envelope.BadRequest, "GET, PATCH"},
		"method of a stream":       {"POST /v1/stream", "", nil, 405, envelope.BadRequest, "GET"},
		"method of a socket":       {"POST /ws", "", nil, 405, envelope.BadRequest, "GET"},
		"method of a legacy call":  {"PUT /create_session", "", nil, 405, envelope.BadRequest, "GET, POST"},
		"unknown method":           {"BREW /v1/messages", "", nil, 405, envelope.BadRequest, "GET, POST"},
		"large body":               {"POST /v1/sessions", `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, envelope.TooLarge, ""},
		"large message":            {"POST /v1/messages", `{"dest_id":"x","payload":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, envelope.TooLarge, ""},
		"not JSON":                 {"POST /v1/sessions", "a: b", []string{"Content-Type", "application/yaml"}, 415, envelope.BadRequest, ""},
		"no type at all":           {"POST /v1/sessions", "{}", []string{"Content-Type", ";"}, 415, envelope.BadRequest, ""},
		"broken JSON":              {"POST /v1/sessions", "{", nil, 400, envelope.BadRequest, ""},
		"no credential":            {"GET /v1/presence", "", []string{"Authorization", ""}, 401, envelope.Unauthorized, ""},
		"not the app":              {"GET /v1/mesh", "", nil, 403, envelope.Forbidden, ""},
		"stream without":           {"GET /v1/stream", "", []string{"Authorization", ""}, 401, envelope.Unauthorized, ""},
		"poll with bad wait":       {"GET /v1/poll?wait=long", "", nil, 400, envelope.BadRequest, ""},
		"legacy without":           {"GET /create_session", "", nil, 401, envelope.Unauthorized, ""},
		"legacy connect without":   {"GET /connectV3", "", nil, 401, envelope.Unauthorized, ""},
		"socket without":           {"GET /ws", "", socket, 401, envelope.Unauthorized, ""},
		"no socket":                {"GET /ws?token=TICKET", "", nil, 426, envelope.BadRequest, ""},
		"a socket of another version": {
			"GET /ws?token=TICKET", "", append([]string{"Sec-WebSocket-Version", "7"}, socket[:4]...), 400, envelope.BadRequest, "",
		},
		"a socket of another page": {"GET /ws?token=TICKET", "", append([]string{"Origin", "https://evil.example"}, socket...), 403, envelope.Forbidden, ""},
		"a legacy answer for another page": {
			"GET /connectV3?get_pre_connection_info=True&auth_key=KEY", "", append([]string{"Origin", "https://evil.example"}, socket...), 403, envelope.Forbidden, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			method, path, _ := strings.Cut(test.call, " ")
			if strings.Contains(path, "TICKET") {
				path = strings.ReplaceAll(path, "TICKET", ticket())
			}
			r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+strings.ReplaceAll(path, "KEY", key), strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+key)
			for i := 0; i < len(test.header); i += 2 {
				r.Header.Set(test.header[i], test.header[i+1])
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var problem gateway.Problem
			if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
				t.Fatalf("%s %v: %v", resp.Status, resp.Header, err)
			}
			if resp.StatusCode != test.status || problem.Status != test.status || problem.Code != test.code || problem.Title == "" {
				t.Errorf("%s %+v, want %d %s", resp.Status, problem, test.status, test.code)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("it is %s", got)
			}
			if got := resp.Header.Get("Allow"); got != test.allow {
				t.Errorf("allowed is %q, want %q", got, test.allow)
			}
		})
	}
}
