package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRevoke(t *testing.T) {
	a := new(answering)
	h := httptest.NewServer(a)
	defer h.Close()
	for _, test := range []struct{ args, call, reply, printed string }{
		{"--jti k --json", `POST /v1/revocations {"jti":"k"}`, `{"jti":"k","expires":5}`, `{"jti":"k","expires":5}`},
		{"--client ann --json", `POST /v1/revocations {"client_id":"ann"}`, `{"client_id":"ann","before":4,"expires":5}`, `{"client_id":"ann","before":4,"expires":5}`},
		{
			"--node n --before 2026-01-31T12:00:00Z --json", `POST /v1/revocations {"node_id":"n","before":1769860800000}`,
			`{"node_id":"n","before":1769860800000,"expires":5}`, `{"node_id":"n","before":1769860800000,"expires":5}`,
		},
		{"--all --json", `POST /v1/revocations {"all":true}`, `{"all":true,"before":4,"expires":5}`, `{"all":true,"before":4,"expires":5}`},
		{"--list --json", `GET /v1/revocations`, `{"revocations":[{"jti":"k","expires":5}]}`, `[{"jti":"k","expires":5}]`},
		{
			"--all", `POST /v1/revocations {"all":true}`, `{"all":true,"before":946684800000,"expires":946684801000}`,
			"REVOKED  ID  ISSUED BEFORE         KEPT UNTIL\nall      -   2000-01-01T00:00:00Z  2000-01-01T00:00:01Z",
		},
		{
			"--list", `GET /v1/revocations`,
			`{"revocations":[{"jti":"k","expires":946684800000},{"client_id":"ann","before":946684800000,"expires":946684801000}]}`,
			"REVOKED  ID   ISSUED BEFORE         KEPT UNTIL\njti      k    -                     2000-01-01T00:00:00Z\n" +
				"client   ann  2000-01-01T00:00:00Z  2000-01-01T00:00:01Z",
		},
		{"", "", "", ""},
		{"--jti k --all", "", "", ""},
		{"--list --before 2026-01-31T12:00:00Z", "", "", ""},
		{"--jti k --before 2026-01-31T12:00:00Z", "", "", ""},
		{"--all --before yesterday", "", "", ""},
	} {
		a.call, a.reply = "", test.reply
		args := append([]string{"revoke", "--server", h.URL, "--auth-key", "ann"}, strings.Fields(test.args)...)
		r := allspark(t.Context(), nil, args...)
		want := exitOK
		if test.call == "" {
			want = exitUsage
		}
		if r.code != want || a.call != test.call || strings.TrimSpace(r.stdout) != test.printed {
			t.Errorf("revoke %s: exit %d, call %s, printed %s %s", test.args, r.code, a.call, r.stdout, r.stderr)
		}
	}
}
