package push

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func subscription(t testing.TB) Token {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Token{
		Service: WebPush, Value: "https://push.example.net/p/abc?x=1",
		P256DH: key.PublicKey().Bytes(), Auth: make([]byte, 16),
	}
}

func TestValidToken(t *testing.T) {
	apns := Token{Service: APNs, Value: strings.Repeat("0a", 32), App: "com.example.app", Sandbox: true, Locale: "pt-BR"}
	fcm := Token{Service: FCM, Value: "dQw4w9WgXcQ:APA91b" + strings.Repeat("x-_", 40)}
	web := subscription(t)
	with := func(t Token, change func(*Token)) Token { change(&t); return t }
	tests := []struct {
		name  string
		token Token
		want  string // the part that is wrong; "" none
	}{
		{"apns", apns, ""},
		{"fcm", fcm, ""},
		{"web push", web, ""},
		{"apns, a longer one", with(apns, func(t *Token) { t.Value = strings.Repeat("0a", 100) }), ""},
		{"no service", with(fcm, func(t *Token) { t.Service = "" }), "service"},
		{"another service", with(fcm, func(t *Token) { t.Service = "wns" }), "service"},
		{"apns, empty", with(apns, func(t *Token) { t.Value = "" }), "value"},
		{"apns, a path", with(apns, func(t *Token) { t.Value = "../../" + t.Value[6:] }), "value"},
		{"apns, half a byte", with(apns, func(t *Token) { t.Value += "0" }), "value"},
		{"apns, too long", with(apns, func(t *Token) { t.Value = strings.Repeat("0a", 101) }), "value"},
		{"apns, a line more", with(apns, func(t *Token) { t.Value += "\n" }), "value"},
		{"apns without app", with(apns, func(t *Token) { t.App = "" }), "app"},
		{"app with CR LF", with(apns, func(t *Token) { t.App = "a\r\nb: c" }), "app"},
		{"fcm with a space", with(fcm, func(t *Token) { t.Value += " " }), "value"},
		{"fcm, too short", with(fcm, func(t *Token) { t.Value = "short" }), "value"},
		{"fcm, too long", with(fcm, func(t *Token) { t.Value = strings.Repeat("x", 1001) }), "value"},
		{"fcm, sandbox", with(fcm, func(t *Token) { t.Sandbox = true }), "sandbox"},
		{"fcm with a key", with(fcm, func(t *Token) { t.P256DH = web.P256DH }), "p256dh"},
		{"fcm with a secret", with(fcm, func(t *Token) { t.Auth = web.Auth }), "auth"},
		{"locale", with(fcm, func(t *Token) { t.Locale = "de_DE\n" }), "locale"},
		{"http", with(web, func(t *Token) { t.Value = "http://push.example.net/p" }), "endpoint"},
		{"file", with(web, func(t *Token) { t.Value = "file:///etc/passwd" }), "endpoint"},
		{"no host", with(web, func(t *Token) { t.Value = "https:///p" }), "endpoint"},
		{"no host but a port", with(web, func(t *Token) { t.Value = "https://:443/p" }), "endpoint"},
		{"user", with(web, func(t *Token) { t.Value = "https://a:b@push.example.net/p" }), "endpoint"},
		{"fragment", with(web, func(t *Token) { t.Value = "https://push.example.net/p#" }), "endpoint"},
		{"backslash", with(web, func(t *Token) { t.Value = `https://push.example.net/\evil` }), "endpoint"},
		{"not ASCII", with(web, func(t *Token) { t.Value = "https://pus\u0439.example.net/p" }), "endpoint"},
		{"CR LF", with(web, func(t *Token) { t.Value = "https://push.example.net/\r\nHost: x" }), "endpoint"},
		{"too long", with(web, func(t *Token) { t.Value += strings.Repeat("x", maxEndpoint) }), "endpoint"},
		{"no key", with(web, func(t *Token) { t.P256DH = nil }), "p256dh"},
		{"a point off the curve", with(web, func(t *Token) { t.P256DH = append([]byte{4}, make([]byte, 64)...) }), "p256dh"},
		{"a short secret", with(web, func(t *Token) { t.Auth = t.Auth[:15] }), "auth"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ValidToken(test.token)
			switch {
			case test.want == "" && (err != nil || got.Value != test.token.Value):
				t.Errorf("got %v, %v", got, err)
			case test.want != "" && (!errors.Is(err, ErrToken) || !strings.HasSuffix(err.Error(), ": "+test.want)):
				t.Errorf("got %v, want one about %s", err, test.want)
			}
		})
	}
}

func TestValidTokenSpelling(t *testing.T) {
	upper := Token{Service: APNs, Value: strings.Repeat("AB", 32), App: "a"}
	got, err := ValidToken(upper)
	if err != nil || got.Value != strings.ToLower(upper.Value) {
		t.Errorf("got %q, %v: one device would have two tokens", got.Value, err)
	}
}

func TestTokenDoesNotPrint(t *testing.T) {
	token := subscription(t)
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("sent", "token", token)
	}
	for _, s := range []string{log.String(), fmt.Sprint(token), fmt.Sprintf("%+v", token), fmt.Sprintf("%s", []Token{token})} {
		if strings.Contains(s, "push.example.net") || !strings.Contains(s, "webpush:#") {
			t.Errorf("printed %s", s)
		}
	}
	other := token
	other.Value += "x"
	if token.String() == other.String() {
		t.Error("two tokens look the same")
	}
}

func FuzzValidToken(f *testing.F) {
	f.Add("apns", strings.Repeat("0a", 32), "com.example.app")
	f.Add("fcm", strings.Repeat("x", 40), "")
	f.Add("webpush", "https://push.example.net/p", "")
	web := subscription(f)
	f.Fuzz(func(t *testing.T, service, value, app string) {
		token := Token{Service: Service(service), Value: value, App: app}
		if token.Service == WebPush {
			token.P256DH, token.Auth = web.P256DH, web.Auth
		}
		got, err := ValidToken(token)
		if err != nil {
			if len(value) > 10 && strings.Contains(err.Error(), value) {
				t.Errorf("the error holds the token: %v", err)
			}
			return
		}
		if strings.ContainsAny(got.Value+got.App, "\r\n\x00 #") {
			t.Errorf("took %q of %q", got.Value, got.App)
		}
		if again, err := ValidToken(got); err != nil || again.Value != got.Value {
			t.Errorf("%q became %q, %v", got.Value, again.Value, err)
		}
	})
}
