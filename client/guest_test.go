package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

func TestGuest(t *testing.T) {
	var calls []string
	a := api(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, r.Method+" "+r.URL.Path+" "+string(body)+r.Header.Get("Authorization"))
		if len(calls) > 2 {
			clienttest.Refuse(w, envelope.Errorf(envelope.NotFound, "no such call"))
			return
		}
		_, _ = io.WriteString(w, `{"auth_key":"k","node_id":"guest-1","client_id":"guest-1","expires_in":60}`)
	}, "http://127.0.0.1:1")
	a.AuthKey = func(context.Context) (string, error) { return "", errors.New("who has no account has no key") }

	want := client.Guest{AuthKey: "k", Node: "guest-1", Client: "guest-1", ExpiresIn: 60}
	for _, only := range []envelope.SessionID{"", "room"} {
		if g, err := a.Guest(t.Context(), only); err != nil || g != want || g.Lasts() != time.Minute {
			t.Errorf("%+v, %v", g, err)
		}
	}
	a.AuthKey = nil
	if g, err := a.Guest(t.Context(), ""); envelope.CodeOf(err) != envelope.NotFound {
		t.Errorf("%+v, %v", g, err)
	}
	if !slices.Equal(calls, []string{`POST /v1/guests `, `POST /v1/guests {"session_id":"room"}`, `POST /v1/guests `}) {
		t.Errorf("calls %q", calls)
	}
}
