package node

import (
	"context"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// The client's calls for the app, against real servers.
func TestClientOfApp(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		api := &client.API{
			Servers: []string{"http://a"}, HTTPClient: m.network.Client(),
			AuthKey: func(context.Context) (string, error) { return m.mintApp("backend"), nil },
		}
		bob := m.client("bob", "b").connected(m)
		if _, err := bob.CreateSession(t.Context(), "room", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		sent, err := api.SendMany(t.Context(), envelope.Envelope{ID: "1", SrcNode: "newsroom", SrcClient: "news", Body: []byte(`"payload":"<hi>"`)},
			client.Destination{Node: "bob"}, client.Destination{Session: "room"}, client.Destination{Session: "nowhere"})
		if err != nil || len(sent) != 3 || sent[0].Log != deviceAddr("bob") || sent[0].Seq != 1 || sent[1].Log != room("room") ||
			sent[0].Err != nil || sent[2].Err == nil || sent[2].Err.Code != envelope.NotFound {
			t.Fatalf("%+v, %v", sent, err)
		}
		m.within(time.Minute, "bob has both", func() bool { return len(bob.texts()) >= 2 })
		for _, msg := range bob.messages() {
			if msg.SrcNode != "newsroom" || msg.SrcClient != "news" || string(msg.Body) != `"payload":"<hi>"` {
				t.Errorf("%+v", msg)
			}
		}
		pass(5 * time.Second)
		if servers, err := api.Mesh(t.Context()); err != nil || len(servers) != 2 || servers[1].ID != "b" || servers[1].Load != 1 {
			t.Errorf("%+v, %v", servers, err)
		}
		edges, err := api.Edges(t.Context(), deviceAddr("bob"))
		if err != nil || edges.Address != "node:bob" || len(edges.Edges) != 1 || edges.Edges[0].Server != "b" || !edges.Edges[0].Alive {
			t.Errorf("%+v, %v", edges, err)
		}
		page, err := api.Cursors(t.Context(), client.CursorsQuery{Node: "bob", Limit: 1})
		if err != nil || page.Node != "bob" || len(page.Cursors) != 1 || page.Cursors[0] != (client.Cursor{Log: "node:bob", Delivered: 1}) || !page.More {
			t.Errorf("%+v, %v", page, err)
		}
		page, err = api.Cursors(t.Context(), client.CursorsQuery{Node: "bob", After: page.Next})
		if err != nil || len(page.Cursors) != 1 || page.Cursors[0].Log != "session:room" || page.More {
			t.Errorf("%+v, %v", page, err)
		}
		traced, err := api.Trace(t.Context(), envelope.Envelope{ID: "1", DestNode: "bob", SrcNode: "newsroom"})
		if err != nil || traced.Seq != 1 || traced.Delivered != 1 || len(traced.Readers) != 1 || traced.Readers[0].Server != "b" {
			t.Errorf("%+v, %v", traced, err)
		}
		at, err := api.Disconnect(t.Context(), client.Disconnection{Client: "bob", Reason: "moved"})
		if err != nil || len(at) != 1 || at[0] != "b" {
			t.Errorf("%q, %v", at, err)
		}
	})
}
