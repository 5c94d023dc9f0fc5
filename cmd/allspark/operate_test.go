package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOperate(t *testing.T) {
	replies := map[string]string{
		"GET /v1/mesh": `{"servers":[{"server":"a","boot":"x","url":"http://a","zone":"eu","load":7,"max_load":50,"draining":false,"answers":true,"links":["b","c"],"age_ms":0,` +
			`"health":{"round_trip_us":0,"clock_ahead_ms":0,"store_write_us":1234567,"waiting":7,"longest":5,"behind":1,"links":[{"server":"b","round_trip_us":180,"queued_records":2,"queued_bytes":99}]}},` +
			`{"server":"b","boot":"y","url":"http://b","load":0,"max_load":50,"draining":true,"answers":false,"links":[],"age_ms":1250}]}`,
		"GET /v1/edges?address=node%3Abob":                  `{"address":"node:bob","edges":[{"server":"a","boot":"x","alive":true}],"last_seen":946684800000}`,
		"GET /v1/edges?address=node%3Aeve":                  `{"address":"node:eve","edges":[]}`,
		"GET /v1/sessions/r":                                `{"session_id":"r","owner":"ann","kind":"game","created":946684800000,"members":[{"node_id":"ann","client_id":"ann","since":1,"role":"owner"},{"node_id":"r~zorro","since":2,"role":"member"}]}`,
		"GET /v1/sessions":                                  `{"sessions":[{"session_id":"a","owner":"ann","kind":"topic","created":946684800000}],"next":"a","more":true}`,
		"GET /v1/sessions?after=a":                          `{"sessions":[{"session_id":"r","owner":"r~zorro","kind":"game","master":"bob","created":946684800000}],"more":false}`,
		"GET /v1/sessions/m":                                `{"session_id":"m","owner":"ann","kind":"group","created":946684800000,"members":[{"node_id":"ann","since":1,"role":"owner"}],"next":"ann","more":true}`,
		"GET /v1/sessions/m?after=ann":                      `{"session_id":"m","owner":"ann","kind":"group","created":946684800000,"members":[{"node_id":"bob","since":2,"role":"member"}]}`,
		"GET /v1/sessions/e":                                `{"session_id":"e","owner":"","created":946684800000}`,
		"GET /v1/cursors?node_id=bob":                       `{"node_id":"bob","cursors":[{"log":"client:bob","delivered":5,"read":3}],"next":"client:bob","more":true}`,
		"GET /v1/cursors?after=client%3Abob&node_id=bob":    `{"node_id":"bob","cursors":[{"log":"session:r","delivered":2,"read":0}],"more":false}`,
		"GET /v1/messages?after=5&limit=1&log=client%3Abob": `{"messages":[],"floor":1,"head":5,"next":5,"more":false}`,
		"GET /v1/messages?after=2&limit=1&log=session%3Ar":  `{"messages":[],"floor":5,"head":10,"next":5,"more":true}`,
		"GET /v1/messages?limit=1&log=node%3Abob":           `{"messages":[],"floor":1,"head":4,"next":1,"more":true}`,
		"GET /v1/messages/m1/trace?dest_id=bob&src_id=ann":  `{"id":"m1","log":"node:bob","seq":3,"accepted":946684800000,"trimmed":false,"delivered":1,"read":0,"readers":[{"node_id":"bob","delivered":true,"read":false,"server":"a","written":true}],"servers":["a"]}`,
		"GET /v1/messages/m3/trace?dest_id=eve":             `{"id":"m3","log":"node:eve","seq":5,"trimmed":false,"delivered":0,"read":0,"readers":[{"node_id":"eve","delivered":false,"read":false}]}`,
		"GET /v1/messages/m2/trace?dest_session_id=r":       `{"id":"m2","log":"session:r","seq":4,"trimmed":true,"delivered":0,"read":0,"readers":[]}`,
		`POST /v1/disconnect {"client_id":"bob","code":"unauthorized","reason":"signed out"}`: `{"servers":["a","b"]}`,
	}
	for call, reply := range map[string]string{
		`POST /v1/push/test {"node_id":"bob","title":"Hi"}`: `{"tokens":[{"service":"fcm","token":"fcm:#1","sent":true},` +
			`{"service":"apns","token":"apns:#2","sent":false,"reason":"Unregistered","gone":true},` +
			`{"service":"webpush","token":"webpush:#3","sent":false,"reason":"HTTP 429","retry":true,"retry_ms":90000}]}`,
		`POST /v1/push/test {"node_id":"eve"}`: `{"tokens":[{"service":"fcm","token":"fcm:#1","sent":false,"reason":"QUOTA","retry":true}]}`,
		"GET /v1/push/failed": `{"failed":[{"node_id":"a","at":946684800000,"service":"fcm","reason":"QUOTA","attempts":10}],` +
			`"next":"a","more":true}`,
		"GET /v1/push/failed?after=a":  `{"failed":[{"node_id":"b","at":946684800000,"log":"node:b","seq":1,"service":"apns","reason":"BadTopic","attempts":1}],"more":false}`,
		"POST /v1/push/failed/a/retry": `{}`, "POST /v1/push/failed/b/retry": `{}`, "DELETE /v1/push/failed/b": `{}`,
	} {
		replies[call] = reply
	}
	asked := make(map[string]int)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		call := strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
		reply, known := replies[call]
		asked[call]++
		if !known || r.Header.Get("Authorization") != "Bearer app" {
			t.Errorf("call %s", call)
		}
		_, _ = io.WriteString(w, reply)
	}))
	defer h.Close()
	for _, test := range []struct{ args, printed string }{
		{
			"nodes", "SERVER  ZONE  LOAD  MAX  DRAINING  SEEN   ANSWER  CLOCK  STORE  WAITING  BEHIND  LINKS  URL\n" +
				"a       eu    7     50   no        0s     0s      +0ms   1.23s  7        1       b,c    http://a\n" +
				"b       -     0     50   yes       1.25s  ?       ?      ?      ?        ?       -      http://b\n",
		},
		{"nodes --links", "FROM  TO  ROUND TRIP  QUEUED  BYTES\na     b   180µs       2       99\nb     ?   ?           ?       ?\n"},
		{"edges node:bob", "ADDRESS   SERVER  BOOT  ALIVE  LAST SEEN\nnode:bob  a       x     yes    2000-01-01T00:00:00Z\n"},
		{"edges node:eve", "ADDRESS   SERVER  BOOT  ALIVE  LAST SEEN\nnode:eve  -       -     -      -\n"},
		{"edges node:eve --json", `{"address":"node:eve","edges":[]}` + "\n"},
		{
			"sessions r e", "SESSION  KIND  CREATED               MEMBER   CLIENT  ROLE    SINCE\nr        game  2000-01-01T00:00:00Z  ann      ann     owner   1\n" +
				"r        game  2000-01-01T00:00:00Z  r~zorro  -       member  2\ne        -     2000-01-01T00:00:00Z  -        -       -       -\n",
		},
		{
			"sessions m", "SESSION  KIND   CREATED               MEMBER  CLIENT  ROLE    SINCE\n" +
				"m        group  2000-01-01T00:00:00Z  ann     -       owner   1\nm        group  2000-01-01T00:00:00Z  bob     -       member  2\n",
		},
		{"sessions", "SESSION  KIND   CREATED               OWNER    MASTER\na        topic  2000-01-01T00:00:00Z  ann      -\nr        game   2000-01-01T00:00:00Z  r~zorro  bob\n"},
		{"inbox bob", "LOG         HEAD  DELIVERED  READ  WAITING\nclient:bob  5     5          3     0\nsession:r   10    2          0     6\nnode:bob    4     0          0     4\n"},
		{
			"inbox bob --json", `[{"log":"client:bob","delivered":5,"read":3,"head":5,"waiting":0},{"log":"session:r","delivered":2,"read":0,"head":10,"waiting":6},` +
				`{"log":"node:bob","delivered":0,"read":0,"head":4,"waiting":4}]` + "\n",
		},
		{"trace m1 --to bob --from ann", "LOG       SEQ  ACCEPTED              READER  SERVER  WRITTEN  DELIVERED  READ\nnode:bob  3    2000-01-01T00:00:00Z  bob     a       yes      yes        no\n"},
		{"trace m3 --to eve", "LOG       SEQ  ACCEPTED  READER  SERVER  WRITTEN  DELIVERED  READ\nnode:eve  5    -         eve     -       -        no         no\n"},
		{"trace m2 --to-session r", "LOG        SEQ  ACCEPTED  READER  SERVER  WRITTEN  DELIVERED  READ\nsession:r  4    -         -       -       -        -          -\n"},
		{"disconnect --client bob --code unauthorized --reason signed_out", "SERVER\na\nb\n"},
		{
			"push test --node bob --title Hi", "SERVICE  TOKEN       SENT  REASON        GONE  RETRY\nfcm      fcm:#1      yes   -             no    no\n" +
				"apns     apns:#2     no    Unregistered  yes   no\nwebpush  webpush:#3  no    HTTP 429      no    1m30s\n",
		},
		{
			"push failed", "NODE  AT                    LOG     SEQ  SERVICE  REASON    ATTEMPTS\na     2000-01-01T00:00:00Z  -       0    fcm      QUOTA     10\n" +
				"b     2000-01-01T00:00:00Z  node:b  1    apns     BadTopic  1\n",
		},
		{"push failed b --forget", "NODE  AT                    LOG     SEQ  SERVICE  REASON    ATTEMPTS\nb     2000-01-01T00:00:00Z  node:b  1    apns     BadTopic  1\n"},
		{
			"push failed --retry --json", `[{"node_id":"a","at":946684800000,"service":"fcm","reason":"QUOTA","attempts":10},` +
				`{"node_id":"b","at":946684800000,"log":"node:b","seq":1,"service":"apns","reason":"BadTopic","attempts":1}]` + "\n",
		},
		{"push failed --retry --forget", ""},
		{"edges bob", ""},
		{"trace m1", ""},
		{"trace m1 --to bob --to-client bob", ""},
		{"disconnect", ""},
		{"disconnect --node n --client c", ""},
		{"disconnect --node n --code revoked", ""},
	} {
		args := strings.Fields(test.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "signed_out", "signed out")
		}
		r := allspark(t.Context(), nil, append(args, "--server", h.URL, "--auth-key", "app")...)
		want := exitOK
		if test.printed == "" {
			want = exitUsage
		}
		if r.code != want || r.stdout != test.printed {
			t.Errorf("%s: exit %d, printed\n%s%s, want\n%s", test.args, r.code, r.stdout, r.stderr, test.printed)
		}
	}
	for call, want := range map[string]int{"POST /v1/push/failed/a/retry": 1, "POST /v1/push/failed/b/retry": 1, "DELETE /v1/push/failed/b": 1} {
		if asked[call] != want {
			t.Errorf("%s: %d times, want %d", call, asked[call], want)
		}
	}
	// A test that nobody takes has failed, and shows why.
	r := allspark(t.Context(), nil, "push", "test", "--node", "eve", "--server", h.URL, "--auth-key", "app")
	if r.code != exitFailed || !strings.Contains(r.stdout, "QUOTA") || !strings.Contains(r.stderr, "no push service has taken it") {
		t.Errorf("exit %d, printed\n%s%s", r.code, r.stdout, r.stderr)
	}
}
