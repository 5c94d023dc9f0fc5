package node

import (
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// asked reports whether a server has been asked to drain, once for each time.
func (s *server) asked() bool {
	select {
	case <-s.DrainAsked():
		return true
	default:
		return false
	}
}

// A server is drained by any other, also one that it has no link to, and says
// that it has heard.
func TestDrainServer(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		for _, to := range []string{"a", "b"} {
			got := asApp[gateway.Draining](m, "a", gateway.DrainServer{Server: envelope.ServerID(to)})
			if got.Server != envelope.ServerID(to) || got.Boot != m.at(to).graph.Boot() || !m.at(to).asked() {
				t.Errorf("%s: %+v", to, got)
			}
		}
		asApp[gateway.Draining](m, "a", gateway.DrainServer{Server: "b"})
		asApp[gateway.Draining](m, "a", gateway.DrainServer{Server: "b"}) // a repetition asks no more
		if !m.at("b").asked() || m.at("b").asked() {
			t.Error("asked twice and not once")
		}
		if m.at("c").asked() {
			t.Error("c was asked")
		}
		m.cut("a", "c")
		m.within(time.Minute, "by way of b", func() bool {
			_, err := m.at("a").Do(t.Context(), backend, gateway.DrainServer{Server: "c"})
			return err == nil && m.at("c").asked()
		})
		m.heal("a", "c")

		if m.at("c").drainHere("another boot") || m.at("c").asked() {
			t.Error("what was meant for another start of it is taken for its own")
		}
		for _, test := range []struct {
			who    envelope.Principal
			server envelope.ServerID
			code   envelope.Code
		}{
			{backend, "x", envelope.NotFound},
			{backend, "", envelope.NotFound},
			{envelope.Principal{Node: "ann", Client: "ann"}, "b", envelope.Forbidden},
			{envelope.Principal{Node: "ann", Client: "ann"}, "x", envelope.Forbidden},
		} {
			if _, err := m.at("a").Do(t.Context(), test.who, gateway.DrainServer{Server: test.server}); envelope.CodeOf(err) != test.code {
				t.Errorf("%+v: %v", test, err)
			}
		}
		m.cut("a", "b")
		m.cut("b", "c")
		start := time.Now()
		if _, err := m.at("a").Do(t.Context(), backend, gateway.DrainServer{Server: "b"}); envelope.CodeOf(err) != envelope.Busy || time.Since(start) > 2*askWithin {
			t.Errorf("of a server that cannot be reached, after %v: %v", time.Since(start), err)
		}
	})
}
