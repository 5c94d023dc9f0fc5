package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
)

// Whoever does not know the mesh key gets nothing on the peer end point.
func TestPeerHandshake(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		a := m.at("a")
		dial := func() *websocket.Conn {
			ws, _, err := websocket.Dial(t.Context(), "ws://"+peerHost("a")+PeerPath, &websocket.DialOptions{
				HTTPClient: m.network.Client(), Subprotocols: []string{peerProtocol},
				HTTPHeader: map[string][]string{"Authorization": {"Bearer " + m.mint("bob", "bob", time.Hour)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return ws
		}
		refused := func(name string, ws *websocket.Conn) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, b, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("%s: got %q, %v", name, b, err)
			}
			_ = ws.CloseNow()
			if n := len(a.peers.linked()); n != 1 {
				t.Errorf("%s: %d links", name, n)
			}
		}

		wrong, err := peerKey([]byte("another mesh key, as long as that"))
		if err != nil {
			t.Fatal(err)
		}
		me := introduction{ID: "c", Boot: "boot", Nonce: "nonce", To: "a"}
		ws := dial()
		_ = writeJSON(t.Context(), ws, me)
		var peer introduction
		if err := readJSON(t.Context(), ws, &peer); err != nil {
			t.Fatal(err)
		}
		_ = writeJSON(t.Context(), ws, proof{MAC: peerMAC(wrong, "dial", me, peer)})
		refused("wrong key", ws)

		// A handshake that was overheard.
		good := proof{MAC: peerMAC(a.peers.key, "dial", me, peer)}
		ws = dial()
		_ = writeJSON(t.Context(), ws, me)
		_ = readJSON(t.Context(), ws, &peer)
		_ = writeJSON(t.Context(), ws, good)
		refused("replayed", ws)

		// The server's own proof does not serve as the dialler's.
		ws = dial()
		_ = writeJSON(t.Context(), ws, me)
		_ = readJSON(t.Context(), ws, &peer)
		_ = writeJSON(t.Context(), ws, proof{MAC: peer.MAC})
		refused("reflected", ws)

		for name, intro := range map[string]any{
			"for another server": introduction{ID: "c", Boot: "boot", Nonce: "nonce", To: "b"},
			"itself":             introduction{ID: "a", Boot: "boot", Nonce: "nonce", To: "a"},
			"no id":              introduction{ID: "c d", Boot: "boot", Nonce: "nonce", To: "a"},
			"a client's hello":   envelope.Control{Control: "hello"},
		} {
			ws := dial()
			_ = writeJSON(t.Context(), ws, intro)
			refused(name, ws)
		}
		refused("nothing", dial())
	})
}

func FuzzPeerFrame(f *testing.F) {
	env := &envelope.Envelope{ID: "1", DestNode: "bob", SrcNode: "alice", Seq: 7, Body: []byte(`"x":1`)}
	f.Add(appendRecord(nil, recordDeliver, appendDelivery(nil, deviceAddr("bob"), env)))
	f.Add(appendRecord(appendRecord(nil, recordMiss, addressesBody(deviceAddr("bob"))), recordHead, headBody(room("r"), 3)))
	f.Add(appendRecord(nil, recordEdges, addressesBody(deviceAddr("bob"), room("r"))))
	f.Add(appendRecord(nil, recordRefresh, envelope.AppendString(nil, "bob")))
	f.Add(appendRecord(nil, recordRevoked, revokedBody(auth.Revocation{JTI: "k"}, auth.Revocation{Client: "ann", Before: 5, Expires: 7})))
	f.Add(appendRecord(nil, recordLossy, nil))
	f.Add(appendRecord(nil, recordBeat, nil))
	f.Add(appendRecord(nil, recordRelay, (&relay{to: "b", via: []envelope.ServerID{"a", "c"}, kind: recordLossy}).encode()))
	f.Fuzz(func(t *testing.T, frame []byte) {
		for rest := frame; len(rest) > 0; {
			kind, body, after, err := nextRecord(rest)
			if err != nil {
				return
			}
			if len(after) >= len(rest) {
				t.Fatal("no progress")
			}
			rest = after
			if kind == recordRevoked {
				r := envelope.NewReader(body)
				if rows := parseRevoked(r); r.Err() == nil && !slices.Equal(rows, parseRevoked(envelope.NewReader(revokedBody(rows...)))) {
					t.Fatalf("%+v does not come back", rows)
				}
			}
			if kind != recordRelay {
				continue
			}
			r, err := parseRelay(body)
			if err != nil {
				continue
			}
			if len(r.via) == 0 || len(r.via) > maxHops || r.kind == recordRelay {
				t.Fatalf("took %+v", r)
			}
			if r2, err := parseRelay(r.encode()); err != nil || r2.to != r.to || len(r2.via) != len(r.via) || string(r2.body) != string(r.body) {
				t.Fatalf("%+v became %+v, %v", r, r2, err)
			}
		}
	})
}
