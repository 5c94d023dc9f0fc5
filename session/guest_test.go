package session_test

import (
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// Ended are the guests who have a seat and whose time is over, by whatever name
// they are in, and nobody else.
func TestEnded(t *testing.T) {
	w := newWorld(t)
	end := time.Unix(1_800_000_000, 0)
	early, late := func(name string) envelope.Principal { return who(envelope.GuestID(end, name)) },
		func(name string) envelope.Principal { return who(envelope.GuestID(end.Add(time.Second), name)) }
	if _, err := w.Create(t.Context(), who("alice"), "r", session.Defaults, session.As{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		who envelope.Principal
		as  session.As
	}{
		{early("named"), session.As{}},
		{early("hidden"), session.As{Anonymous: true}},
		{early("left"), session.As{}},
		{early("left-hidden"), session.As{Anonymous: true}},
		{late("named"), session.As{}},
		{late("hidden"), session.As{Anonymous: true}},
		{who("guest-house"), session.As{}},
		{who("bob"), session.As{Anonymous: true, Name: string(early("alias").Node)}},
	} {
		if _, err := w.Join(t.Context(), m.who, "r", m.as); err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range []string{"left", "left-hidden"} {
		if _, err := w.Leave(t.Context(), early(left), "r"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Invite(t.Context(), who("alice"), "r", early("invited").Node, session.Ordinary); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   time.Time
		want []envelope.NodeID
	}{
		{end.Add(-time.Nanosecond), nil},
		{end, []envelope.NodeID{early("hidden").Node, early("named").Node}},
	} {
		ended, err := w.Ended(t.Context(), "r", tt.at)
		var got []envelope.NodeID
		for _, guest := range ended {
			got = append(got, guest.Node)
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("at %v: %q, %v, want %q", tt.at, got, err, tt.want)
		}
	}
}
