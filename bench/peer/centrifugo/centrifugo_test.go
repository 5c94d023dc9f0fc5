package centrifugo

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// collect parses a frame and writes down what it holds.
func collect(frame string) (got []string, err error) {
	e := events{
		push:  func(p push) { got = append(got, fmt.Sprintf("%s: %s at %d", p.channel, p.data, p.offset)) },
		reply: func(r reply) { got = append(got, fmt.Sprintf("%d %v", r.ID, r.Error)) },
		ping:  func() { got = append(got, "ping") },
	}
	err = e.parse([]byte(frame))
	return got, err
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
		bad  bool
	}{
		{in: ""},
		{in: "{}", want: []string{"ping"}},
		{in: `{"push":{"channel":"u-bob","pub":{"data":"hello"}}}`, want: []string{"u-bob: hello at 0"}},
		{
			in: `{"push":{"channel":"kept:u-bob","pub":{"data":"one","info":{"user":"","client":"x"},"offset":17}}}` + "\n" +
				`{"push":{"channel":"kept:u-bob","pub":{"data":"two","offset":18}}}` + "\n{}\n",
			want: []string{"kept:u-bob: one at 17", "kept:u-bob: two at 18", "ping"},
		},
		{in: `{"push":{"channel":"u-bob","join":{"info":{"client":"x"}}}}`},
		{in: `{"push":{"disconnect":{"code":3000}}}`},
		{in: `{"id":7,"publish":{}}` + "\n" + `{"id":8,"error":{"code":103,"message":"permission denied"}}`, want: []string{"7 <nil>", "8 centrifugo: 103 permission denied"}},
		{in: `{"id":1,"connect":{"client":"x","version":"6.9.0","ping":25,"pong":true}}`, want: []string{"1 <nil>"}},
		{in: `{"connect":{}}`, bad: true},
		{in: `HTTP`, bad: true},
		{in: `{"id":"x","publish":{}}`, bad: true},
	} {
		got, err := collect(tt.in)
		if !slices.Equal(got, tt.want) || (err != nil) != tt.bad {
			t.Errorf("%s: %q, %v", tt.in, got, err)
		}
	}
}

func TestParseSubscribe(t *testing.T) {
	r, err := parseReply([]byte(`{"id":3,"subscribe":{"recoverable":true,"epoch":"abc","publications":[{"data":"one","offset":4},{"data":"two","offset":5}],"recovered":true,"offset":5,"positioned":true}}`))
	if err != nil || r.Subscribe == nil || !r.Subscribe.Recovered || r.Subscribe.position != (position{"abc", 5}) ||
		len(r.Subscribe.Publications) != 2 || r.Subscribe.Publications[1].Data != "two" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{appendConnect(nil, 1), `{"id":1,"connect":{}}`},
		{appendSubscribe(nil, 3, "u-bob", nil), `{"id":3,"subscribe":{"channel":"u-bob"}}`},
		{appendSubscribe(nil, 3, "kept:u-bob", &position{"abc", 5}), `{"id":3,"subscribe":{"channel":"kept:u-bob","recover":true,"epoch":"abc","offset":5}}`},
		{appendPublish(nil, 4, userPrefix, "bob", []byte("hi")), `{"id":4,"publish":{"channel":"u-bob","data":"hi"}}`},
	} {
		if string(tt.got) != tt.want || !json.Valid(tt.got) {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, config := range []string{Config, config5} {
		if !json.Valid([]byte(config)) {
			t.Errorf("not JSON: %s", config)
		}
	}
}

// A user who comes back asks for what came after the last message heard.
func TestAccount(t *testing.T) {
	a := &account{channels: make(map[string]*position)}
	if a.position("kept:u-bob") != nil {
		t.Error("a position in a channel that was never heard")
	}
	a.reached([]byte("kept:u-bob"), 3)
	a.set("kept:u-bob", position{"abc", 5})
	a.set("kept:g-friends", position{"abc", 1})
	a.reached([]byte("kept:u-bob"), 6)
	if at := a.position("kept:u-bob"); at == nil || *at != (position{"abc", 6}) {
		t.Errorf("at %v", at)
	}
	if got := a.kept("kept:u-bob"); !slices.Equal(got, []string{"kept:g-friends", "kept:u-bob"}) {
		t.Errorf("follows %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"push":{"channel":"u-bob","pub":{"data":"hello","offset":1}}}` + "\n{}\n" + `{"id":7,"publish":{}}`)
	f.Fuzz(func(t *testing.T, frame string) {
		got, err := collect(frame)
		again, errAgain := collect(frame + "\n{}")
		if err == nil && (errAgain != nil || !slices.Equal(again, append(got, "ping"))) {
			t.Fatalf("%q: %q, and with a ping %q, %v", frame, got, again, errAgain)
		}
	})
}
