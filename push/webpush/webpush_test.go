package webpush

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/internal/pushtest"
	"github.com/allsparkrt/allspark/push"
)

func token(service *pushtest.WebPush) push.Token {
	return push.Token{Service: push.WebPush, Value: service.Endpoint, P256DH: service.P256DH, Auth: service.Auth}
}

func hello() push.Notification {
	return push.Notification{ID: "log:7", CollapseID: "log", TitleKey: "FROM", TitleArgs: []string{"Ann"}, BodyKey: "NEW", Urgent: true}
}

func newSender(t *testing.T, service *pushtest.WebPush) *Sender {
	t.Helper()
	s, err := New(Config{Key: service.Key, Subject: "mailto:push@example.com", RootCAs: service.Roots, Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// failure checks that an error is a failure that does not tell on the endpoint.
func failure(t *testing.T, service *pushtest.WebPush, err error) push.Failure {
	t.Helper()
	f, ok := errors.AsType[*push.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	u, err := url.Parse(service.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{f.Error(), f.Reason, fmt.Sprint(f.Cause)} {
		if strings.Contains(s, u.Path) || strings.Contains(s, "eyJ") {
			t.Errorf("it holds a token: %s", s)
		}
	}
	return *f
}

func TestSend(t *testing.T) {
	badge := 3
	alert := hello()
	alert.Badge, alert.Sound, alert.Data = &badge, "ping", map[string]string{"log": "node:1"}
	alert.Expires = time.Now().Add(time.Hour)
	tests := []struct {
		name    string
		n       push.Notification
		headers map[string]string // "" absent
		want    Message
	}{
		{
			"alert", alert,
			map[string]string{"TTL": "3600", "Urgency": "high", "Topic": topic("log"), "Content-Encoding": "aes128gcm", "Content-Type": "application/octet-stream"},
			Message{ID: "log:7", Tag: "log", TitleKey: "FROM", TitleArgs: []string{"Ann"}, BodyKey: "NEW", Sound: "ping", Badge: &badge, Data: map[string]string{"log": "node:1"}},
		},
		{
			"plain",
			push.Notification{Title: "Ann", Body: "Hello <you>"},
			map[string]string{"TTL": "2419200", "Urgency": "normal", "Topic": ""},
			Message{Title: "Ann", Body: "Hello <you>"},
		},
		{
			"arguments of the text",
			push.Notification{BodyKey: "SAID", BodyArgs: []string{"Ann", "hi"}, TitleKey: "T"},
			nil,
			Message{BodyKey: "SAID", BodyArgs: []string{"Ann", "hi"}, TitleKey: "T"},
		},
		{
			"silent, and past its time",
			push.Notification{Silent: true, CollapseID: "log", Title: "no", Sound: "no", Expires: time.Now().Add(-time.Hour)},
			map[string]string{"TTL": "0", "Urgency": "normal"},
			Message{Tag: "log", Silent: true},
		},
		{
			"dismiss",
			push.Notification{Dismiss: true, CollapseID: "log", Badge: new(int)},
			nil,
			Message{Tag: "log", Silent: true, Dismiss: true, Badge: new(int)},
		},
	}
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := sender.Send(t.Context(), token(service), test.n); err != nil {
				t.Fatal(err)
			}
			requests := service.Requests()
			if len(requests) != i+1 {
				t.Fatalf("%d requests", len(requests))
			}
			for name, want := range test.headers {
				if got := requests[i].Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			var got Message
			if err := json.Unmarshal(requests[i].Body, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %s", requests[i].Body)
			}
		})
	}
}

func TestLongText(t *testing.T) {
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	n := hello()
	n.BodyKey, n.Body = "", strings.Repeat("<é", 5000)
	if err := sender.Send(t.Context(), token(service), n); err != nil {
		t.Fatal(err)
	}
	n.Data = map[string]string{"k": strings.Repeat("x", 5000)}
	f := failure(t, service, sender.Send(t.Context(), token(service), n))
	if f.Retry || f.Gone || !errors.Is(&f, push.ErrTooLarge) || len(service.Requests()) != 1 {
		t.Errorf("got %+v after %d requests", f, len(service.Requests()))
	}
}

func TestAnswers(t *testing.T) {
	after := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	tests := []struct {
		answer pushtest.Answer
		want   push.Failure // zero none
	}{
		{pushtest.Answer{Status: 200}, push.Failure{}},
		{pushtest.Answer{Status: 201}, push.Failure{}},
		{pushtest.Answer{Status: 202}, push.Failure{}},
		{pushtest.Answer{Status: 204}, push.Failure{}},
		{pushtest.Answer{Status: 307, Header: http.Header{"Location": {service307}}}, push.Failure{Reason: "HTTP 307"}},
		{pushtest.Answer{Status: 400, Body: "UnauthorizedRegistration"}, push.Failure{Reason: "HTTP 400"}},
		{pushtest.Answer{Status: 401}, push.Failure{Reason: "HTTP 401"}},
		{pushtest.Answer{Status: 403}, push.Failure{Reason: "HTTP 403"}},
		{pushtest.Answer{Status: 404}, push.Failure{Reason: "HTTP 404", Gone: true}},
		{pushtest.Answer{Status: 410}, push.Failure{Reason: "HTTP 410", Gone: true}},
		{pushtest.Answer{Status: 413}, push.Failure{Reason: "HTTP 413"}},
		{pushtest.Answer{Status: 429}, push.Failure{Reason: "HTTP 429", Retry: true}},
		{pushtest.Answer{Status: 429, Header: after("120")}, push.Failure{Reason: "HTTP 429", Retry: true, After: 2 * time.Minute}},
		{pushtest.Answer{Status: 500}, push.Failure{Reason: "HTTP 500", Retry: true}},
		{pushtest.Answer{Status: 503, Header: after("5")}, push.Failure{Reason: "HTTP 503", Retry: true, After: 5 * time.Second}},
		{pushtest.Answer{Drop: true}, push.Failure{Reason: "unreachable", Retry: true}},
	}
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	for _, test := range tests {
		t.Run(fmt.Sprint(test.answer.Status), func(t *testing.T) {
			before := len(service.Requests())
			service.Then(test.answer)
			err := sender.Send(t.Context(), token(service), hello())
			if n := len(service.Requests()) - before; n != 1 {
				t.Errorf("%d requests", n)
			}
			if test.want.Reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			got := failure(t, service, err)
			got.Cause = nil
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

const service307 = "https://127.0.0.1:1/elsewhere"

func TestAuthorizationIsKept(t *testing.T) {
	service := pushtest.NewWebPush(t)
	v, err := newVAPID(service.Key, "https://example.com/contact")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	at := func(origin string, later time.Duration) string {
		t.Helper()
		s, err := v.authorization(origin, now.Add(later))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := at("https://a.example", 0)
	if at("https://a.example", tokenLife-renewBefore-1) != first {
		t.Error("not kept")
	}
	if at("https://b.example", 0) == first {
		t.Error("shown to another")
	}
	if at("https://a.example", tokenLife-renewBefore) == first {
		t.Error("kept too long")
	}
	for i := range 3 * maxOrigins {
		at(fmt.Sprintf("https://%d.example", i), 0)
	}
	if len(v.tokens) > maxOrigins {
		t.Errorf("%d kept", len(v.tokens))
	}
}

func TestOrigin(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://push.example.net/p?q":     "https://push.example.net",
		"https://push.example.net:443/p":   "https://push.example.net",
		"https://push.example.net:8443/p":  "https://push.example.net:8443",
		"https://[2001:db8::1]:443/p":      "https://[2001:db8::1]",
		"https://PUSH.example.net/p":       "https://push.example.net",
		"https://push.example.net:/p":      "https://push.example.net",
		"https://[2001:db8::1]:8443/p?a=b": "https://[2001:db8::1]:8443",
	} {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if got := origin(u); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"PKCS #8":   pushtest.KeyPEM(t, key),
		"SEC 1":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		"base64url": []byte(base64.RawURLEncoding.EncodeToString(raw) + "\n"),
		"padded":    []byte(base64.URLEncoding.EncodeToString(raw)),
	} {
		s, err := New(Config{Key: data, Subject: "mailto:a@example.com"})
		if err != nil || s.PublicKey() != base64.RawURLEncoding.EncodeToString(point) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pushtest.KeyPEM(t, key)
	for name, c := range map[string]Config{
		"no key":        {Subject: "mailto:a@example.com"},
		"not a key":     {Key: []byte("%"), Subject: "mailto:a@example.com"},
		"short":         {Key: []byte("AAAA"), Subject: "mailto:a@example.com"},
		"zero":          {Key: []byte(base64.RawURLEncoding.EncodeToString(make([]byte, 32))), Subject: "mailto:a@example.com"},
		"another curve": {Key: pushtest.KeyPEM(t, other), Subject: "mailto:a@example.com"},
		"no subject":    {Key: good},
		"an address":    {Key: good, Subject: "a@example.com"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAnotherServersSubscription(t *testing.T) {
	service, other := pushtest.NewWebPush(t), pushtest.NewWebPush(t)
	sender, err := New(Config{Key: other.Key, Subject: "mailto:a@example.com", RootCAs: service.Roots, Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if f := failure(t, service, sender.Send(t.Context(), token(service), hello())); f.Reason != "HTTP 403" || f.Gone || f.Retry {
		t.Errorf("got %+v", f)
	}
	// A server whose certificate cannot be checked is not told anything.
	if f := failure(t, other, sender.Send(t.Context(), token(other), hello())); f.Reason != "unreachable" || len(other.Requests()) != 0 {
		t.Errorf("got %+v", f)
	}
}

func TestConcurrentSendsShareAConnection(t *testing.T) {
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := sender.Send(t.Context(), token(service), hello()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, c := len(service.Requests()), service.Connections(); n != 100 || c != 1 {
		t.Errorf("%d requests by %d connections", n, c)
	}
}

func TestCanceled(t *testing.T) {
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	arrived, release := service.Hold()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sender.Send(ctx, token(service), hello()) }()
	<-arrived
	cancel()
	err := <-done
	if f := failure(t, service, err); !f.Retry || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v", f)
	}
}

func TestTokens(t *testing.T) {
	service := pushtest.NewWebPush(t)
	sender := newSender(t, service)
	other := token(service)
	other.Service = push.FCM
	if f := failure(t, service, sender.Send(t.Context(), other, hello())); f.Gone || f.Retry {
		t.Errorf("got %+v", f)
	}
	bad := token(service)
	bad.Value = "http" + strings.TrimPrefix(bad.Value, "https")
	if f := failure(t, service, sender.Send(t.Context(), bad, hello())); !f.Gone {
		t.Errorf("got %+v", f)
	}
}
