package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// api returns an API whose calls are answered by h.
func api(t *testing.T, h http.HandlerFunc, more ...string) *client.API {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &client.API{
		Servers:    append(more, srv.URL),
		AuthKey:    func(context.Context) (string, error) { return "key", nil },
		HTTPClient: srv.Client(),
	}
}

func TestCallsAreRepeatedOnlyWhereThatIsSafe(t *testing.T) {
	hangUp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}))
	defer hangUp.Close()
	answered := 0
	answer := func(w http.ResponseWriter, _ *http.Request) {
		answered++
		_, _ = io.WriteString(w, "{}")
	}
	a := api(t, answer, hangUp.URL)
	if _, err := a.CreateSession(t.Context(), "", envelope.Settings{}); err == nil || answered != 0 {
		t.Errorf("created a second time: %v", err)
	}
	if _, err := a.JoinSession(t.Context(), "s"); err != nil || answered != 1 {
		t.Errorf("joining is safe to repeat: %v", err)
	}
	gone := api(t, answer, "http://127.0.0.1:1")
	if _, err := gone.CreateSession(t.Context(), "", envelope.Settings{}); err != nil || answered != 2 {
		t.Errorf("a server that was not reached has created nothing: %v", err)
	}
	for _, tt := range []struct {
		code  envelope.Code
		again bool // asked the next server, though the call may not be made twice
	}{
		{envelope.Busy, false},
		{envelope.Internal, false}, // it may have been done
		{envelope.GoingAway, true},
		{envelope.RateLimited, true},
		{envelope.Quota, true},
		{envelope.Forbidden, false},
		{envelope.Conflict, false},
	} {
		before := answered
		a := api(t, answer, refusing(t, tt.code))
		if _, err := a.CreateSession(t.Context(), "", envelope.Settings{}); (err == nil) != tt.again || (answered > before) != tt.again {
			t.Errorf("%s: %v, asked another server %d times", tt.code, err, answered-before)
		}
	}
}

// refusing returns the URL of a server that refuses all calls.
func refusing(t *testing.T, code envelope.Code) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		clienttest.Refuse(w, &envelope.Error{Code: code})
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// What ends a call is what its error says first, whatever servers before have said.
func TestDecisiveRefusal(t *testing.T) {
	a := api(t, nil, refusing(t, envelope.GoingAway), "http://127.0.0.1:1", refusing(t, envelope.Conflict))
	if _, err := a.JoinSession(t.Context(), "s"); envelope.CodeOf(err) != envelope.Conflict {
		t.Errorf("the call ended with %v", err)
	}
	hangUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer hangUp.Close()
	a = api(t, nil, refusing(t, envelope.GoingAway), hangUp.URL)
	if _, err := a.CreateSession(t.Context(), "", envelope.Settings{}); err == nil || envelope.CodeOf(err) == envelope.GoingAway {
		t.Errorf("what may have been done ended with %v", err)
	}
}

func TestProblems(t *testing.T) {
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sessions/teapot" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		clienttest.Refuse(w, &envelope.Error{Code: envelope.Forbidden, Detail: "no"})
	})
	_, err := a.Session(t.Context(), "s")
	if e, ok := errors.AsType[*envelope.Error](err); !ok || e.Code != envelope.Forbidden || e.Detail != "no" {
		t.Error(err)
	}
	_, err = a.Session(t.Context(), "teapot")
	if _, ok := errors.AsType[*envelope.Error](err); ok || err == nil {
		t.Error(err)
	}
}
