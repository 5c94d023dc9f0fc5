package envelope

import (
	"strings"
	"testing"
)

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"node:a", "node:room~zorro", "client:a", "session:topic:a", "node:a~b~c", "node:~x", "node:room~", "session:r~x", "node:" + strings.Repeat("x", 200), ":", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if CodeOf(err) != BadRequest || !a.IsZero() {
				t.Fatalf("%v, %v", a, err)
			}
			return
		}
		if a.String() != s {
			t.Fatalf("%q became %q", s, a)
		}
		in, name, alias := NodeID(a.ID).Alias()
		if alias != strings.Contains(a.ID, "~") || alias && (a.Kind != KindNode || AliasOf(in, name) != NodeID(a.ID)) {
			t.Fatalf("%q: %q, %q, %v", s, in, name, alias)
		}
	})
}

func FuzzParseValue(f *testing.F) {
	for _, s := range []string{`{"a":1}`, ` 1 `, `null`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, "\"\xff\"", `"\ud800"`, `1 2`, ``, strings.Repeat("[", 40) + strings.Repeat("]", 40)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := ParseValue(text)
		if err != nil {
			if CodeOf(err) != BadRequest {
				t.Fatal(err)
			}
			return
		}
		var p Parser
		if _, err := p.Parse(append(append([]byte(`{"dest_id":"a","payload":`), v...), '}')); err != nil {
			t.Fatalf("%q cannot be the payload of a message: %v", v, err)
		}
	})
}
