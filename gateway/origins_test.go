package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestOrigins(t *testing.T) {
	origins := Origins{"chat.example.com", "*.Example.org", "https://secure.example", "localhost:*"}
	called := 0
	h := origins.Share(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	for _, tt := range []struct {
		name, origin string
		want         bool
	}{
		{"no page", "", false},
		{"our own", "https://server.example:8420", true},
		{"our own by another port", "https://server.example", false},
		{"a host", "https://chat.example.com", true},
		{"a host without TLS", "http://chat.example.com", true},
		{"a host in capitals", "https://CHAT.example.com", true},
		{"another port", "https://chat.example.com:8443", false},
		{"a pattern", "https://a.example.org", true},
		{"a pattern's parent", "https://example.org", false},
		{"a pattern's prefix", "https://a.example.org.evil.example", false},
		{"a host as suffix", "https://evil-chat.example.com", false},
		{"a host as user", "https://chat.example.com@evil.example", false},
		{"with its scheme", "https://secure.example", true},
		{"with another scheme", "http://secure.example", false},
		{"any port", "http://localhost:3000", true},
		{"another", "https://evil.example", false},
		{"null", "null", false},
		{"no URL", "https://[", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
				r := httptest.NewRequest(method, "http://server.example:8420/v1/guests", nil)
				if tt.origin != "" {
					r.Header.Set("Origin", tt.origin)
				}
				preflight := method == http.MethodOptions
				if preflight {
					r.Header.Set("Access-Control-Request-Method", "POST")
					r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
				}
				before := called
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				answer := w.Result()
				allowed := ""
				if tt.want {
					allowed = tt.origin
				}
				if got := answer.Header.Get("Access-Control-Allow-Origin"); got != allowed || answer.Header.Get("Vary") != "Origin" {
					t.Errorf("%s: allowed %q, want %q; Vary %q", method, got, allowed, answer.Header.Get("Vary"))
				}
				if answer.Header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s: cookies are asked for", method)
				}
				if (called == before) != preflight {
					t.Errorf("%s: called %d times", method, called-before)
				}
				methods := answer.Header.Get("Access-Control-Allow-Methods")
				if (methods != "") != (preflight && tt.want) || preflight && answer.StatusCode != http.StatusNoContent {
					t.Errorf("%s: %s, for methods %q", method, answer.Status, methods)
				}
			}
		})
	}

	before := called
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, "http://server.example:8420/", nil))
	if called != before+1 {
		t.Error("OPTIONS that asks for nothing is not handed on")
	}
}
