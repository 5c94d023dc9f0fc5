package native

import (
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

func TestSessionInfoParameter(t *testing.T) {
	for _, tt := range []struct {
		in    string
		id    envelope.SessionID
		nodes []string
		code  envelope.Code
	}{
		{in: `["r",[["alice"],["bob"]]]`, id: "r", nodes: []string{"alice", "bob"}},
		{in: ` [ "r" , [ ] ] `, id: "r"},
		{in: `[null,[["alice"]]]`, nodes: []string{"alice"}},
		{in: `["",[["alice"]]]`, nodes: []string{"alice"}},
		{in: `["not an id",[]]`, id: "not an id"}, // refused where it is used
		{in: `["r",[["alice"],["bob","zorro"]]]`, id: "r", nodes: []string{"alice", "bob as zorro"}},
		{in: `["r",[["bob",null]]]`, id: "r", nodes: []string{"bob"}},
		{in: `["r",[["bob",""]]]`, code: envelope.BadRequest},
		{in: `["r",[["bob","r~zorro"]]]`, code: envelope.BadRequest},
		{in: `["r",[["bob","a b"]]]`, code: envelope.BadRequest},
		{in: `["r",[["bob",7]]]`, code: envelope.BadRequest},
		{in: `["r",[["bob","zorro","x"]]]`, code: envelope.BadRequest},
		{in: `["r",[[]]]`, code: envelope.BadRequest},
		{in: `["r",[[null]]]`, code: envelope.BadRequest},
		{in: `["r",[[7]]]`, code: envelope.BadRequest},
		{in: `["r",[["a b"]]]`, code: envelope.BadRequest},
		{in: `["r",["alice"]]`, code: envelope.BadRequest},
		{in: `["r",null]`, code: envelope.BadRequest},
		{in: `["r"]`, code: envelope.BadRequest},
		{in: `["r",[],[]]`, code: envelope.BadRequest},
		{in: `[7,[]]`, code: envelope.BadRequest},
		{in: `{"r":[]}`, code: envelope.BadRequest},
		{in: `["r",[["alice"]]] x`, code: envelope.BadRequest},
		{in: `x`, code: envelope.BadRequest},
		{in: `["r",[` + strings.Repeat(`["a"],`, maxListed) + `["a"]]]`, code: envelope.TooLarge},
	} {
		id, members, err := decodeSessionInfo(tt.in)
		var nodes []string
		for _, m := range members {
			name := string(m.node)
			if m.as.Anonymous {
				name += " as " + m.as.Name
			}
			nodes = append(nodes, name)
		}
		if envelope.CodeOf(err) != tt.code || id != tt.id || !slices.Equal(nodes, tt.nodes) {
			t.Errorf("%.60s: got %q, %q, %v; want %q, %q, %q", tt.in, id, nodes, err, tt.id, tt.nodes, tt.code)
		}
	}
}

func FuzzSessionInfoParameter(f *testing.F) {
	for _, s := range []string{`["r",[["alice"],["bob"]]]`, `[null,[["a"]]]`, `["r",[["a","b"]]]`, `["r",[[]]]`, `["\ud800",[["a"]]]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, members, err := decodeSessionInfo(s)
		if err != nil && (id != "" || members != nil) || len(members) > maxListed {
			t.Fatalf("%q, %v, %v", id, members, err)
		}
		for _, m := range members {
			if !envelope.ValidID(string(m.node)) || m.as.Anonymous != envelope.ValidID(m.as.Name) {
				t.Fatalf("%+v", m)
			}
		}
	})
}
