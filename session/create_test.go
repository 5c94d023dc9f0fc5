package session_test

import (
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// A session without members is the app's to make; it adds them afterwards.
func TestCreateEmpty(t *testing.T) {
	w := newWorld(t)
	if _, err := w.CreateEmpty(t.Context(), who("alice"), "r", session.Settings{}, session.As{}); envelope.CodeOf(err) != envelope.Forbidden {
		t.Errorf("for a device: %v", err)
	}
	app := who("app")
	app.App = true
	for range 2 {
		if _, err := w.CreateEmpty(t.Context(), app, "r", session.Settings{}, session.As{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, members, err := w.Get(t.Context(), app, "r"); err != nil || len(members) != 0 {
		t.Errorf("members %+v, %v", members, err)
	}
	if _, err := w.Add(t.Context(), app, "r", who("bob"), session.Ordinary, session.As{}); err != nil {
		t.Error(err)
	}
	if _, members, err := w.Get(t.Context(), who("bob"), "r"); err != nil || len(members) != 1 || members[0].Node != "bob" {
		t.Errorf("members %+v, %v", members, err)
	}
}
