package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

func TestBearer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header []string
		url    string
		want   string // "" for a refusal
	}{
		{name: "token", header: []string{"Bearer a.b-c_d"}, want: "a.b-c_d"},
		{name: "scheme in any case", header: []string{"bEARER abc"}, want: "abc"},
		{name: "several spaces", header: []string{"Bearer   abc"}, want: "abc"},
		{name: "all characters", header: []string{"Bearer aZ09-._~+/=="}, want: "aZ09-._~+/=="},
		{name: "none"},
		{name: "in the URL", url: "/?access_token=abc&token=abc"},
		{name: "two", header: []string{"Bearer abc", "Bearer abc"}},
		{name: "other scheme", header: []string{"Basic abc"}},
		{name: "only the scheme", header: []string{"Bearer"}},
		{name: "empty", header: []string{"Bearer "}},
		{name: "only padding", header: []string{"Bearer =="}},
		{name: "two words", header: []string{"Bearer abc def"}},
		{name: "two in one", header: []string{"Bearer abc, Bearer def"}},
		{name: "tab", header: []string{"Bearer\tabc"}},
		{name: "line break", header: []string{"Bearer abc\r\nX: y"}},
		{name: "too large", header: []string{"Bearer " + strings.Repeat("a", MaxTokenSize+1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.url == "" {
				tt.url = "/"
			}
			r := httptest.NewRequest(http.MethodGet, tt.url, nil)
			r.Header["Authorization"] = tt.header
			got, err := Bearer(r)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (envelope.CodeOf(err) != envelope.Unauthorized || strings.Contains(err.Error(), "abc")) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	config := Config{Keys: []KeySource{{ID: "id-is-shown", Secret: secretA}}}
	key := MintKey{ID: "id-is-shown", Secret: secretA, PEM: secretA}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&b, verb+" "+verb+" "+verb+"\n", config.Keys, key, key.Secret)
	}
	if err := json.NewEncoder(&b).Encode([]any{config.Keys, key}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("x", "keys", config.Keys, "key", key, "secret", key.Secret)
	s := b.String()
	for _, leak := range []string{string(secretA), fmt.Sprintf("%x", secretA), "0x30, 0x31", "48 49 50", "MDEyMzQ1Njc4"} {
		if strings.Contains(s, leak) {
			t.Errorf("%q leaks: %s", leak, s)
		}
	}
	if !strings.Contains(s, "id-is-shown") {
		t.Error("nothing was printed at all")
	}
}

func TestTokensStayOutOfLogs(t *testing.T) {
	token := mint(t, MintKey{Secret: secretA})
	u, err := url.Parse("https://h/ws/" + token + "?token=" + token + "&a=canary;b&" + token + "#" + token)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := RedactURL(u), "/ws/[redacted]?token=…&a=…&[redacted]=…"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Redact("get /ws?token="+token+": bad"), "get /ws?token=[redacted]: bad"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Redact("a.b.c is kept, and eyJ too"); got != "a.b.c is kept, and eyJ too" {
		t.Error(got)
	}
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: RedactAttr}))
	log.Info(token, "s", token, "err", errors.New("x "+token), "url", u, slog.Group("g", "t", token), "n", 7)
	for part := range strings.SplitSeq(token, ".") {
		if strings.Contains(b.String(), part) {
			t.Errorf("part of the token: %s", b.String())
		}
	}
	if !strings.Contains(b.String(), "n=7") {
		t.Error("other attributes are lost")
	}
}
