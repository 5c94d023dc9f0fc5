package push

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

func TestNotification(t *testing.T) {
	room := envelope.SessionID("room").Address()
	said := func(change func(*envelope.Envelope)) *envelope.Envelope {
		env := &envelope.Envelope{DestSession: "room", SrcNode: "phone", SrcClient: "alice", Seq: 7, Timestamp: time.Now().UnixMilli()}
		env.SetPayload("secret")
		if change != nil {
			change(env)
		}
		return env
	}
	anonymous := func(env *envelope.Envelope) { env.SrcNode, env.SrcClient = envelope.AliasOf("room", "zorro"), "" }
	for _, test := range []struct {
		name  string
		text  Text
		env   *envelope.Envelope
		check func(n Notification) bool
	}{
		{"keys", Text{TitleKey: "t", BodyKey: "b", Sound: "default"}, said(nil), func(n Notification) bool {
			args := []string{"alice", "room", "3"}
			return n.TitleKey == "t" && n.BodyKey == "b" && slices.Equal(n.TitleArgs, args) && slices.Equal(n.BodyArgs, args) &&
				n.Title == "" && n.Body == "" && n.Sound == "default" && n.Urgent && !n.Silent
		}},
		{"text wins", Text{TitleKey: "t", BodyKey: "b", Title: "{session}!", Body: "{unread} of {sender}"}, said(nil), func(n Notification) bool {
			return n.TitleKey == "" && n.BodyKey == "" && n.Title == "room!" && n.Body == "3 of alice" && n.TitleArgs == nil
		}},
		{"alias", Text{BodyKey: "b", Title: "{sender}"}, said(anonymous), func(n Notification) bool {
			return n.Title == "room~zorro" && n.BodyArgs[0] == "room~zorro"
		}},
		{"silent", Text{TitleKey: "t", Body: "b", Sound: "s", Silent: true}, said(nil), func(n Notification) bool {
			return n.Silent && !n.Urgent && n.TitleKey == "" && n.Body == "" && n.Sound == "" && *n.Badge == 3
		}},
		{"no contents", Text{}, said(nil), func(n Notification) bool {
			return len(n.Data) == 2 && n.Data["log"] == "session:room" && n.Data["seq"] == "7"
		}},
		{"contents", Text{Content: true}, said(nil), func(n Notification) bool { return strings.Contains(n.Data["message"], "secret") }},
		{"large contents", Text{Content: true}, said(func(env *envelope.Envelope) { env.SetPayload(strings.Repeat("x", maxContent)) }), func(n Notification) bool {
			return len(n.Data) == 2
		}},
		{"time to live", Text{}, said(func(env *envelope.Envelope) { env.TTL = 60 }), func(n Notification) bool {
			return n.Expires.Before(time.Now().Add(time.Minute + time.Second))
		}},
		{"collapses by log", Text{}, said(nil), func(n Notification) bool {
			return n.CollapseID == collapseID(room) && len(n.CollapseID) == 36 && !strings.Contains(n.CollapseID, "room")
		}},
	} {
		if n := test.text.notification(Pending{Log: room, Envelope: test.env}, 3); !test.check(n) {
			t.Errorf("%s: %+v", test.name, n)
		}
	}
}

// The words are those of the language nearest to the device's, by cutting its
// name from the end; what they leave out is as without them.
func TestTextByLocale(t *testing.T) {
	text := Text{TitleKey: "t", Body: "new", In: map[string]Words{
		"de":         {Title: "Neu", Body: "von {sender}"},
		"de-AT":      {Body: "vo {sender}"},
		"zh-Hant-TW": {BodyKey: "ZH"},
		"x":          {Title: "no"},
		"en-a":       {Title: "no"},
	}}
	of := Pending{Log: envelope.NodeID("phone").Address(), Envelope: &envelope.Envelope{SrcClient: "ann"}}
	for locale, want := range map[string]Words{
		"":                    {TitleKey: "t", Body: "new"},
		"fr":                  {TitleKey: "t", Body: "new"},
		"d":                   {TitleKey: "t", Body: "new"},
		"de":                  {Title: "Neu", Body: "von ann"},
		"DE-ch":               {Title: "Neu", Body: "von ann"},
		"de-Latn-CH-1996":     {Title: "Neu", Body: "von ann"},
		"de-at":               {TitleKey: "t", Body: "vo ann"},
		"de-AT-x-dialect":     {TitleKey: "t", Body: "vo ann"},
		"zh-Hant":             {TitleKey: "t", Body: "new"},
		"zh-Hant-TW-u-ca-roc": {TitleKey: "t", BodyKey: "ZH"},
		"en-a-bbb":            {TitleKey: "t", Body: "new"},
		"den":                 {TitleKey: "t", Body: "new"},
	} {
		n := text.in(locale).notification(of, 1)
		if got := (Words{n.TitleKey, n.BodyKey, n.Title, n.Body}); got != want {
			t.Errorf("%s: %+v, want %+v", locale, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempts, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 7: 320 * time.Second, 8: 10 * time.Minute, 1000: 10 * time.Minute} {
		if got := backoff(attempts); got != want {
			t.Errorf("after %d attempts %v, want %v", attempts, got, want)
		}
	}
}
