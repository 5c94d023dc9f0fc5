package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// answering serves a reply to every call, and keeps what the last one was.
type answering struct {
	call, reply string
	refusal     *envelope.Error
}

// ServeHTTP implements [http.Handler].
func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.call = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
	if r.Header.Get("Authorization") != "Bearer ann" {
		a.call = "without the auth key"
	}
	if a.refusal != nil {
		clienttest.Refuse(w, a.refusal)
		return
	}
	_, _ = io.WriteString(w, a.reply)
}

func TestSession(t *testing.T) {
	a := new(answering)
	h := httptest.NewServer(a)
	defer h.Close()
	const (
		session    = `{"session_id":"r","owner":"ann","anyone_can_join":true,"created":5,"node_id":"ann","role":"owner","state":"joined","members":[{"node_id":"ann","client_id":"ann","since":1,"role":"owner"}]}`
		membership = `{"session_id":"r","node_id":"r~zorro","seq":7}`
		standing   = `{"session_id":"r","node_id":"bob","state":"left","since":2,"until":8}`
	)
	for _, test := range []struct{ args, call, reply string }{
		{"create", `POST /v1/sessions {}`, session},
		{`create r --settings {"kind":"game","member_limit":8} --alias z`, `POST /v1/sessions {"session_id":"r","kind":"game","member_limit":8,"as_anonymous":true,"alias":"z"}`, session},
		{"show r", `GET /v1/sessions/r`, session},
		{`set r {"anyone_can_join":false}`, `PATCH /v1/sessions/r {"anyone_can_join":false}`, session},
		{"join r", `POST /v1/sessions/r/join`, membership},
		{"join r --anonymous", `POST /v1/sessions/r/join {"as_anonymous":true}`, membership},
		{"join r --alias=zorro", `POST /v1/sessions/r/join {"as_anonymous":true,"alias":"zorro"}`, membership},
		{"leave r", `POST /v1/sessions/r/leave`, membership},
		{"reveal r", `POST /v1/sessions/r/reveal`, standing},
		{"decline r", `POST /v1/sessions/r/decline`, standing},
		{"invite r bob", `POST /v1/sessions/r/invite {"node_id":"bob","role":"member"}`, standing},
		{"invite r bob --role=moderator", `POST /v1/sessions/r/invite {"node_id":"bob","role":"moderator"}`, standing},
		{"role r bob reader", `POST /v1/sessions/r/role {"node_id":"bob","role":"reader"}`, standing},
		{"kick r r~zorro", `POST /v1/sessions/r/kick {"node_id":"r~zorro"}`, standing},
		{"ban r bob", `POST /v1/sessions/r/ban {"node_id":"bob"}`, standing},
		{"unban r bob", `POST /v1/sessions/r/unban {"node_id":"bob"}`, standing},
		{"transfer r bob", `POST /v1/sessions/r/transfer {"node_id":"bob"}`, standing},
		{"master r bob", `POST /v1/sessions/r/master {"node_id":"bob"}`, standing},
	} {
		a.reply = test.reply
		out := mustRun(t, []string{"ALLSPARK_AUTH_KEY=ann"}, append([]string{"session"}, append(strings.Fields(test.args), "--server="+h.URL)...)...)
		if a.call != test.call || out != test.reply+"\n" {
			t.Errorf("%s\ncalled  %s\nwant    %s\nprinted %s", test.args, a.call, test.call, out)
		}
	}

	a.refusal = envelope.Errorf(envelope.Forbidden, "not in your role")
	r := allspark(t.Context(), []string{"ALLSPARK_AUTH_KEY=ann"}, "session", "kick", "--server", h.URL, "r", "bob")
	if r.code != exitFailed || r.stdout != "" || r.stderr != "allspark: session kick: forbidden: not in your role\n" {
		t.Errorf("exit %d, %q, %q", r.code, r.stdout, r.stderr)
	}
}

func TestHistory(t *testing.T) {
	a := &answering{reply: `{"messages":[{"src_id":"bob","dest_id":"ann","timestamp":3,"seq":2,"payload":"hi"},
		{"src_id":"bob","dest_id":"ann","timestamp":4,"seq":3,"deleted":true}],"floor":1,"head":9,"next":3,"prev":2,"more":true}`}
	h := httptest.NewServer(a)
	defer h.Close()
	for _, test := range []struct{ args, query, more string }{
		{"", "limit=100", "--after 3"},
		{"--after=1 --since=1970-01-01T00:00:01Z --limit=7", "after=1&limit=7&since=1000", "--after 3"},
		{"--back", "before=0&limit=100", "--before 2"},
		{"--before=4", "before=4&limit=100", "--before 2"},
		{"--until=1970-01-01T00:00:01Z", "before=0&limit=100&until=1000", "--before 2"},
	} {
		if strings.HasPrefix(test.more, "--before") {
			a.reply = strings.Replace(a.reply, `"next":3,`, "", 1)
		}
		r := allspark(t.Context(), []string{"ALLSPARK_AUTH_KEY=ann"}, append([]string{"history", "node:ann", "--server=" + h.URL}, strings.Fields(test.args)...)...)
		call := strings.ReplaceAll(strings.TrimPrefix(a.call, http.MethodGet+" /v1/messages?"), "&log=node%3Aann", "")
		if r.code != exitOK || call != test.query || r.stderr != "allspark: history: there is more: "+test.more+"\n" {
			t.Errorf("%s: exit %d, asked %s, %q", test.args, r.code, call, r.stderr)
		}
		if lines := strings.Split(r.stdout, "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"seq":2,"payload":"hi"`) || !strings.Contains(lines[1], `"deleted":true`) {
			t.Errorf("printed %q", r.stdout)
		}
	}
}
