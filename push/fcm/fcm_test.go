package fcm

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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/internal/pushtest"
	"github.com/allsparkrt/allspark/push"
)

var device = push.Token{Service: push.FCM, Value: "dQw4w9WgXcQ:APA91b" + strings.Repeat("x-_", 45)}

func hello() push.Notification {
	return push.Notification{ID: "log:7", CollapseID: "log", TitleKey: "FROM", TitleArgs: []string{"Ann"}, BodyKey: "NEW", Urgent: true}
}

func newSender(t *testing.T, service *pushtest.FCM) *Sender {
	t.Helper()
	s, err := New(Config{Credentials: service.Credentials, Endpoint: service.URL, RootCAs: service.Roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// failure checks that an error is a failure that does not tell on any token.
func failure(t *testing.T, err error) push.Failure {
	t.Helper()
	f, ok := errors.AsType[*push.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	for _, s := range []string{f.Error(), f.Reason, fmt.Sprint(f.Cause)} {
		if strings.Contains(s, device.Value) || strings.Contains(s, "ya29") || strings.Contains(s, "eyJ") {
			t.Errorf("it holds a token: %s", s)
		}
	}
	return *f
}

func TestSend(t *testing.T) {
	badge := 3
	alert := hello()
	alert.Channel, alert.Category, alert.Mutable = "chat", "MESSAGE", true
	alert.Badge, alert.Sound, alert.Data = &badge, "ping", map[string]string{"log": "node:1"}
	tests := []struct {
		name    string
		n       push.Notification
		message string // without the token
	}{
		{"alert", alert, `{"data":{"log":"node:1"},"android":{"collapse_key":"log","priority":"HIGH","notification":
			{"title_loc_key":"FROM","title_loc_args":["Ann"],"body_loc_key":"NEW","sound":"ping","tag":"log","channel_id":"chat",
			"notification_count":3}},"apns":{"headers":{"apns-push-type":"alert","apns-priority":"10","apns-collapse-id":"log"},"payload":{"aps":{
			"alert":{"title-loc-key":"FROM","title-loc-args":["Ann"],"loc-key":"NEW"},"badge":3,"sound":"ping","category":"MESSAGE",
			"thread-id":"log","mutable-content":1}}}}`},
		{
			"plain",
			push.Notification{Title: "Ann", Body: "Hello <you>"},
			`{"android":{"priority":"NORMAL","notification":{"title":"Ann","body":"Hello <you>"}}}`,
		},
		{
			"arguments of the text",
			push.Notification{BodyKey: "SAID", BodyArgs: []string{"Ann", "hi"}, TitleKey: "T"},
			`{"android":{"priority":"NORMAL","notification":{"title_loc_key":"T","body_loc_key":"SAID","body_loc_args":["Ann","hi"]}}}`,
		},
		{
			"silent",
			push.Notification{Silent: true, CollapseID: "log", Title: "no", Data: map[string]string{"log": "node:1"}},
			`{"data":{"log":"node:1"},"android":{"collapse_key":"log","priority":"NORMAL"}}`,
		},
		{
			"dismiss",
			push.Notification{Dismiss: true, CollapseID: "log", Title: "no", Data: map[string]string{"log": "node:1"}},
			`{"data":{"log":"node:1","dismiss":"log"},"android":{"collapse_key":"log","priority":"NORMAL"}}`,
		},
	}
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(test.n.Data)
			if err := sender.Send(t.Context(), device, test.n); err != nil {
				t.Fatal(err)
			}
			requests := service.Requests()
			if len(requests) != i+1 {
				t.Fatalf("%d requests", len(requests))
			}
			var got, want struct{ Message map[string]any }
			if err := json.Unmarshal(requests[i].Body, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.message), &want.Message); err != nil {
				t.Fatal(err)
			}
			want.Message["token"] = device.Value
			if want.Message["apns"] == nil {
				delete(got.Message, "apns")
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if len(test.n.Data) != before {
				t.Error("the caller's data were changed")
			}
		})
	}
	if n := len(service.Grants.Requests()); n != 1 {
		t.Errorf("%d access tokens", n)
	}
}

// What is for Apple's devices is as package apns has it.
func TestApple(t *testing.T) {
	badge, none := 3, 0
	for _, test := range []struct {
		name string
		n    push.Notification
		want string
	}{
		{
			"alert",
			push.Notification{
				CollapseID: "log", TitleKey: "FROM", TitleArgs: []string{"Ann"}, Body: "Hello", Sound: "ping", Badge: &badge,
				Category: "MESSAGE", Channel: "chat", Mutable: true, Urgent: true, Expires: time.Unix(4000000000, 0),
			},
			`{"headers":{"apns-push-type":"alert","apns-priority":"10","apns-collapse-id":"log","apns-expiration":"4000000000"},
			"payload":{"aps":{"alert":{"title-loc-key":"FROM","title-loc-args":["Ann"],"body":"Hello"},"badge":3,"sound":"ping",
			"category":"MESSAGE","thread-id":"log","mutable-content":1}}}`,
		},
		{
			"silent",
			push.Notification{CollapseID: "log", Silent: true, Urgent: true, Mutable: true, Title: "no"},
			`{"headers":{"apns-push-type":"background","apns-priority":"5","apns-collapse-id":"log"},"payload":{"aps":{"content-available":1}}}`,
		},
		{
			"dismiss",
			push.Notification{CollapseID: "log", Dismiss: true, Silent: true, Badge: &none},
			`{"headers":{"apns-push-type":"alert","apns-priority":"5"},"payload":{"aps":{"badge":0,"content-available":1}}}`,
		},
	} {
		got, err := json.Marshal(forApple(test.n, time.Unix(3999999999, 0)))
		if err != nil {
			t.Fatal(err)
		}
		var is, want any
		if err := errors.Join(json.Unmarshal(got, &is), json.Unmarshal([]byte(test.want), &want)); err != nil || !reflect.DeepEqual(is, want) {
			t.Errorf("%s: got %s, %v", test.name, got, err)
		}
	}
}

func TestTTL(t *testing.T) {
	now := time.Unix(1800000000, 0)
	for _, test := range []struct {
		expires time.Time
		want    string
	}{
		{time.Time{}, ""},
		{now.Add(90 * time.Second), "90s"},
		{now.Add(time.Second / 2), "1s"},
		{now.Add(-time.Hour), "0s"},
		{now.AddDate(1, 0, 0), "2419200s"},
	} {
		if got := ttl(test.expires, now); got != test.want {
			t.Errorf("%v: %s, want %s", test.expires.Sub(now), got, test.want)
		}
	}
}

func TestLongText(t *testing.T) {
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	n := hello()
	n.BodyKey, n.Body = "", strings.Repeat("<é", 5000)
	if err := sender.Send(t.Context(), device, n); err != nil {
		t.Fatal(err)
	}
	n.Data = map[string]string{"k": strings.Repeat("x", 5000)}
	f := failure(t, sender.Send(t.Context(), device, n))
	if f.Retry || f.Gone || !errors.Is(&f, push.ErrTooLarge) || len(service.Requests()) != 1 {
		t.Errorf("got %+v after %d requests", f, len(service.Requests()))
	}
}

// TestRefusals has each answer that Google documents, and some that come from
// in between.
func TestRefusals(t *testing.T) {
	notValid := pushtest.FCMError(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
	notValid.Body = strings.Replace(notValid.Body, "said by the test", "The registration token is not a valid FCM registration token", 1)
	aboutData := pushtest.FCMField("message.data[0].value")
	aboutData.Body = strings.Replace(aboutData.Body, "Request contains an invalid argument.", "a registration token is not a valid value", 1)
	later := func(a pushtest.Answer, seconds string) pushtest.Answer {
		a.Header = http.Header{"Retry-After": {seconds}}
		return a
	}
	echo := pushtest.FCMError(400, "INVALID_ARGUMENT", "")
	echo.Body = strings.ReplaceAll(echo.Body, "INVALID_ARGUMENT", device.Value)
	tests := []struct {
		name   string
		answer pushtest.Answer
		want   push.Failure
	}{
		{"unregistered", pushtest.FCMError(404, "NOT_FOUND", "UNREGISTERED"), push.Failure{Reason: "UNREGISTERED", Gone: true}},
		{"no such project", pushtest.FCMError(404, "NOT_FOUND", ""), push.Failure{Reason: "NOT_FOUND"}},
		{"invalid token, by its field", pushtest.FCMField("message.token"), push.Failure{Reason: "INVALID_ARGUMENT", Gone: true}},
		{"invalid token, by the text", notValid, push.Failure{Reason: "INVALID_ARGUMENT", Gone: true}},
		{"another argument", pushtest.FCMField("message.android.ttl"), push.Failure{Reason: "INVALID_ARGUMENT"}},
		{"another argument that speaks of tokens", aboutData, push.Failure{Reason: "INVALID_ARGUMENT"}},
		{"too big", pushtest.FCMError(400, "INVALID_ARGUMENT", ""), push.Failure{Reason: "INVALID_ARGUMENT"}},
		{"another sender's", pushtest.FCMError(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), push.Failure{Reason: "SENDER_ID_MISMATCH"}},
		{"no permission", pushtest.FCMError(403, "PERMISSION_DENIED", ""), push.Failure{Reason: "PERMISSION_DENIED", Retry: true}},
		{"third party", pushtest.FCMError(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), push.Failure{Reason: "THIRD_PARTY_AUTH_ERROR", Retry: true}},
		{"quota", pushtest.FCMError(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), push.Failure{Reason: "QUOTA_EXCEEDED", Retry: true, After: time.Minute}},
		{"quota, with a time", later(pushtest.FCMError(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), "7"), push.Failure{Reason: "QUOTA_EXCEEDED", Retry: true, After: 7 * time.Second}},
		{"unavailable", pushtest.FCMError(503, "UNAVAILABLE", "UNAVAILABLE"), push.Failure{Reason: "UNAVAILABLE", Retry: true}},
		{"unavailable, with a time", later(pushtest.FCMError(503, "UNAVAILABLE", "UNAVAILABLE"), "30"), push.Failure{Reason: "UNAVAILABLE", Retry: true, After: 30 * time.Second}},
		{"internal", pushtest.FCMError(500, "INTERNAL", "INTERNAL"), push.Failure{Reason: "INTERNAL", Retry: true}},
		{"unspecified", pushtest.FCMError(400, "UNKNOWN", "UNSPECIFIED_ERROR"), push.Failure{Reason: "UNSPECIFIED_ERROR"}},
		{"a page", pushtest.Answer{Status: 502, Body: "<!DOCTYPE html>" + device.Value}, push.Failure{Reason: "HTTP 502", Retry: true}},
		{"nothing", pushtest.Answer{Status: 400}, push.Failure{Reason: "HTTP 400"}},
		{"a token for a reason", echo, push.Failure{Reason: "HTTP 400"}},
		{"redirect", pushtest.Answer{Status: 307, Header: http.Header{"Location": {"/elsewhere"}}}, push.Failure{Reason: "HTTP 307"}},
		{"broken off", pushtest.Answer{Drop: true}, push.Failure{Reason: "unreachable", Retry: true}},
	}
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(service.Requests())
			service.Then(test.answer)
			got := failure(t, sender.Send(t.Context(), device, hello()))
			got.Cause = nil
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if n := len(service.Requests()) - before; n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
	if n := len(service.Grants.Requests()); n != 1 {
		t.Errorf("%d access tokens", n)
	}
}

func TestRefusedAccessTokenIsRenewed(t *testing.T) {
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Fatal(err)
	}
	service.Revoke()
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Fatal(err)
	}
	if n, grants := len(service.Requests()), len(service.Grants.Requests()); n != 3 || grants != 2 {
		t.Errorf("%d requests with %d access tokens", n, grants)
	}

	// Refused again with the new one: it is not tried for ever.
	service.Then(pushtest.FCMError(401, "UNAUTHENTICATED", ""), pushtest.Answer{Status: 401})
	if f := failure(t, sender.Send(t.Context(), device, hello())); !f.Retry || f.Reason != "UNAUTHENTICATED" {
		t.Errorf("got %+v", f)
	}
	if n := len(service.Requests()); n != 5 {
		t.Errorf("%d requests", n)
	}
}

func TestConcurrentSendsShareOneConnectionAndToken(t *testing.T) {
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := sender.Send(t.Context(), device, hello()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, c, grants := len(service.Requests()), service.Connections(), len(service.Grants.Requests()); n != 100 || c != 1 || grants != 1 {
		t.Errorf("%d requests by %d connections with %d access tokens", n, c, grants)
	}
}

func TestCanceled(t *testing.T) {
	service := pushtest.NewFCM(t)
	sender := newSender(t, service)
	for name, at := range map[string]*pushtest.Service{"token": service.Grants, "send": service.Service} {
		t.Run(name, func(t *testing.T) {
			arrived, release := at.Hold()
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
			if err := sender.Send(t.Context(), device, hello()); err != nil {
				t.Error(err)
			}
			sender.tokens.forget(sender.tokens.current.value)
		})
	}
}

func TestTokens(t *testing.T) {
	sender := newSender(t, pushtest.NewFCM(t))
	other := device
	other.Service = push.APNs
	if f := failure(t, sender.Send(t.Context(), other, hello())); f.Gone || f.Retry {
		t.Errorf("got %+v", f)
	}
	bad := device
	bad.Value = "short"
	if f := failure(t, sender.Send(t.Context(), bad, hello())); !f.Gone {
		t.Errorf("got %+v", f)
	}
}

func TestNew(t *testing.T) {
	service := pushtest.NewFCM(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(field, value string) []byte {
		var file map[string]string
		if err := json.Unmarshal(service.Credentials, &file); err != nil {
			t.Fatal(err)
		}
		file[field] = value
		data, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tests := map[string]Config{
		"nothing":           {},
		"not JSON":          {Credentials: []byte("-----BEGIN")},
		"another type":      {Credentials: with("type", "authorized_user")},
		"no project":        {Credentials: with("project_id", "")},
		"no account":        {Credentials: with("client_email", "")},
		"no key":            {Credentials: with("private_key", "")},
		"a key of EC":       {Credentials: with("private_key", string(pushtest.KeyPEM(t, key)))},
		"tokens over http":  {Credentials: with("token_uri", "http://127.0.0.1/token")},
		"endpoint by http":  {Credentials: service.Credentials, Endpoint: "http://127.0.0.1"},
		"endpoint no place": {Credentials: service.Credentials, Endpoint: "https://"},
	}
	for name, config := range tests {
		if _, err := New(config); err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	standard, err := New(Config{Credentials: service.Credentials})
	if err != nil || standard.url != "https://fcm.googleapis.com/v1/projects/project-1/messages:send" {
		t.Errorf("%v", err)
	}
}

func FuzzRefused(f *testing.F) {
	for _, a := range []pushtest.Answer{pushtest.FCMError(404, "NOT_FOUND", "UNREGISTERED"), pushtest.FCMField("message.token"), {Status: 502, Body: "<html>"}} {
		f.Add(a.Status, []byte(a.Body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got := refused(status, nil, body)
		if got.Reason == "" || len(got.Reason) > 40 || strings.ContainsAny(got.Reason, "\r\n") {
			t.Errorf("reason %q", got.Reason)
		}
		if got.Gone && !strings.Contains(string(body), "token") && got.Reason != unregistered {
			t.Errorf("%s loses the token", body)
		}
	})
}
