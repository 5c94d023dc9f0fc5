package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// rows is a Store of one session, which counts how often it was read.
type rows struct {
	Store
	row   Session
	err   error
	reads int
}

func (r *rows) Session(context.Context, envelope.SessionID) (Session, error) {
	r.reads++
	return r.row, r.err
}

func TestTopicsRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &rows{err: ErrNotFound}
		topics := NewTopics(store)
		get := func(what string, keep, reads int) {
			t.Helper()
			rules, err := topics.Get(t.Context(), "topic:a")
			if err != nil || rules.KeepCount != keep || rules.Keeps() != (keep > 0) || store.reads != reads {
				t.Errorf("%s: %+v, %v after %d reads; want %d after %d", what, rules, err, store.reads, keep, reads)
			}
		}
		if _, known := topics.Peek("topic:a"); known {
			t.Error("known before it was read")
		}
		get("no row", 0, 1)
		get("at once again", 0, 1)
		store.row, store.err = Session{Owner: "ann", Settings: Settings{Kind: Topic, KeepCount: 5}}, nil
		get("made meanwhile", 0, 1)
		topics.Forget("topic:a")
		get("forgotten", 5, 2)
		store.row.KeepCount = 6
		time.Sleep(trust)
		get("later", 6, 3)
		if rules, known := topics.Peek("topic:a"); !known || rules.Owner != "ann" {
			t.Errorf("remembered %+v, %v", rules, known)
		}
		store.row, store.err = Session{}, envelope.BusyError(100, "away", nil)
		time.Sleep(trust)
		get("while the store is away", 6, 4)
		get("and not asked again at once", 6, 4)
		store.err = errors.New("broken")
		if _, err := topics.Get(t.Context(), "topic:b"); envelope.CodeOf(err) != envelope.Internal {
			t.Errorf("of one that is not known: %v", err)
		}
		store.err = ErrNotFound
		time.Sleep(trust)
		get("gone", 0, 6)
	})
}

func TestTopicSettings(t *testing.T) {
	yes, no, n, topic, game, owner, all, header := true, false, 3, "topic", "game", "owner", "everybody", "header"
	for _, of := range []struct {
		name   string
		change envelope.Settings
		good   bool
	}{
		{"nothing said", envelope.Settings{Kind: &topic}, true},
		{"kept by number", envelope.Settings{Kind: &topic, KeepCount: &n}, true},
		{"kept for a time", envelope.Settings{Kind: &topic, KeepSeconds: &n, AnyoneCanJoin: &yes}, true},
		{"the owner's", envelope.Settings{Kind: &topic, Publishers: &owner}, true},
		{"nobody's", envelope.Settings{Kind: &topic, Publishers: &all}, false},
		{"closed", envelope.Settings{Kind: &topic, AnyoneCanJoin: &no}, false},
		{"limited", envelope.Settings{Kind: &topic, MemberLimit: &n}, false},
		{"from its header", envelope.Settings{Kind: &topic, LateJoiners: &header}, false},
		{"a game's", envelope.Settings{Kind: &game, Publishers: &owner}, false},
		{"a group's", envelope.Settings{KeepCount: &n}, false},
	} {
		s, err := Defaults.With(of.change)
		if (err == nil) != of.good || err != nil && envelope.CodeOf(err) != envelope.BadRequest {
			t.Errorf("%s: %v", of.name, err)
		}
		if again, err := Defaults.With(s.Wire()); of.good && (err != nil || again != s) {
			t.Errorf("%s: %+v became %+v, %v", of.name, s, again, err)
		}
	}
	ann, app := envelope.Principal{Node: "ann"}, envelope.Principal{Node: "app", App: true}
	for _, rules := range []TopicRules{{}, {Owner: "ann", Settings: Settings{OwnerOnly: true}}, {Owner: "bob", Settings: Settings{OwnerOnly: true}}} {
		if got := rules.MayPublish(ann); got != (rules.Owner != "bob") || !rules.MayPublish(app) {
			t.Errorf("%+v: %v", rules, got)
		}
	}
}
