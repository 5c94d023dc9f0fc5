package apns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/internal/pushtest"
	"github.com/allsparkrt/allspark/push"
)

var device = push.Token{Service: push.APNs, Value: strings.Repeat("c0de", 16), App: "com.example.app"}

func hello() push.Notification {
	return push.Notification{ID: "log:7", CollapseID: "log", TitleKey: "FROM", TitleArgs: []string{"Ann"}, BodyKey: "NEW", Urgent: true}
}

func newSender(t *testing.T, service *pushtest.APNs) *Sender {
	t.Helper()
	s, err := New(Config{
		Key: service.Key, KeyID: service.KeyID, TeamID: service.TeamID,
		Production: service.URL, Sandbox: service.URL, RootCAs: service.Roots,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// failure checks that an error is a failure that does not tell on the token.
func failure(t *testing.T, err error) push.Failure {
	t.Helper()
	f, ok := errors.AsType[*push.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	for _, s := range []string{f.Error(), f.Reason, fmt.Sprint(f.Cause)} {
		if strings.Contains(s, device.Value) || strings.Contains(s, "bearer ") || strings.Contains(s, "eyJ") {
			t.Errorf("it holds a token: %s", s)
		}
	}
	return *f
}

func TestSend(t *testing.T) {
	expires := time.Unix(1900000000, 0)
	badge := 3
	alert := hello()
	alert.Badge, alert.Sound, alert.Expires, alert.Data = &badge, "ping.caf", expires, map[string]string{"log": "node:1", "aps": "x", "dismiss": "y"}
	plain := push.Notification{ID: "123e4567-e89b-12d3-a456-426655440000", Title: "Ann", Body: "Hello <you>"}
	tests := []struct {
		name    string
		n       push.Notification
		headers map[string]string // "" absent
		body    string
	}{
		{
			"alert", alert,
			map[string]string{
				"apns-topic": "com.example.app", "apns-push-type": "alert", "apns-priority": "10",
				"apns-expiration": "1900000000", "apns-collapse-id": "log", "apns-id": messageID("log:7"),
			},
			`{"aps":{"alert":{"title-loc-key":"FROM","title-loc-args":["Ann"],"loc-key":"NEW"},"badge":3,"sound":"ping.caf","thread-id":"log"},"log":"node:1"}`,
		},
		{
			"plain", plain,
			map[string]string{
				"apns-push-type": "alert", "apns-priority": "5", "apns-expiration": "", "apns-collapse-id": "",
				"apns-id": "123e4567-e89b-12d3-a456-426655440000",
			},
			`{"aps":{"alert":{"title":"Ann","body":"Hello <you>"}}}`,
		},
		{
			"what the app makes of it",
			push.Notification{Body: "b", Category: "MESSAGE", Mutable: true, Channel: "chat"},
			nil,
			`{"aps":{"alert":{"body":"b"},"category":"MESSAGE","mutable-content":1}}`,
		},
		{
			"arguments of the text",
			push.Notification{BodyKey: "SAID", BodyArgs: []string{"Ann", "hi"}, TitleKey: "T"},
			nil,
			`{"aps":{"alert":{"title-loc-key":"T","loc-key":"SAID","loc-args":["Ann","hi"]}}}`,
		},
		{
			"silent",
			push.Notification{Silent: true, Urgent: true, CollapseID: "log", Title: "no", Sound: "no", Data: map[string]string{"log": "node:1"}},
			map[string]string{"apns-push-type": "background", "apns-priority": "5", "apns-collapse-id": "log"},
			`{"aps":{"content-available":1},"log":"node:1"}`,
		},
		{
			"silent with a badge",
			push.Notification{Silent: true, Badge: new(int)},
			map[string]string{"apns-push-type": "alert", "apns-priority": "5"},
			`{"aps":{"content-available":1,"badge":0}}`,
		},
		{
			"dismiss",
			push.Notification{Dismiss: true, CollapseID: "log"},
			map[string]string{"apns-push-type": "background", "apns-priority": "5", "apns-collapse-id": ""},
			`{"aps":{"content-available":1},"dismiss":"log"}`,
		},
	}
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := sender.Send(t.Context(), device, test.n); err != nil {
				t.Fatal(err)
			}
			requests := service.Requests()
			if len(requests) != i+1 {
				t.Fatalf("%d requests", len(requests))
			}
			got := requests[i]
			if want := "/3/device/" + device.Value; got.Path != want {
				t.Errorf("path %s", got.Path)
			}
			for name, want := range test.headers {
				if value := got.Header.Get(name); value != want {
					t.Errorf("%s is %q, want %q", name, value, want)
				}
			}
			if !sameJSON(t, got.Body, test.body) {
				t.Errorf("body %s, want %s", got.Body, test.body)
			}
		})
	}
	if n := service.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func sameJSON(t *testing.T, got []byte, want string) bool {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(a, b)
}

func TestSendIDIsTheSameForAllAttempts(t *testing.T) {
	if a, b := messageID("log:7"), messageID("log:7"); a != b || !uuidForm.MatchString(a) || a == messageID("log:8") {
		t.Errorf("%s and %s", a, b)
	}
}

func TestSendLongText(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	n := hello()
	n.BodyKey, n.Body = "", strings.Repeat("<é", 5000)
	if err := sender.Send(t.Context(), device, n); err != nil {
		t.Fatal(err)
	}
	if size := len(service.Requests()[0].Body); size > 4096 {
		t.Errorf("%d bytes", size)
	}
	n.Data = map[string]string{"k": strings.Repeat("x", 5000)}
	f := failure(t, sender.Send(t.Context(), device, n))
	if f.Retry || f.Gone || !errors.Is(&f, push.ErrTooLarge) || len(service.Requests()) != 1 {
		t.Errorf("got %+v after %d requests", f, len(service.Requests()))
	}
}

// TestRefusals has each answer that Apple documents, and some that come from
// in between.
func TestRefusals(t *testing.T) {
	since := time.UnixMilli(1700000000000)
	type want struct {
		gone, retry bool
		after       time.Duration
	}
	tests := []struct {
		status int
		reason string
		want   want
	}{
		{400, "BadCollapseId", want{}},
		{400, "BadDeviceToken", want{gone: true}},
		{400, "BadExpirationDate", want{}},
		{400, "BadMessageId", want{}},
		{400, "BadPriority", want{}},
		{400, "BadTopic", want{}},
		{400, "DeviceTokenNotForTopic", want{gone: true}},
		{400, "DuplicateHeaders", want{}},
		{400, "IdleTimeout", want{retry: true}},
		{400, "InvalidPushType", want{}},
		{400, "MissingDeviceToken", want{}},
		{400, "MissingTopic", want{}},
		{400, "PayloadEmpty", want{}},
		{400, "TopicDisallowed", want{}},
		{403, "BadCertificate", want{retry: true}},
		{403, "BadCertificateEnvironment", want{retry: true}},
		{403, "ExpiredProviderToken", want{retry: true}},
		{403, "Forbidden", want{}},
		{403, "InvalidProviderToken", want{retry: true}},
		{403, "MissingProviderToken", want{retry: true}},
		{403, "UnrelatedKeyIdInToken", want{}},
		{403, "BadEnvironmentKeyIdInToken", want{}},
		{404, "BadPath", want{}},
		{405, "MethodNotAllowed", want{}},
		{410, "ExpiredToken", want{gone: true}},
		{410, "Unregistered", want{gone: true}},
		{413, "PayloadTooLarge", want{}},
		{429, "TooManyProviderTokenUpdates", want{retry: true, after: renewAtMost}},
		{429, "TooManyRequests", want{retry: true}},
		{500, "InternalServerError", want{retry: true}},
		{503, "ServiceUnavailable", want{retry: true}},
		{503, "Shutdown", want{retry: true}},
		{599, "SomethingNew", want{retry: true}},
	}
	service := pushtest.NewAPNs(t)
	for _, test := range tests {
		t.Run(test.reason, func(t *testing.T) {
			sender := newSender(t, service)
			answer := pushtest.APNsReason(test.status, test.reason)
			if test.reason == "Unregistered" {
				answer.Body = fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, since.UnixMilli())
			}
			service.Then(answer)
			if test.reason == "ExpiredProviderToken" {
				service.Then(answer) // also of the second attempt
			}
			f := failure(t, sender.Send(t.Context(), device, hello()))
			got := want{f.Gone, f.Retry, f.After}
			if got != test.want || f.Reason != test.reason {
				t.Errorf("got %+v, want %+v", f, test.want)
			}
			if test.reason == "Unregistered" && !f.Since.Equal(since) || test.reason != "Unregistered" && !f.Since.IsZero() {
				t.Errorf("since %v", f.Since)
			}
		})
	}
	sender := newSender(t, service)
	t.Run("Retry-After", func(t *testing.T) {
		answer := pushtest.APNsReason(429, "TooManyRequests")
		answer.Header = http.Header{"Retry-After": {"90"}}
		service.Then(answer)
		if f := failure(t, sender.Send(t.Context(), device, hello())); !f.Retry || f.After != 90*time.Second {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("not Apple's", func(t *testing.T) {
		service.Then(pushtest.Answer{Status: 502, Body: "<html>" + device.Value}, pushtest.Answer{Status: 403, Body: `{"reason":"` + device.Value + `"}`},
			pushtest.Answer{Status: 302, Header: http.Header{"Location": {service.URL + "/3/device/elsewhere"}}})
		before := len(service.Requests())
		for _, want := range []push.Failure{{Reason: "HTTP 502", Retry: true}, {Reason: "HTTP 403"}, {Reason: "HTTP 302"}} {
			if f := failure(t, sender.Send(t.Context(), device, hello())); f.Reason != want.Reason || f.Retry != want.Retry || f.Gone {
				t.Errorf("got %+v, want %+v", f, want)
			}
		}
		if n := len(service.Requests()) - before; n != 3 {
			t.Errorf("%d requests: it followed a redirect", n)
		}
	})
}

func TestExpiredProviderToken(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	bearers := func() []string {
		var all []string
		for _, r := range service.Requests() {
			all = append(all, r.Header.Get("Authorization"))
		}
		return all
	}

	expired := pushtest.APNsReason(403, "ExpiredProviderToken")
	service.Then(expired)
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Fatal(err)
	}
	if b := bearers(); len(b) != 2 || b[0] == b[1] {
		t.Fatalf("%d requests, with the same token: %t", len(b), b[0] == b[len(b)-1])
	}

	// Once more so soon would be one change too many.
	service.Then(expired)
	if f := failure(t, sender.Send(t.Context(), device, hello())); !f.Retry {
		t.Errorf("got %+v", f)
	}
	if b := bearers(); len(b) != 3 || b[2] != b[1] {
		t.Errorf("%d requests", len(b))
	}

	// Who comes second does not renew again.
	if !sender.provider.renew("bearer of before") {
		t.Error("the token that another has renewed is not used")
	}
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Error(err)
	}
	if b := bearers(); b[3] != b[2] {
		t.Error("renewed twice")
	}
}

func TestEnvironments(t *testing.T) {
	production, sandbox := pushtest.NewAPNs(t), pushtest.NewAPNs(t)
	roots := production.Roots.Clone()
	sender, err := New(Config{
		Certificate: production.Certificate(t), RootCAs: roots,
		Production: production.URL, Sandbox: sandbox.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	development := device
	development.Sandbox = true
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Error(err)
	}
	// Another authority's: it must not be believed.
	if f := failure(t, sender.Send(t.Context(), development, hello())); f.Reason != "unreachable" || !f.Retry {
		t.Errorf("got %+v", f)
	}
	if p, s := len(production.Requests()), len(sandbox.Requests()); p != 1 || s != 0 {
		t.Errorf("%d and %d requests", p, s)
	}
	standard, err := New(Config{Key: production.Key, KeyID: "k", TeamID: "t"})
	if err != nil || standard.production.client.Host != "https://api.push.apple.com" || standard.sandbox.client.Host != "https://api.sandbox.push.apple.com" {
		t.Errorf("%v", err)
	}
}

func TestConcurrentSendsShareAConnection(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	arrived, release := service.Hold() // a slow first answer, before which no other request may come
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			n := hello()
			n.ID = strconv.Itoa(i)
			if err := sender.Send(t.Context(), device, n); err != nil {
				t.Error(err)
			}
		})
	}
	<-arrived
	time.AfterFunc(50*time.Millisecond, release)
	wg.Wait()
	requests := service.Requests()
	if len(requests) != 400 || service.Connections() != 1 {
		t.Errorf("%d requests by %d connections", len(requests), service.Connections())
	}
	for _, r := range requests {
		if r.Header.Get("Authorization") != requests[0].Header.Get("Authorization") {
			t.Fatal("more than one provider's token")
		}
	}
}

func TestCanceled(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Fatal(err)
	}
	arrived, release := service.Hold()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sender.Send(ctx, device, hello()) }()
	<-arrived
	cancel()
	err := <-done
	if f := failure(t, err); !f.Retry || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v", f)
	}
	release()
	if err := sender.Send(t.Context(), device, hello()); err != nil || service.Connections() != 1 {
		t.Errorf("%v: the connection went with the request", err)
	}
}

func TestNew(t *testing.T) {
	service := pushtest.NewAPNs(t)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]Config{
		"nothing":            {},
		"both":               {Key: service.Key, KeyID: "k", TeamID: "t", Certificate: service.Certificate(t)},
		"no key id":          {Key: service.Key, TeamID: "t"},
		"no team":            {Key: service.Key, KeyID: "k"},
		"not a key":          {Key: []byte("x"), KeyID: "k", TeamID: "t"},
		"another curve":      {Key: pushtest.KeyPEM(t, other), KeyID: "k", TeamID: "t"},
		"not a certificate":  {Certificate: []byte("x")},
		"certificate, alone": {Certificate: service.Key},
		"http":               {Key: service.Key, KeyID: "k", TeamID: "t", Production: "http://127.0.0.1"},
		"a path":             {Key: service.Key, KeyID: "k", TeamID: "t", Sandbox: "https://127.0.0.1/x"},
	}
	for name, config := range tests {
		if _, err := New(config); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestTokens(t *testing.T) {
	sender := newSender(t, pushtest.NewAPNs(t))
	other := device
	other.Service = push.FCM
	if f := failure(t, sender.Send(t.Context(), other, hello())); f.Gone || f.Retry {
		t.Errorf("got %+v", f)
	}
	bad := device
	bad.App = "a\r\nb: c"
	if f := failure(t, sender.Send(t.Context(), bad, hello())); !f.Gone {
		t.Errorf("got %+v", f)
	}
}
