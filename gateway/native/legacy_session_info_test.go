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
		nodes []envelope.NodeID
		code  envelope.Code
	}{
		{in: `["r",[["alice"],["bob"]]]`, id: "r", nodes: []envelope.NodeID{"alice", "bob"}},
		{in: ` [ "r" , [ ] ] `, id: "r"},
		{in: `[null,[["alice"]]]`, nodes: []envelope.NodeID{"alice"}},
		{in: `["",[["alice"]]]`, nodes: []envelope.NodeID{"alice"}},
		{in: `["not an id",[]]`, id: "not an id"}, // refused where it is used
		{in: `["r",[["alice"],["bob","alias"]]]`, code: envelope.BadRequest},
		{in: `["r",[["bob",null]]]`, code: envelope.BadRequest},
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
		id, nodes, err := decodeSessionInfo(tt.in)
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
		id, nodes, err := decodeSessionInfo(s)
		if err != nil && (id != "" || nodes != nil) || len(nodes) > maxListed {
			t.Fatalf("%q, %q, %v", id, nodes, err)
		}
		for _, node := range nodes {
			if !envelope.ValidID(string(node)) {
				t.Fatalf("%q is no id", node)
			}
		}
	})
}
