package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// Frames that are refused: the sender hears why and goes on, and nobody else
// notices anything.
func TestBadFrames(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	frames := []string{
		``, ` `, `x`, `1`, `"x"`, `[]`, `null`, `{`, `{}`, `{}{}`, `{"dest_id":"bob"} x`,
		`{"dest_id":"bob","dest_client_id":"bob"}`,
		`{"dest_client_id":"bob","dest_session_id":"r"}`,
		`{"dest_id":""}`, `{"dest_id":1}`, `{"dest_id":null}`, `{"dest_id":"a b"}`, `{"dest_id":"` + strings.Repeat("x", 129) + `"}`,
		`{"DEST_ID":"bob"}`, `{"dest_id":"bob","ſrc_id":"x"}`, `{"dest_id":"bob","Seq":1}`,
		`{"dest_id":"bob","dest_id":"bob"}`, `{"dest_id":"bob","payload":1,"payload":2}`, `{"dest_id":"bob","payload":{"a":1,"a":2}}`,
		`{"dest_id":"bob\ud800"}`, `{"dest_id":"bob","payload":"\ud800"}`, `{"dest_id":"bob\u0000"}`,
		`{"dest_id":"bob","payload":` + deep + `}`,
		`{"dest_id":"bob","type":1e999}`, `{"dest_id":"bob","type":18446744073709551616}`, `{"dest_id":"bob","type":1.5}`,
		`{"dest_id":{"$oid":"1"}}`, `{"dest_id":{"$where":"1"}}`,
		`{"dest_id":"bob","type":100}`, `{"dest_id":"bob","type":103}`, `{"dest_id":"bob","type":104}`,
		`{"dest_id":"bob","type":-4}`, `{"dest_id":"bob","type":-102}`, `{"dest_id":"bob","type":-101}`,
		`{"dest_id":"bob","seq":1}`, `{"dest_id":"bob","control":"ack"}`, `{"control":1}`, `{"control":"nack"}`,
		`{"dest_id":"bob","ttl":0}`, `{"dest_id":"bob","ttl":-1}`, `{"dest_id":"bob","class":"eternal"}`,
		`{"dest_id":"bob","class":"latest"}`, `{"dest_id":"bob","key":"x"}`, `{"dest_id":"bob","receipt":"yes"}`,
		`{"dest_id":"bob","id":""}`, `{"dest_id":"bob","id":"a/b"}`,
	}
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		bob := m.client("bob", "a").connected(m)
		alice := m.client("alice", "a").connected(m)
		bad := m.raw("eve", "a")
		bad.hello("")
		bad.control("caught_up")
		for i, f := range frames {
			bad.send(f)
			got, err := bad.next(time.Second)
			if err != nil || got.ctl.Code != envelope.BadRequest || got.ctl.Detail == "" {
				t.Fatalf("%.80s: got %q, %v", f, got.text, err)
			}
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		// With an id the refusal names it, and the connection is as good as new.
		bad.send(`{"id":"7","dest_id":"bob","seq":1}`)
		if c := bad.control("nack"); c.ID != "7" || c.Code != envelope.BadRequest {
			t.Errorf("got %+v", c)
		}
		// What a client may not say is replaced or ignored.
		bad.send(`{"id":"8","dest_id":"bob","src_id":"alice","src_client_id":"alice","timestamp":1,"anonymize_src_id":true,"a.b":1,"$where":{"$oid":"1"}}`)
		bad.control("ack")
		m.within(time.Second, "bob has all", func() bool { return len(bob.messages()) == len(frames)+1 })
		if got := bob.texts()[:len(frames)]; !slices.Equal(got, numbers(0, len(frames))) {
			t.Errorf("bob got %q", got)
		}
		last := bob.messages()[len(frames)]
		if last.SrcNode != "eve" || last.SrcClient != "eve" || last.Timestamp < 1000 || string(last.Body) != `"a.b":1,"$where":{"$oid":"1"}` {
			t.Errorf("bob got %+v %s", last, last.Body)
		}
	})
}

// Frames that end the connection, with a word before.
func TestFatalFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind websocket.MessageType
		data []byte
		code envelope.Code
		want websocket.StatusCode
	}{
		{"oversized", websocket.MessageText, bytes.Repeat([]byte(" "), envelope.DefaultMaxFrame+1), envelope.TooLarge, 1009},
		{"bad UTF-8", websocket.MessageText, []byte("{\"dest_id\":\"bob\",\"payload\":\"\xff\"}"), envelope.BadRequest, 1007},
		{"binary", websocket.MessageBinary, []byte(`{"dest_id":"bob"}`), envelope.BadRequest, 1003},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inMesh(t, 1, func(t *testing.T, m *mesh) {
				r := m.raw("eve", "a")
				r.hello("")
				r.control("caught_up")
				go func() { _ = r.ws.Write(t.Context(), tt.kind, tt.data) }()
				if c := r.control("error"); c.Code != tt.code {
					t.Errorf("error is %+v", c)
				}
				if got := r.closed(); got != tt.want {
					t.Errorf("closed with %d, want %d", got, tt.want)
				}
			})
		})
	}
	t.Run("as large as may be", func(t *testing.T) {
		inMesh(t, 1, func(t *testing.T, m *mesh) {
			r := m.raw("eve", "a")
			r.hello("")
			r.control("caught_up")
			frame := `{"id":"1","dest_id":"bob","payload":""}`
			r.send(strings.Replace(frame, `""`, `"`+strings.Repeat("x", envelope.DefaultMaxFrame-len(frame))+`"`, 1))
			r.control("ack")
		})
	})
}

func TestHandshakes(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		used := m.ticket("bob", "bob", "a")
		m.dial("ws://a/ws?token=" + used)
		expired := m.ticket("bob", "bob", "a")
		time.Sleep(2 * time.Minute)
		key := m.mint("bob", "bob", time.Hour)
		for _, tt := range []struct {
			name, url string
			origin    string
			want      int
		}{
			{"no token", "ws://a/ws", "", 401},
			{"garbage", "ws://a/ws?token=garbage", "", 401},
			{"ten thousand dots", "ws://a/ws?token=" + strings.Repeat(".", 10_000), "", 401},
			{"used", "ws://a/ws?token=" + used, "", 401},
			{"expired", "ws://a/ws?token=" + expired, "", 401},
			{"of another server", "ws://a/ws?token=" + m.ticket("bob", "bob", "b"), "", 401},
			{"an auth key", "ws://a/ws?token=" + key, "", 401},
			{"foreign origin", "ws://a/ws?token=" + m.ticket("bob", "bob", "a"), "http://evil.example", 403},
			{"own origin", "ws://a/ws?token=" + m.ticket("bob", "bob", "a"), "http://a", 101},
			{"legacy without key", "ws://a/connectV3", "", 401},
			{"legacy without validation", "ws://a/connectV3?auth_key=" + key, "", 401},
			{"legacy with another device's", "ws://a/connectV3?auth_key=" + key + "&validation_key=" + m.ticket("bob", "bob-2", "a"), "", 401},
			{"legacy with a token for a key", "ws://a/connectV3?auth_key=" + m.ticket("bob", "bob", "a"), "", 401},
			{"legacy", "ws://a/connectV3?auth_key=" + key + "&validation_key=" + m.ticket("bob", "bob", "a"), "", 101},
		} {
			header := http.Header{}
			if tt.origin != "" {
				header.Set("Origin", tt.origin)
			}
			ws, resp, err := websocket.Dial(t.Context(), tt.url, &websocket.DialOptions{HTTPClient: m.network.Client(), HTTPHeader: header})
			if err == nil {
				_ = ws.CloseNow()
			}
			if resp == nil || resp.StatusCode != tt.want {
				t.Errorf("%s: got %v, %v; want %d", tt.name, resp, err, tt.want)
			}
		}
	})
}

func TestBadCalls(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		key := m.mint("bob", "bob", time.Hour)
		for _, tt := range []struct {
			name, method, path, kind, body, key string
			want                                int
			code                                envelope.Code
		}{
			{"no key", "POST", "/v1/connect", "", "", "", 401, envelope.Unauthorized},
			{"wrong key", "POST", "/v1/connect", "", "", "x", 401, envelope.Unauthorized},
			{"unknown path", "GET", "/v1/nothing", "", "", key, 404, envelope.NotFound},
			{"too large", "POST", "/v1/sessions", "application/json", `"` + strings.Repeat("x", 64<<10) + `"`, key, 413, envelope.TooLarge},
			{"message too large", "POST", "/v1/messages", "application/json", strings.Repeat(" ", envelope.DefaultMaxFrame+1), key, 413, envelope.TooLarge},
			{"wrong content type", "POST", "/v1/sessions", "text/html", `{}`, key, 415, envelope.BadRequest},
			{"malformed content type", "POST", "/v1/sessions", ";;", `{}`, key, 415, envelope.BadRequest},
			{"unknown member", "POST", "/v1/sessions", "application/json", `{"owner":"eve"}`, key, 400, envelope.BadRequest},
			{"duplicate key", "POST", "/v1/sessions", "application/json", `{"session_id":"a","session_id":"b"}`, key, 400, envelope.BadRequest},
			{"two values", "POST", "/v1/sessions", "application/json", `{} {}`, key, 400, envelope.BadRequest},
			{"bad id", "POST", "/v1/sessions/a%2Fb/join", "", ``, key, 400, envelope.BadRequest},
			{"control frame", "POST", "/v1/messages", "application/json", `{"control":"hello"}`, key, 400, envelope.BadRequest},
			{"system type", "POST", "/v1/messages", "application/json", `{"dest_id":"x","type":100}`, key, 400, envelope.BadRequest},
			{"no body", "POST", "/v1/connect", "", ``, key, 200, ""},
			{"legacy call", "GET", "/connectV3?get_pre_connection_info=True&auth_key=" + key, "", ``, "", 200, ""},
			{"legacy without upgrade", "GET", "/connectV3?auth_key=" + key, "", ``, "", 400, envelope.BadRequest},
		} {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://a"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind != "" {
				req.Header.Set("Content-Type", tt.kind)
			}
			if tt.key != "" {
				req.Header.Set("Authorization", "Bearer "+tt.key)
			}
			resp, err := m.network.Client().Do(req)
			if err != nil && tt.want == http.StatusRequestEntityTooLarge {
				continue // net/http closes on a body it need not read; the client may still be writing it
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			var p struct{ Code envelope.Code }
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			_ = json.Unmarshal(body, &p)
			if resp.StatusCode != tt.want || p.Code != tt.code {
				t.Errorf("%s: got %d %s; want %d %s", tt.name, resp.StatusCode, body, tt.want, tt.code)
			}
		}
	})
}

// The older form of the protocol.
func TestLegacy(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "1"))
		r := m.legacy("bob", "a")
		if e := r.message("1"); e.Seq != 1 {
			t.Errorf("seq %d", e.Seq)
		}
		_ = r.ws.CloseNow() // before the pong
		pass(time.Second)
		r = m.legacy("bob", "a")
		r.message("1")
		go func() { // reading answers the ping
			pass(time.Second)
			alice.send(to(deviceAddr("bob"), "2", "2"))
		}()
		r.message("2")
		r.send(`{"id":"x","dest_id":"alice","payload":"taken"}`) // no ack for the older form
		pass(time.Second)                                        // what is not stored may overtake what is
		r.send(`{"control":"hello"}`)
		if c := r.control("error"); c.Code != envelope.BadRequest {
			t.Errorf("got %+v", c)
		}
		r.send(`{"id":"y","dest_id":"alice","type":100}`)
		if c := r.control("nack"); c.Code != envelope.BadRequest || c.ID != "y" {
			t.Errorf("got %+v", c)
		}
		r.send(`{"type":-101,"payload":{}}`)
		r.control("error")
		r.send(`{"dest_id":"alice","type":0,"payload":"volatile"}`)
		r.send(`{"dest_id":"alice","type":-7,"payload":"volatile too"}`)
		go func() { _, _ = r.next(time.Hour) }()
		pass(2 * time.Second)
		if got := alice.texts(); !slices.Equal(got, []string{"taken", "volatile", "volatile too"}) {
			t.Errorf("alice got %q", got)
		}
		if seq := alice.messages()[1].Seq; seq != 0 {
			t.Errorf("type 0 was stored as %d", seq)
		}
		if got := delivered(m, "bob", deviceAddr("bob")); got != 2 {
			t.Errorf("acknowledged up to %d", got)
		}

		once := m.dial("ws://a/connectV3?get_pre_connection_info=1&auth_key=" + m.mint("bob", "bob", time.Hour))
		_, text, err := once.ws.Read(t.Context())
		var info struct {
			NodeID        string `json:"node_id"`
			Addr          string `json:"addr"`
			Port          int    `json:"port"`
			ValidationKey string `json:"validation_key"`
		}
		if err != nil || json.Unmarshal(text, &info) != nil || info.NodeID != "a" || info.Addr != "a" || info.Port != 80 || info.ValidationKey == "" {
			t.Errorf("got %s, %v", text, err)
		}
		if got := once.closed(); got != 1000 {
			t.Errorf("closed with %d", got)
		}
	})
}
