package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// revokedWithin is what everybody is promised.
const revokedWithin = 5 * time.Second

var backend = envelope.Principal{Node: "app", Client: "app", App: true}

func (m *mesh) revoke(at string, what gateway.Revoke) {
	m.t.Helper()
	time.Sleep(1500 * time.Millisecond) // what was issued so far was issued in an earlier second
	if _, err := m.at(at).Do(m.t.Context(), backend, what); err != nil {
		m.t.Fatal(err)
	}
}

// away makes the store fail in what is about revocations.
func (s *faultyStore) away(away bool) {
	s.set(func(s *faultyStore) {
		s.before = func(op string) error {
			if away && op == "revocations" {
				return errAway
			}
			return nil
		}
	})
}

// mintNamed returns an auth key with a name of its own.
func (m *mesh) mintNamed(clientID, deviceID, jti string) string {
	m.t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(clientID), Node: envelope.NodeID(deviceID), JTI: jti, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

// connectWith makes the pre-connection call with an auth key. It returns the
// validation token for that server, or why there is none.
func (m *mesh) connectWith(key, at string) (ticket string, refused envelope.Code) {
	m.t.Helper()
	code, text := m.guestCall(client.Guest{AuthKey: key}, http.MethodPost, at, "/v1/connect", "")
	var reply struct{ Servers []client.Node }
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		m.t.Fatal(err)
	}
	for _, s := range reply.Servers {
		if string(s.NodeID) == at {
			ticket = s.ValidationToken
		}
	}
	return ticket, code
}

// opened opens a connection with an auth key.
func (m *mesh) opened(key, at string) *raw {
	m.t.Helper()
	ticket, refused := m.connectWith(key, at)
	if refused != "" {
		m.t.Fatal(refused)
	}
	r := m.dial("ws://"+at+"/ws", native.Subprotocol, "bearer."+ticket)
	r.hello("")
	r.control("caught_up")
	return r
}

// Of three servers, one has no link to the others: it sees what was revoked in
// the store. All connections that are meant end, and no others.
func TestRevocationOnThreeServers(t *testing.T) {
	for _, test := range []struct {
		name string
		what gateway.Revoke
		ends map[string]bool // by jti
	}{
		{"a key", gateway.Revoke{JTI: "ann-2"}, map[string]bool{"ann-2": true}},
		{"a user", gateway.Revoke{Client: "ann"}, map[string]bool{"ann-1": true, "ann-2": true, "ann-3": true}},
		{"a device", gateway.Revoke{Node: "ann-3"}, map[string]bool{"ann-3": true}},
		{"everybody", gateway.Revoke{}, map[string]bool{"ann-1": true, "ann-2": true, "ann-3": true, "bob-1": true, "bob-2": true, "bob-3": true}},
		{"nobody: before anything", gateway.Revoke{Before: 1}, nil},
	} {
		for _, apart := range []bool{false, true} {
			name := test.name
			if apart {
				name += ", one server apart"
			}
			t.Run(name, func(t *testing.T) {
				inMesh(t, 3, func(t *testing.T, m *mesh) {
					conns := make(map[string]*raw)
					keys := make(map[string]string)
					for i, at := range m.ids() {
						for _, who := range []string{"ann", "bob"} {
							jti := who + "-" + string(rune('1'+i))
							keys[jti] = m.mintNamed(who, jti, jti)
							conns[jti] = m.opened(keys[jti], at)
						}
					}
					if apart {
						m.cut("a", "c")
						m.cut("b", "c")
					}
					m.revoke("a", test.what)
					start := time.Now()
					var wg sync.WaitGroup
					for jti, c := range conns {
						wg.Go(func() {
							_, err := c.next(revokedWithin)
							if ended := websocket.CloseStatus(err) == websocket.StatusCode(envelope.Revoked.CloseCode()); ended != test.ends[jti] {
								t.Errorf("%s: %v after %v", jti, err, time.Since(start))
							}
							if took := time.Since(start); test.ends[jti] && !apart && took > 100*time.Millisecond {
								t.Errorf("%s has ended after %v, with nothing in between", jti, took)
							}
						})
					}
					wg.Wait()
					pass(revokedPoll)
					for jti, key := range keys {
						for _, at := range m.ids() {
							want := envelope.Code("")
							if test.ends[jti] {
								want = envelope.Revoked
							}
							if _, refused := m.connectWith(key, at); refused != want {
								t.Errorf("%s at %s: %q, want %q", jti, at, refused, want)
							}
						}
					}
					if test.ends["ann-1"] { // signed in again
						m.opened(m.mintNamed("ann", "ann-1", "ann-again"), "c")
					}
				})
			})
		}
	}
}

// Every way to be connected ends, also that of somebody who reads nothing.
func TestRevocationOfEveryConnection(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		revoked := websocket.StatusCode(envelope.Revoked.CloseCode())
		legacy := m.legacy("old", "b")
		socket := m.raw("new", "b") // which has not said hello
		g := m.guest("a", "")
		unused := m.guestTicket(g, "b")
		guest := m.dial("ws://b/ws", native.Subprotocol, "bearer."+m.guestTicket(g, "b"))
		stream := m.events("streams", "b", "")
		device := m.client("device", "b").connected(m)
		m.raw("deaf", "b").hello("")
		polled := make(chan error, 1)
		go func() {
			_, _, err := m.poll("polls", "b", "", "50s")
			polled <- err
		}()
		m.within(5*time.Second, "all connected", func() bool { return m.at("b").Connections() == 7 })

		m.revoke("a", gateway.Revoke{})
		start := time.Now()
		synctest.Wait()
		for name, r := range map[string]*raw{"legacy": legacy, "socket": socket, "guest": guest} {
			if status := r.closed(); status != revoked {
				t.Errorf("%s: closed with %d", name, status)
			}
		}
		rest, err := io.ReadAll(stream.lines)
		if err != nil || !strings.Contains(string(rest), `"revoked"`) {
			t.Errorf("the stream has ended with %q, %v", rest, err)
		}
		if err := <-polled; err == nil || !strings.HasPrefix(err.Error(), "401") {
			t.Errorf("the poll has ended with %v", err)
		}
		m.within(revokedWithin-time.Since(start), "nobody connected", func() bool { return m.at("b").Connections() == 0 })
		m.within(time.Minute, "the device stays away", func() bool { return device.State() == client.Closed })

		if status := m.dial("ws://b/ws", native.Subprotocol, "bearer."+unused).closed(); status != revoked {
			t.Errorf("a validation token from before: closed with %d", status)
		}
		if code, text := m.guestCall(g, http.MethodPost, "b", "/v1/connect", ""); code != envelope.Revoked {
			t.Errorf("the guest's key: %s", text)
		}
		if n := m.at("b").Stats().ClosedRevoked.Load(); n < 8 {
			t.Errorf("%d revoked", n)
		}
	})
}

// What is revoked stays so for a server that starts later, and for one that was
// away from the store when it happened.
func TestRevocationBeforeAServerStarts(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		key := m.mintNamed("ann", "ann", "one")
		m.at("b").store.away(true)
		m.cut("a", "b")
		m.revoke("a", gateway.Revoke{JTI: "one"})
		m.start("c")
		if _, refused := m.connectWith(key, "c"); refused != envelope.Revoked {
			t.Errorf("at a server that has started since: %q", refused)
		}
		pass(10 * time.Second)
		if _, refused := m.connectWith(key, "b"); refused != "" {
			t.Errorf("who could have told b? %q", refused)
		}
		m.at("b").store.away(false)
		pass(revokedPoll)
		if _, refused := m.connectWith(key, "b"); refused != envelope.Revoked {
			t.Errorf("at a server whose store is there again: %q", refused)
		}
	})
}

// The calls: who may, what they take and what they answer.
func TestRevocationCalls(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
			Client: "backend", App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		app := &client.API{
			Servers: []string{"http://a"}, HTTPClient: m.network.Client(),
			AuthKey: func(context.Context) (string, error) { return key, nil },
		}
		time.Sleep(90 * time.Second)
		now := time.Now().UnixMilli()
		for _, test := range []struct {
			what client.Revocation
			want envelope.Code
		}{
			{client.Revocation{}, envelope.BadRequest},
			{client.Revocation{JTI: "x", Client: "y"}, envelope.BadRequest},
			{client.Revocation{Client: "y", All: true}, envelope.BadRequest},
			{client.Revocation{Client: "not an id"}, envelope.BadRequest},
			{client.Revocation{Client: "y", Before: -1}, envelope.BadRequest},
			{client.Revocation{Client: "y", Before: now + time.Minute.Milliseconds()}, envelope.BadRequest},
			{client.Revocation{JTI: strings.Repeat("x", 257)}, envelope.BadRequest},
			{client.Revocation{JTI: "x"}, ""},
			{client.Revocation{Client: "y", Before: now - 5}, ""},
			{client.Revocation{Client: "y"}, ""},
			{client.Revocation{Node: "y", Before: now - 7}, ""},
		} {
			got, err := app.Revoke(t.Context(), test.what)
			if envelope.CodeOf(err) != test.want {
				t.Errorf("%+v: %v, want %q", test.what, err, test.want)
			}
			if err == nil && (got.Expires < now+24*time.Hour.Milliseconds() || got.JTI != test.what.JTI || got.Client != test.what.Client) {
				t.Errorf("%+v: %+v", test.what, got)
			}
		}
		pass(revokedPoll)
		app.Servers = []string{"http://b"}
		page, err := app.Revocations(t.Context(), "", 0)
		if all := page.Revocations; err != nil || page.More || len(all) != 3 || all[0].Client != "y" || all[0].Before != now || all[1].JTI != "x" || all[2].Node != "y" || all[2].Before != now-7 {
			t.Errorf("%+v, %v", page, err)
		}
		var paged []client.Revocation
		for next, more := "", true; more; next, more = page.Next, page.More {
			if page, err = app.Revocations(t.Context(), next, 2); err != nil || len(page.Revocations) > 2 || page.More == (page.Next == "") {
				t.Fatalf("behind %q: %+v, %v", next, page, err)
			}
			paged = append(paged, page.Revocations...)
		}
		if len(paged) != 3 || paged[0].Client != "y" || paged[1].JTI != "x" || paged[2].Node != "y" {
			t.Errorf("by pages: %+v", paged)
		}
		ann := m.api("ann", "ann", "a")
		if _, err := ann.Revoke(t.Context(), client.Revocation{Client: "bob"}); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("ann has revoked bob: %v", err)
		}
		if _, err := ann.Revocations(t.Context(), "", 0); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("ann has seen who was revoked: %v", err)
		}
		app.Servers = []string{"http://a"}
		m.at("a").store.away(true)
		if _, err := app.Revoke(t.Context(), client.Revocation{All: true}); envelope.CodeOf(err) != envelope.Busy {
			t.Errorf("without a store: %v", err)
		}
		m.at("a").store.away(false)
		if _, err := app.Revocations(t.Context(), "", 0); err != nil {
			t.Errorf("what was refused was done: %v", err)
		}
		if _, err := app.Revoke(t.Context(), client.Revocation{All: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := app.Revocations(t.Context(), "", 0); envelope.CodeOf(err) != envelope.Revoked {
			t.Errorf("everybody is the app as well: %v", err)
		}
	})
}
