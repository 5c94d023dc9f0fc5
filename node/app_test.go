package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// asApp makes a call of the app at a server; it fails the test if that is refused.
func asApp[E gateway.Event](m *mesh, at string, cmd gateway.Command) E {
	m.t.Helper()
	ev, err := m.at(at).Do(m.t.Context(), backend, cmd)
	if err != nil {
		m.t.Fatalf("%+v: %v", cmd, err)
	}
	return ev.(E)
}

// appAPI makes calls of the app to a server by HTTP.
func (m *mesh) appAPI(at string) *client.API {
	return &client.API{
		Servers: []string{"http://" + at}, HTTPClient: m.network.Client(),
		AuthKey: func(context.Context) (string, error) { return m.mintApp("backend"), nil },
	}
}

// hello is a message of the app.
func helloOfApp(id string, class envelope.Class) envelope.Envelope {
	return envelope.Envelope{ID: id, Class: class, Body: []byte(`"payload":"` + id + `"`)}
}

// join has a device of a user of its own name join a session.
func (m *mesh) joins(at, device, session string, as gateway.Alias) {
	m.t.Helper()
	who := envelope.Principal{Node: envelope.NodeID(device), Client: envelope.ClientID(device)}
	if _, err := m.at(at).Do(m.t.Context(), who, gateway.JoinSession{ID: envelope.SessionID(session), As: as}); err != nil {
		m.t.Fatal(err)
	}
}

// createsSession has a device of a user of its own name create a session and be in it.
func (m *mesh) createsSession(at, device string, session envelope.SessionID) {
	m.t.Helper()
	who := envelope.Principal{Node: envelope.NodeID(device), Client: envelope.ClientID(device)}
	if _, err := m.at(at).Do(m.t.Context(), who, gateway.CreateSession{ID: session}); err != nil {
		m.t.Fatal(err)
	}
}

// outcomes returns what has become of a message, one word for each destination.
func outcomes(sent gateway.SentMany) (of []string) {
	for _, s := range sent.Of {
		if s.Err != nil {
			of = append(of, string(s.Err.Code))
		} else {
			of = append(of, fmt.Sprint(s.Ack.Log, s.Ack.Seq))
		}
	}
	return of
}

func TestSendMany(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		ann, bob := m.client("ann", "a").connected(m), m.client("bob", "b").connected(m)
		if _, err := ann.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		m.joins("b", "bob", "room", gateway.Alias{})
		cmd := gateway.SendMany{
			Envelope: helloOfApp("news", envelope.Durable), Src: "newsroom",
			To: []gateway.Destination{
				{Node: "bob"},
				{Client: "ann"},
				{Session: "room"},
				{Session: "room", Node: "bob"},
				{Session: "nowhere"},
				{},
				{Node: "x", Client: "y"},
				{Session: "room", Node: "stranger"},
				{Node: "not an id"},
				{Client: "room~zorro"},
				{Session: "!hook"},
				{Node: "bob"},
			},
		}
		want := []string{"node:bob 1", "client:ann 1", "session:room 3", "conflict", "not_found", "bad_request", "bad_request", "not_found", "bad_request", "bad_request", "bad_request", "node:bob 1"}
		for _, at := range []string{"a", "b"} { // the second time it is a repetition
			got := outcomes(asApp[gateway.SentMany](m, at, cmd))
			if !slices.Equal(got, want) {
				t.Errorf("at %s %q, want %q", at, got, want)
			}
		}
		to := []client.Destination{{Node: "bob"}, {Client: "not an id"}, {Session: "nowhere!"}, {Session: "room"}}
		sent, err := m.appAPI("a").SendMany(t.Context(), envelope.Envelope{ID: "by-http", Body: []byte(`"payload":"by-http"`)}, to...)
		if err != nil || len(sent) != 4 || sent[0].Seq != 2 || sent[3].Seq != 4 ||
			envelope.CodeOf(sent[1].Err) != envelope.BadRequest || envelope.CodeOf(sent[2].Err) != envelope.BadRequest {
			t.Errorf("by HTTP: %+v, %v", sent, err)
		}
		m.within(time.Minute, "everybody has it", func() bool {
			return len(ann.texts()) >= 2 && len(bob.texts()) >= 2
		})
		for _, d := range []*device{ann, bob} {
			for _, msg := range d.messages() {
				if msg.ID == "news" && (msg.SrcNode != "newsroom" || msg.SrcClient != "newsroom") {
					t.Errorf("from %s of %s", msg.SrcNode, msg.SrcClient)
				}
			}
		}

		cmd = gateway.SendMany{Envelope: helloOfApp("now", envelope.Volatile), To: []gateway.Destination{{Session: "room"}, {Session: "topic:t"}}}
		for _, s := range asApp[gateway.SentMany](m, "a", cmd).Of {
			if s.Err != nil || s.Ack.Seq != 0 {
				t.Errorf("%+v", s)
			}
		}
		m.within(time.Minute, "bob hears what is not stored", func() bool { return strings.Contains(strings.Join(bob.texts(), ","), "now") })

		if _, err := ann.CreateSession(t.Context(), "chess", envelope.Settings{Kind: new("game")}); err != nil {
			t.Fatal(err)
		}
		m.joins("b", "bob", "chess", gateway.Alias{})
		asApp[gateway.SentMany](m, "a", gateway.SendMany{Envelope: helloOfApp("to-players", envelope.Durable), To: []gateway.Destination{{Session: "chess"}}})
		m.within(time.Minute, "all players of a game hear the app", func() bool {
			return slices.Contains(ann.texts(), "to-players") && slices.Contains(bob.texts(), "to-players")
		})

		many := make([]gateway.Destination, 1000)
		for i := range many {
			many[i].Node = envelope.NodeID(fmt.Sprint("device-", i))
		}
		for i, s := range asApp[gateway.SentMany](m, "a", gateway.SendMany{Envelope: helloOfApp("all", envelope.Durable), To: many}).Of {
			if s.Err != nil || s.Ack.Log != many[i].Node.Address() || s.Ack.Seq != 1 {
				t.Errorf("%d: %+v", i, s)
			}
		}

		revision := helloOfApp("2", envelope.Durable)
		revision.Edits = 1
		guest := envelope.NodeID(envelope.GuestID(time.Now().Add(time.Hour), "abc"))
		for name, test := range map[string]struct {
			who  envelope.Principal
			cmd  gateway.SendMany
			code envelope.Code
		}{
			"not the app":       {envelope.Principal{Node: "ann", Client: "ann"}, gateway.SendMany{Envelope: helloOfApp("1", 0), To: many[:1]}, envelope.Forbidden},
			"nobody":            {backend, gateway.SendMany{Envelope: helloOfApp("1", 0)}, envelope.BadRequest},
			"too many":          {backend, gateway.SendMany{Envelope: helloOfApp("1", 0), To: append(many, many[0])}, envelope.BadRequest},
			"a revision":        {backend, gateway.SendMany{Envelope: revision, To: many[:1]}, envelope.BadRequest},
			"as an alias":       {backend, gateway.SendMany{Envelope: helloOfApp("1", 0), To: many[:1], Src: "room~zorro"}, envelope.BadRequest},
			"as a guest":        {backend, gateway.SendMany{Envelope: helloOfApp("1", 0), To: many[:1], Src: guest}, envelope.Forbidden},
			"as a user without": {backend, gateway.SendMany{Envelope: helloOfApp("1", 0), To: many[:1], SrcClient: "ann"}, envelope.BadRequest},
		} {
			if _, err := m.at("a").Do(t.Context(), test.who, test.cmd); envelope.CodeOf(err) != test.code {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Who is in a session by an alias is told to the app by no answer.
func TestAppAndAliases(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		ann, bob := m.client("ann", "a").connected(m), m.client("bob", "a").connected(m)
		if _, err := ann.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		m.joins("a", "bob", "room", gateway.Alias{Anonymous: true, Name: "zorro"})
		ann.send(to(room("room"), "1", "hello"))
		secret := to(deviceAddr("room~zorro"), "2", "psst")
		secret.DestSession = "room"
		ann.send(secret)
		m.within(time.Minute, "bob has both", func() bool { return len(bob.texts()) >= 2 })
		pass(5 * time.Second) // cursors are stored

		sent := asApp[gateway.SentMany](m, "a", gateway.SendMany{
			Envelope: helloOfApp("app", 0), To: []gateway.Destination{{Session: "room", Node: "bob"}, {Session: "room", Node: "stranger"}, {Session: "room", Node: "room~zorro"}},
		})
		if b, s := sent.Of[0].Err, sent.Of[1].Err; b == nil || s == nil || b.Code != s.Code || b.Detail != s.Detail {
			t.Errorf("%v, and for a stranger %v", b, s)
		}
		if sent.Of[2].Err != nil {
			t.Errorf("to the alias: %v", sent.Of[2].Err)
		}
		sent = asApp[gateway.SentMany](m, "a", gateway.SendMany{Envelope: helloOfApp("for-bob", 0), Src: "bob", To: []gateway.Destination{{Session: "room"}}})
		if seq := sent.Of[0].Ack.Seq; seq == 0 {
			t.Fatalf("%+v", sent.Of[0])
		}
		m.within(time.Minute, "ann hears it from bob", func() bool {
			return slices.ContainsFunc(ann.messages(), func(e client.Message) bool { return e.ID == "for-bob" && e.SrcNode == "bob" })
		})
		for _, c := range asApp[gateway.Cursors](m, "a", gateway.GetCursors{Node: "bob"}).Of {
			if c.Log != deviceAddr("bob") && c.Log != user("bob") {
				t.Errorf("the cursor of %s is told", c.Log)
			}
		}
		for _, log := range []envelope.Address{room("room"), deviceAddr("room~zorro"), deviceAddr("bob"), user("bob")} {
			for _, e := range asApp[gateway.Page](m, "a", gateway.History{Log: log}).Entries {
				if e.ID != "for-bob" && strings.Contains(string(e.AppendJSON(nil)), "bob") {
					t.Errorf("%s tells %s", log, e.AppendJSON(nil))
				}
			}
		}
		if _, err := m.at("a").Do(t.Context(), backend, gateway.GetEdges{Of: deviceAddr("room~zorro")}); envelope.CodeOf(err) != envelope.NotFound {
			t.Errorf("edges of an alias: %v", err)
		}
	})
}

func TestDisconnect(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		conns := make(map[string]*raw)
		for i, at := range m.ids() {
			for _, who := range []string{"ann", "bob"} {
				device := who + "-" + string(rune('1'+i))
				conns[device] = m.opened(m.mintNamed(who, device, device), at)
			}
		}
		ends := func(cmd gateway.Disconnect, servers []envelope.ServerID, status envelope.Code, devices ...string) {
			t.Helper()
			got := asApp[gateway.Disconnected](m, "a", cmd).Servers
			if !slices.Equal(got, servers) {
				t.Errorf("%+v at %q, want %q", cmd, got, servers)
			}
			for _, device := range devices {
				_, err := conns[device].next(time.Minute)
				var closed websocket.CloseError
				if !errors.As(err, &closed) || int(closed.Code) != status.CloseCode() || closed.Reason != cmd.Reason {
					t.Errorf("%s: %v, want %s", device, err, status)
				}
				delete(conns, device)
			}
		}
		ends(gateway.Disconnect{Node: "bob-3", Reason: "signed out", Code: envelope.Unauthorized}, []envelope.ServerID{"c"}, envelope.Unauthorized, "bob-3")
		ends(gateway.Disconnect{Client: "ann", Reason: "moved"}, []envelope.ServerID{"a", "b", "c"}, envelope.GoingAway, "ann-1", "ann-2", "ann-3")
		ends(gateway.Disconnect{Node: "nobody"}, nil, envelope.GoingAway)
		for device, c := range conns { // the others
			c.send(`{"id":"` + device + `","dest_id":"x","payload":1}`)
			if ack := c.control("ack"); ack.ID != device {
				t.Errorf("%s: %+v", device, ack)
			}
		}
		for _, cmd := range []gateway.Disconnect{
			{},
			{Node: "x", Client: "y"},
			{Node: "a b"},
			{Node: "room~zorro"},
			{Node: "x", Code: envelope.Revoked},
			{Node: "x", Code: "gone"},
			{Node: "x", Reason: strings.Repeat("x", 101)},
			{Node: "x", Reason: "\xff"},
		} {
			if _, err := m.at("a").Do(t.Context(), backend, cmd); envelope.CodeOf(err) != envelope.BadRequest {
				t.Errorf("%+v: %v", cmd, err)
			}
		}
		if _, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "ann-1", Client: "ann"}, gateway.Disconnect{Node: "ann-1"}); envelope.CodeOf(err) != envelope.Forbidden {
			t.Errorf("not the app: %v", err)
		}
	})
}

// The app sees the servers, and where somebody is, also when a server has gone.
func TestMeshAndEdges(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		bob := m.opened(m.mintNamed("bob", "bob-1", "1"), "b")
		m.within(time.Minute, "both servers with a connection and a link", func() bool {
			s := asApp[gateway.Mesh](m, "a", gateway.GetMesh{}).Servers
			return len(s) == 2 && s[0].ID == "a" && s[0].Self && !s[1].Self && s[1].Load == 1 &&
				slices.Equal(s[0].Links, []envelope.ServerID{"b"}) && slices.Equal(s[1].Links, []envelope.ServerID{"a"})
		})
		for _, of := range []envelope.Address{deviceAddr("bob-1"), user("bob")} {
			got := asApp[gateway.Edges](m, "a", gateway.GetEdges{Of: of})
			if len(got.Of) != 1 || got.Of[0].Server != "b" || !got.Of[0].Alive {
				t.Errorf("%s: %+v", of, got)
			}
		}
		if got := asApp[gateway.Edges](m, "a", gateway.GetEdges{Of: deviceAddr("eve")}); len(got.Of) != 0 || got.LastSeen != 0 {
			t.Errorf("never seen: %+v", got)
		}
		_ = bob
		m.kill("b")
		m.within(time.Minute, "b is gone", func() bool {
			return len(asApp[gateway.Mesh](m, "a", gateway.GetMesh{}).Servers) == 1 &&
				!slices.ContainsFunc(asApp[gateway.Edges](m, "a", gateway.GetEdges{Of: deviceAddr("bob-1")}).Of, func(e gateway.Edge) bool { return e.Alive })
		})
		for _, cmd := range []gateway.Command{gateway.GetMesh{}, gateway.GetEdges{Of: deviceAddr("bob-1")}, gateway.GetCursors{Node: "eve"}} {
			if _, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "bob-1", Client: "bob"}, cmd); envelope.CodeOf(err) != envelope.Forbidden {
				t.Errorf("%T, not for the app: %v", cmd, err)
			}
		}
	})
}

// Pages of cursors name every log once, whoever asks.
func TestCursorsOfOthers(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		bob := envelope.Principal{Node: "bob", Client: "bob"}
		do := func(who envelope.Principal, cmd gateway.Command) gateway.Event {
			t.Helper()
			ev, err := m.at("a").Do(t.Context(), who, cmd)
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}
		var want []string
		for i := range 5 {
			id := fmt.Sprint("room-", i)
			do(bob, gateway.CreateSession{ID: envelope.SessionID(id)})
			do(bob, gateway.Acknowledge{Cursors: []envelope.Position{{Log: room(id), Seq: 1}}})
			want = append(want, "session:"+id)
		}
		do(bob, gateway.CreateSession{ID: "left", Settings: envelope.Settings{}})
		do(bob, gateway.Acknowledge{Cursors: []envelope.Position{{Log: room("left"), Seq: 1}}})
		do(bob, gateway.LeaveSession{ID: "left"})
		pass(5 * time.Second)
		for _, who := range []envelope.Principal{backend, bob} {
			var got []string
			q := gateway.GetCursors{Node: "bob", Limit: 2}
			for more := true; more; {
				page := do(who, q).(gateway.Cursors)
				for _, c := range page.Of {
					if c.Delivered != 1 || c.Read != 0 {
						t.Errorf("%+v", c)
					}
					got = append(got, c.Log.String())
				}
				q.After, more = page.Next, page.More
			}
			all := want
			if who.Node == "bob" {
				all = append([]string{"session:left"}, want...)
			}
			if !slices.Equal(got, all) {
				t.Errorf("for %s: %q, want %q", who.Node, got, all)
			}
		}
	})
}

// The app reads what is in any log, as its revisions have left it.
func TestAppReadsAnyLog(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		ann := m.client("ann", "a").connected(m)
		if _, err := ann.CreateSession(t.Context(), "chess", envelope.Settings{Kind: new("game")}); err != nil {
			t.Fatal(err)
		}
		m.joins("a", "bob", "chess", gateway.Alias{})
		bob := m.client("bob", "a").connected(m)
		for i, log := range []envelope.Address{room("chess"), deviceAddr("ann"), user("ann")} {
			bob.send(to(log, fmt.Sprint(i), "move"))
		}
		m.within(time.Minute, "ann has them", func() bool { return len(ann.texts()) >= 3 })
		for _, log := range []envelope.Address{room("chess"), deviceAddr("ann"), user("ann")} {
			for _, q := range []gateway.History{{Log: log}, {Log: log, Back: true}} {
				page := asApp[gateway.Page](m, "a", q)
				if !slices.ContainsFunc(page.Entries, func(e envelope.Envelope) bool { return string(e.Body) == `"payload":"move"` }) {
					t.Errorf("%+v: %d entries", q, len(page.Entries))
				}
			}
			if _, err := m.at("a").Do(t.Context(), envelope.Principal{Node: "eve", Client: "eve"}, gateway.History{Log: log}); envelope.CodeOf(err) != envelope.NotFound {
				t.Errorf("%s, for another: %v", log, err)
			}
		}
	})
}
