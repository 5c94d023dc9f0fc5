package envelope

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRights(t *testing.T) {
	type places map[string]bool
	for _, tt := range []struct {
		text       string
		send, join places
		create     bool
		rate       int
	}{
		{
			text: `{}`, create: true,
			send: places{"node:bob": true, "session:lobby": true}, join: places{"lobby": true, "topic:news": true},
		},
		{
			text: `{"send":[],"join":[],"create":false,"rate":7}`, rate: 7,
			send: places{"node:bob": false, "session:lobby": false, ":": false}, join: places{"lobby": false, "": false},
		},
		{
			text: `{"send":["session:lobby","session:room-*","node:*","client:bob"],"join":["lobby","topic:*"],"create":true}`, create: true,
			send: places{
				"session:lobby": true, "session:lobby2": false, "session:Lobby": false, "session:room-": true, "session:room-7": true,
				"session:room": false, "node:bob": true, "client:bob": true, "client:bobby": false, "client:al": false, "hook:0": false,
			},
			join: places{"lobby": true, "lobby-2": false, "topic:": true, "topic:news": true, "room": false, "": false},
		},
		{
			text: `{"send":["session:*"],"join":["*"]}`, create: true,
			send: places{"session:x": true, "node:x": false}, join: places{"x": true, "topic:x": true},
		},
	} {
		r, err := ParseRights([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		again, err := json.Marshal(r)
		if err != nil || string(again) != tt.text {
			t.Errorf("%s became %s, %v", tt.text, again, err)
		}
		for to, want := range tt.send {
			kind, id, _ := strings.Cut(to, ":")
			at := Address{map[string]Kind{"node": KindNode, "client": KindClient, "session": KindSession, "hook": KindHook}[kind], id}
			if got := r.MaySend(at); got != want {
				t.Errorf("%s: send to %s: %v", tt.text, to, got)
			}
		}
		for id, want := range tt.join {
			if got := r.MayJoin(SessionID(id)); got != want {
				t.Errorf("%s: join %q: %v", tt.text, id, got)
			}
		}
		if r.MayCreate() != tt.create || r.Rate != tt.rate {
			t.Errorf("%s: create %v, rate %d", tt.text, r.MayCreate(), r.Rate)
		}
	}
	var none *Rights
	if !none.MaySend(Address{KindNode, "bob"}) || !none.MayJoin("lobby") || !none.MayCreate() {
		t.Error("who has no rights given is bound")
	}
}

// Whatever is not understood as a whole gives nothing.
func TestRightsRefused(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `true`, `"send"`, `{"send":[]`, `{} {}`,
		`{"Send":[]}`, `{"ſend":[]}`, `{"sent":[]}`, `{"send":[],"admin":true}`, `{"send":[],"send":["node:*"]}`, `{"":1}`,
		`{"send":null}`, `{"join":null}`, `{"create":null}`, `{"rate":null}`,
		`{"send":"session:*"}`, `{"send":[1]}`, `{"send":[null]}`, `{"send":["*"]}`, `{"send":["session:"]}`, `{"send":["session"]}`,
		`{"send":["sessions:*"]}`, `{"send":["session:**"]}`, `{"send":["session:*x"]}`, `{"send":["hook:*"]}`, `{"send":["topic:news"]}`,
		`{"send":["session:a b"]}`, `{"send":["session:` + strings.Repeat("a", MaxIDLen+1) + `*"]}`,
		`{"join":[""]}`, `{"join":["a*b"]}`, `{"join":["é*"]}`, `{"join":{"lobby":true}}`,
		`{"create":"no"}`, `{"create":0}`, `{"rate":0}`, `{"rate":-1}`, `{"rate":1.5}`, `{"rate":"9"}`, `{"rate":1e99}`,
		`{"join":["` + strings.Repeat(`a","`, MaxRights/4) + `"]}`,
	} {
		if r, err := ParseRights([]byte(text)); CodeOf(err) != BadRequest {
			t.Errorf("%.40s: %+v, %v", text, r, err)
		}
	}
}

func TestSamePrincipal(t *testing.T) {
	alice := Principal{Node: "phone", Client: "alice", Rights: &Rights{Rate: 1}}
	again := alice
	again.Rights = nil
	if !alice.Same(again) || !again.Same(alice) {
		t.Error("rights make another device of it")
	}
	for _, other := range []Principal{
		{Node: "phone", Client: "bob"},
		{Node: "tablet", Client: "alice"},
		{Node: "phone", Client: "alice", App: true},
		{Node: "phone", Client: "alice", Guest: true},
		{Node: "phone", Client: "alice", Only: "lobby"},
	} {
		if alice.Same(other) {
			t.Errorf("%+v is taken for %+v", other, alice)
		}
	}
}

// What is read allows nothing that the text does not say, and is read again as
// the same.
func FuzzRights(f *testing.F) {
	f.Add(`{"send":["session:lobby","node:*"],"join":["topic:*"],"create":false,"rate":7}`)
	f.Add(`{"send":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRights([]byte(text))
		if err != nil {
			if CodeOf(err) != BadRequest {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil || len(again) > len(text) {
			t.Fatalf("%s became %s, %v", text, again, err)
		}
		read, err := ParseRights(again)
		if err != nil || !r.Equal(read) {
			t.Fatalf("%s became %s, %v", text, again, err)
		}
	})
}
