package node

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// signal returns a message to a session that is not stored.
func signal(session, id string) envelope.Envelope {
	e := to(room(session), id, "typing")
	e.Class = envelope.Volatile
	return e
}

// Who sends too many small messages is refused until it has been silent for
// long enough, whatever name it uses; who leads the session is not.
func TestSignalLimit(t *testing.T) {
	limit := func(c *Config) { c.Signals = SignalLimit{PerSecond: 10, Burst: 5} }
	inMeshOf(t, 2, limit, func(t *testing.T, m *mesh) {
		m.must("owner", "/v1/sessions", `{"session_id":"r"}`)
		m.must("owner", "/v1/sessions", `{"session_id":"other"}`)
		m.must("owner", "/v1/sessions/r/invite", `{"node_id":"mod","role":"moderator"}`)
		for _, device := range []string{"bob", "mod"} {
			m.must(device, "/v1/sessions/r/join", "")
			m.must(device, "/v1/sessions/other/join", "")
		}
		m.must("eve", "/v1/sessions/r/join", `{"as_anonymous":true}`)
		m.must("owner", "/v1/sessions", `{"session_id":"game","kind":"game"}`)
		m.must("bob", "/v1/sessions/game/join", "")
		m.must("eve", "/v1/sessions/game/join", "")
		m.must("owner", "/v1/sessions/game/master", `{"node_id":"bob"}`)

		// burst returns how many of 20 messages sent at once were taken, and when
		// to come again.
		burst := func(device, session string) (taken int, retry time.Duration) {
			api := m.api(device, device, "a")
			for range 20 {
				_, err := api.SendHTTP(t.Context(), signal(session, ""))
				switch e := envelope.AsError(err); {
				case err == nil:
					taken++
				case e.Code == envelope.RateLimited:
					retry = time.Duration(e.RetryMS) * time.Millisecond
				default:
					t.Errorf("%s: %v", device, err)
				}
			}
			return taken, retry
		}
		for _, test := range []struct {
			device, session string
			taken           int
		}{
			{"bob", "r", 5},
			{"bob", "other", 5},
			{"eve", "r", 5},
			{"mod", "r", 20},
			{"mod", "other", 5},
			{"owner", "r", 20},
			{"bob", "game", 20},
			{"eve", "game", 5},
			{"owner", "game", 20},
		} {
			taken, retry := burst(test.device, test.session)
			if taken != test.taken || (retry != 0) != (taken < 20) {
				t.Errorf("%s to %s: %d taken, again in %v", test.device, test.session, taken, retry)
			}
		}

		taken, retry := burst("bob", "r")
		if taken != 0 {
			t.Errorf("%d more at once", taken)
		}
		pass(retry - time.Millisecond)
		if taken, _ = burst("bob", "r"); taken != 0 {
			t.Errorf("%d before it was time", taken)
		}
		pass(time.Millisecond)
		if taken, _ = burst("bob", "r"); taken != 1 {
			t.Errorf("%d when it was time", taken)
		}
		private := signal("r", "")
		private.DestNode = "mod"
		if _, err := m.api("bob", "bob", "a").SendHTTP(t.Context(), private); envelope.CodeOf(err) != envelope.RateLimited {
			t.Errorf("a private message: %v", err)
		}
		m.must("bob", "/v1/messages", `{"id":"d","dest_session_id":"r","payload":"stored"}`)
		m.must("bob", "/v1/messages", `{"dest_id":"mod","class":"volatile"}`)

		// A change of role counts soon.
		m.must("owner", "/v1/sessions/r/role", `{"node_id":"bob","role":"moderator"}`)
		m.must("owner", "/v1/sessions/r/role", `{"node_id":"mod","role":"member"}`)
		pass(trustLeads)
		for device, want := range map[string]int{"bob": 20, "mod": 5} {
			if taken, _ := burst(device, "r"); taken != want {
				t.Errorf("%s has another role: %d taken", device, taken)
			}
		}

		// A guess tells nothing about a session.
		if code, _ := m.do(http.MethodPost, "carl", "a", "/v1/messages", `{"dest_session_id":"r","class":"volatile"}`); code != envelope.NotFound {
			t.Errorf("an outsider: %q", code)
		}
	})
}

// Over a connection what is too much is answered when it has an id, else
// dropped and counted. A client waits as long as it is told.
func TestSignalLimitOfConnection(t *testing.T) {
	limit := func(c *Config) { c.Signals = SignalLimit{PerSecond: 10, Burst: 5} }
	inMeshOf(t, 1, limit, func(t *testing.T, m *mesh) {
		owner := m.client("owner", "a").connected(m)
		m.must("owner", "/v1/sessions", `{"session_id":"r"}`)
		m.must("bob", "/v1/sessions/r/join", "")
		bob := m.raw("bob", "a")
		bob.hello("")
		bob.control("caught_up")
		for range 8 {
			bob.send(`{"dest_session_id":"r","class":"volatile","payload":"typing"}`)
		}
		bob.send(`{"id":"1","dest_session_id":"r","class":"latest","key":"x"}`)
		if c := bob.control("nack"); c.ID != "1" || c.Code != envelope.RateLimited || c.RetryMS != 100 {
			t.Errorf("answered %+v", c)
		}
		bob.send(`{"id":"2","dest_session_id":"r","payload":"stored"}`)
		if c := bob.control("ack"); c.ID != "2" || c.Seq == 0 {
			t.Errorf("answered %+v", c)
		}
		synctest.Wait()
		if n := m.at("a").Stats().DroppedRate.Load(); n != 3 {
			t.Errorf("%d dropped", n)
		}
		if got := owner.payloads(); len(got) != 6 {
			t.Errorf("received %q", got)
		}

		m.must("carl", "/v1/sessions/r/join", "")
		carl := m.client("carl", "a").connected(m)
		began := time.Now()
		for i := range 15 {
			carl.send(signal("r", fmt.Sprint("s", i)))
		}
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("15 messages took %v", took)
		}
	})
}
