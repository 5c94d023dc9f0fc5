package push

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func asJSON(n Notification) ([]byte, error) { return json.Marshal(n) }

func TestFit(t *testing.T) {
	const limit = 600
	long := strings.Repeat("Grüße, ", 200)
	tests := []struct {
		name string
		n    Notification
		kept func(Notification) bool // what must not be shortened
	}{
		{"small", Notification{Title: "a", Body: "b"}, func(n Notification) bool { return n.Title == "a" && n.Body == "b" }},
		{"body", Notification{Title: "Ann", Body: long}, func(n Notification) bool { return n.Title == "Ann" && len(n.Body) > 100 }},
		{"title", Notification{Title: long, Body: "b"}, func(n Notification) bool { return n.Body == "b" && len(n.Title) > 100 }},
		{"an argument", Notification{BodyKey: "K", BodyArgs: []string{"Ann", long}}, func(n Notification) bool {
			return n.BodyKey == "K" && n.BodyArgs[0] == "Ann" && len(n.BodyArgs) == 2 && len(n.BodyArgs[1]) > 100
		}},
		{"everything", Notification{Title: long, Body: long, TitleArgs: []string{long}, BodyArgs: []string{long}}, func(Notification) bool { return true }},
		{"characters that grow", Notification{Body: strings.Repeat("<\x01", 300)}, func(Notification) bool { return true }},
		{"not UTF-8", Notification{Body: strings.Repeat("\xff\x80", 300)}, func(Notification) bool { return true }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := slices.Concat(test.n.BodyArgs, test.n.TitleArgs)
			data, err := Fit(test.n, limit, asJSON)
			if err != nil || len(data) > limit {
				t.Fatalf("%d bytes, %v", len(data), err)
			}
			var got Notification
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if !test.kept(got) {
				t.Errorf("got %+v", got)
			}
			if utf8.ValidString(test.n.Body) && (strings.Contains(got.Body, "\ufffd") || strings.Contains(got.Body, "……")) {
				t.Errorf("cut badly: %q", got.Body)
			}
			if got.Body != test.n.Body && got.Body != "" && !strings.HasSuffix(got.Body, ellipsis) {
				t.Errorf("cut without a sign: %q", got.Body)
			}
			if after := slices.Concat(test.n.BodyArgs, test.n.TitleArgs); !slices.Equal(before, after) {
				t.Error("the caller's arguments were changed")
			}
		})
	}
	t.Run("data alone", func(t *testing.T) {
		if _, err := Fit(Notification{Body: "b", Data: map[string]string{"k": long}}, limit, asJSON); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
	})
	t.Run("no encoding", func(t *testing.T) {
		want := errors.New("no")
		if _, err := Fit(Notification{}, limit, func(Notification) ([]byte, error) { return nil, want }); !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
	})
}
