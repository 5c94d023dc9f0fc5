package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/gateway/native"
)

// What a user's devices do counts together, on connections and in calls, and
// nobody else's with it.
func TestLimitOfUser(t *testing.T) {
	inLimitedMesh(t, Limits{Client: 2}, func(t *testing.T, m *mesh) {
		phone, tablet, other := m.rawDevice("ann", "phone", "a").open(), m.rawDevice("ann", "tablet", "a").open(), m.raw("bob", "a").open()
		say := func(r *raw, id string) envelope.Control {
			t.Helper()
			r.send(`{"id":"` + id + `","dest_id":"carl","payload":1}`)
			f, err := r.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return f.ctl
		}
		const burst = 10
		for i := range burst {
			if got := say([]*raw{phone, tablet}[i%2], fmt.Sprint(i)); got.Control != "ack" {
				t.Fatalf("%d: %+v", i, got)
			}
		}
		for _, r := range []*raw{phone, tablet} {
			if got := say(r, "late"); got.Code != envelope.RateLimited || got.RetryMS != 500 {
				t.Errorf("%+v", got)
			}
		}
		_, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "watch", Client: "ann"}, gateway.Locate{Max: 1})
		if envelope.CodeOf(err) != envelope.RateLimited {
			t.Errorf("a call of a third device: %v", err)
		}
		if got := say(other, "1"); got.Control != "ack" {
			t.Errorf("somebody else is held back: %+v", got)
		}
		if n := m.limited("client"); n != 3 {
			t.Errorf("counted %v", m.at("a").Limited())
		}
		pass(500 * time.Millisecond)
		if got := say(phone, "late"); got.Control != "ack" {
			t.Errorf("sent again in time: %+v", got)
		}
	})
}

// What is said in a session counts together, stored or not, and not what the app
// or who is not in it sends there.
func TestLimitOfSession(t *testing.T) {
	inLimitedMesh(t, Limits{Session: 2}, func(t *testing.T, m *mesh) {
		ann, bob := m.client("ann", "a").connected(m), m.client("bob", "a").connected(m)
		for _, id := range []envelope.SessionID{"room", "other"} {
			if _, err := ann.CreateSession(t.Context(), id, envelope.Settings{AnyoneCanJoin: new(true)}); err != nil {
				t.Fatal(err)
			}
			if _, err := bob.JoinSession(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		say := func(who envelope.Principal, e envelope.Envelope) error {
			e.Body = []byte(`"payload":1`)
			_, err := m.at("a").Do(t.Context(), who, gateway.Send{Envelope: &e})
			return err
		}
		who := func(id string) envelope.Principal {
			return envelope.Principal{Node: envelope.NodeID(id), Client: envelope.ClientID(id)}
		}
		for range 30 {
			if err := say(who("eve"), envelope.Envelope{DestSession: "room"}); envelope.CodeOf(err) != envelope.NotFound {
				t.Fatalf("an outsider: %v", err)
			}
		}
		const burst = 10
		for i := range burst {
			e := envelope.Envelope{ID: fmt.Sprint(i), DestSession: "room"}
			if i%3 == 0 {
				e.Class = envelope.Volatile
			}
			if err := say(who([]string{"ann", "bob"}[i%2]), e); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		for _, id := range []string{"ann", "bob"} {
			err := say(who(id), envelope.Envelope{ID: "late", DestSession: "room"})
			if e := envelope.AsError(err); err == nil || e.Code != envelope.RateLimited || e.RetryMS != 500 {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := say(who("ann"), envelope.Envelope{ID: "late", DestSession: "other"}); err != nil {
			t.Errorf("another session is held back: %v", err)
		}
		if err := say(who("ann"), envelope.Envelope{ID: "late", DestNode: "bob"}); err != nil {
			t.Errorf("a device is held back: %v", err)
		}
		app := envelope.Principal{Node: "app", Client: "app", App: true}
		if _, err := m.at("a").Do(t.Context(), app, gateway.SendMany{
			Envelope: envelope.Envelope{ID: "many", Body: []byte(`"payload":1`)}, To: []gateway.Destination{{Session: "room"}},
		}); err != nil {
			t.Errorf("the app: %v", err)
		}
		if n := m.limited("session"); n != 2 {
			t.Errorf("counted %v", m.at("a").Limited())
		}
		// The SDK sends again what was refused, and nothing is lost.
		for i := range 10 {
			go bob.send(to(room("room"), fmt.Sprint("sdk", i), fmt.Sprint("sdk", i)))
			m.settle()
		}
		m.within(time.Minute, "all of it is heard", func() bool {
			last := ann.texts()
			return len(last) > 0 && last[len(last)-1] == "sdk9"
		})
	})
}

// The rate in a credential counts where it is less than what the server allows,
// on connections and in calls together, and for that credential alone.
func TestRateOfCredential(t *testing.T) {
	for _, test := range []struct {
		server, credential, burst int
		by                        string
	}{
		{0, 2, 10, "credential"},
		{4, 2, 10, "credential"},
		{2, 4, 10, "device"},
	} {
		inLimitedMesh(t, Limits{Device: test.server}, func(t *testing.T, m *mesh) {
			bob := client.Guest{AuthKey: m.mintRights("bob", fmt.Sprintf(`{"rate":%d}`, test.credential), time.Hour)}
			c := m.dial("ws://a/ws", native.Subprotocol, "bearer."+m.guestTicket(bob, "a")) // one call
			c.hello("")
			c.control("caught_up")
			for i := range test.burst - 1 {
				c.send(fmt.Sprintf(`{"id":"%d","dest_id":"carl","payload":1}`, i))
				c.control("ack")
			}
			c.send(`{"id":"late","dest_id":"carl","payload":1}`)
			if got := c.control("nack"); got.Code != envelope.RateLimited || got.RetryMS != 500 {
				t.Errorf("%+v: %+v", test, got)
			}
			if m.limited(test.by) != 1 {
				t.Errorf("%+v: counted %v", test, m.at("a").Limited())
			}
			if test.by == "credential" {
				_, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "bob", Client: "bob"}, gateway.Locate{Max: 1})
				if err != nil {
					t.Errorf("%+v: another credential of the device is held back: %v", test, err)
				}
			}
			pass(500 * time.Millisecond)
			c.send(`{"id":"late","dest_id":"carl","payload":1}`)
			c.control("ack")
		})
	}
}
