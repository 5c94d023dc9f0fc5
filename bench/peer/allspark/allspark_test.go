package allspark

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTargets(t *testing.T) {
	o := Options{Builder: &Builder{Dir: t.TempDir()}}
	for _, target := range []*Target{One(o), Three(o)} {
		t.Run(target.About().Name, func(t *testing.T) { peertest.Run(t, target) })
	}
}

func TestParseMessage(t *testing.T) {
	for _, tt := range []struct {
		frame, body, session string
		seq                  uint64
		ok                   bool
	}{
		{`{"id":"7","dest_id":"u1","src_id":"u0","src_client_id":"u0","timestamp":1,"seq":42,"payload":"hello"}`, "hello", "", 42, true},
		{`{"dest_session_id":"g1","src_id":"u0","timestamp":1,"seq":3,"payload":"x \"seq\":9"}`, `x \`, "g1", 3, true},
		{`{"dest_id":"u1","payload":""}`, "", "", 0, true},
		{`{"dest_id":"u1","payload":1}`, "", "", 0, false},
		{`{"dest_id":"u1","payload":"cut`, "", "", 0, false},
		{``, "", "", 0, false},
	} {
		m, ok := parseMessage([]byte(tt.frame))
		if ok != tt.ok || ok && (string(m.body) != tt.body || string(m.session) != tt.session || m.seq != tt.seq) {
			t.Errorf("%s: %q %q %d %v", tt.frame, m.body, m.session, m.seq, ok)
		}
	}
}
