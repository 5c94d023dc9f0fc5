package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/hook"
)

func TestHooks(t *testing.T) {
	var replays []client.HookReplay
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer app" {
			t.Error("it does not say that it is the app")
		}
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/hooks":
			_, _ = io.WriteString(w, `{"receivers":[{"name":"default","partitions":[`+
				`{"partition":3,"server":"a","position":5,"head":7,"lag":2,"failing_since":946684800000,"attempts":4,"reason":"it answered 410","paused_until":946688400000},`+
				`{"partition":4,"position":1,"head":1,"lag":0}]},{"name":"billing","types":["connected"],"partitions":[]}]}`)
		case "POST /v1/hooks/replay":
			var replay client.HookReplay
			if err := json.NewDecoder(r.Body).Decode(&replay); err != nil || replay.ID == "" {
				t.Errorf("replay %+v, %v", replay, err)
			}
			replay.ID = ""
			replays = append(replays, replay)
			_, _ = io.WriteString(w, `{}`)
		default:
			t.Errorf("call %s %s", r.Method, r.URL)
		}
	}))
	defer h.Close()
	run := func(args string) result {
		return allspark(t.Context(), nil, append(strings.Fields(args), "--server", h.URL, "--auth-key", "app")...)
	}
	const table = "RECEIVER  PARTITION  SERVER  POSITION  HEAD  LAG  FAILING SINCE         PAUSED UNTIL          REASON\n" +
		"default   3          a       5         7     2    2000-01-01T00:00:00Z  2000-01-01T01:00:00Z  it answered 410\n" +
		"default   4          -       1         1     0    -                     -                     -\n" +
		"billing   -          -       -         -     -    -                     -                     -\n"
	for _, args := range []string{"hooks", "hooks state"} {
		if r := run(args); r.code != exitOK || r.stdout != table {
			t.Errorf("%s: exit %d, printed\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := run("hooks --json"); r.code != exitOK || !strings.HasPrefix(r.stdout, `[{"name":"default","partitions":[{"partition":3,`) {
		t.Errorf("exit %d, printed %s", r.code, r.stdout)
	}
	for _, test := range []struct {
		args string
		want []client.HookReplay
	}{
		{"hooks replay --partition 3", []client.HookReplay{{Partition: 3}}},
		{"hooks replay --receiver billing --after 7 --partition 3 --partition 5", []client.HookReplay{
			{Receiver: "billing", Partition: 3, After: 7}, {Receiver: "billing", Partition: 5, After: 7},
		}},
	} {
		replays = nil
		if r := run(test.args); r.code != exitOK || !slices.Equal(replays, test.want) {
			t.Errorf("%s: exit %d, %s; asked for %+v", test.args, r.code, r.stderr, replays)
		}
	}
	replays = nil
	if r := run("hooks replay --all"); r.code != exitOK || len(replays) != hook.Partitions || strings.Count(r.stdout, "\n") != hook.Partitions+1 {
		t.Errorf("exit %d, asked for %+v, printed\n%s", r.code, replays, r.stdout)
	}
	for _, args := range []string{"hooks replay", "hooks replay --all --partition 3", "hooks replay --partition x"} {
		if r := run(args); r.code != exitUsage {
			t.Errorf("%s: exit %d", args, r.code)
		}
	}
}
