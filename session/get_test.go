package session_test

import (
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// However many members a session has, they are read for those only who are told
// of them.
func TestGetReadsWhatIsTold(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.group(t)
	for device, how := range map[string]string{
		"named": "by name", "hidden": "by alias", "left": "left by name", "gone": "left both", "invited": "invited",
	} {
		w.put(t, device, how)
	}
	if _, err := w.Create(ctx, who("alice"), "quiet", session.Settings{AnyoneCanJoin: true, MembersHidden: true}, session.As{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Join(ctx, who("named"), "quiet", session.As{}); err != nil {
		t.Fatal(err)
	}
	store := &counting{Store: w.store}
	sessions := session.New(store, w.append, nil)
	for _, tt := range []struct {
		who     envelope.Principal
		id      envelope.SessionID
		members int // 0: refused
		reads   int64
	}{
		{who("alice"), "r", 3, 1},
		{who("named"), "r", 3, 1},
		{who("hidden"), "r", 3, 1},
		{app, "r", 3, 1},
		{who("invited"), "r", 1, 0},
		{who("left"), "r", 0, 0},
		{who("gone"), "r", 0, 0},
		{who("nobody"), "r", 0, 0},
		{who("alice"), "quiet", 2, 1},
		{who("named"), "quiet", 1, 0},
		{who("nobody"), "quiet", 0, 0},
		{who("nobody"), "nothing", 0, 0},
	} {
		store.reads.Store(0)
		_, members, err := sessions.Get(ctx, tt.who, tt.id)
		if len(members) != tt.members || (envelope.CodeOf(err) == envelope.NotFound) != (tt.members == 0) || store.reads.Load() != tt.reads {
			t.Errorf("%s of %s: %d members, %v, all read %d times", tt.who.Node, tt.id, len(members), err, store.reads.Load())
		}
	}
}
