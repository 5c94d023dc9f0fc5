package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
)

// testServer serves the native protocol; a device's auth key is its node id.
func testServer(t *testing.T) (s *clienttest.Server, url string) {
	s = new(clienttest.Server)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func TestSend(t *testing.T) {
	s, url := testServer(t)
	ann := []string{"ALLSPARK_AUTH_KEY=ann"}
	tests := []struct {
		name string
		args []string
		ack  string // with "id" taken away when it is random
		log  envelope.Address
		body string
	}{
		{"device", []string{"--to=bob", "--id=1", "hi <you>"}, `{"id":"1","seq":1,"log":"node:bob"}`, envelope.NodeID("bob").Address(), `"payload":"hi <you>"`},
		{"same id", []string{"--to=bob", "--id=1", "hi <you>"}, `{"id":"1","seq":1,"log":"node:bob"}`, envelope.NodeID("bob").Address(), `"payload":"hi <you>"`},
		{"user", []string{"--to-client=eve", "--id=2", ""}, `{"id":"2","seq":1,"log":"client:eve"}`, envelope.ClientID("eve").Address(), `"payload":""`},
		{"session", []string{"--to-session=room", "--id=3", "--json", `{"a": [1]}`}, `{"id":"3","seq":1,"log":"session:room"}`, envelope.SessionID("room").Address(), `"payload":{"a": [1]}`},
		{"member", []string{"--to=room~zorro", "--to-session=room", "--id=5", "hi"}, `{"id":"5","seq":1,"log":"node:room~zorro"}`, envelope.NodeID("room~zorro").Address(), `"payload":"hi"`},
		{"volatile", []string{"--to=bob", "--id=4", "--class=volatile", "tick"}, `{"id":"4","seq":0,"log":""}`, envelope.Address{}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := mustRun(t, ann, append([]string{"send", "--server", url}, test.args...)...)
			if out != test.ack+"\n" {
				t.Errorf("printed %s, want %s", out, test.ack)
			}
			if bodies := s.Log(test.log); !test.log.IsZero() && (len(bodies) != 1 || bodies[0] != test.body) {
				t.Errorf("%v holds %q, want %q", test.log, bodies, test.body)
			}
		})
	}

	t.Run("random id", func(t *testing.T) {
		var ack struct{ ID string }
		if err := json.Unmarshal([]byte(mustRun(t, ann, "send", "--server", url, "--to=carl", "hi")), &ack); err != nil || ack.ID == "" {
			t.Errorf("id %q, %v", ack.ID, err)
		}
	})
}

// TestEnvironment checks that a server given by environment is used, a list of
// them as well, and that the flag comes first.
func TestEnvironment(t *testing.T) {
	s, url := testServer(t)
	const nobody = "http://127.0.0.1:1"
	for _, test := range []struct{ server, flag string }{
		{url, ""}, {nobody + "," + url, ""}, {nobody, "--server=" + url},
	} {
		s.Deliver(envelope.Envelope{DestNode: "ann", SrcNode: "bob"})
		for _, args := range [][]string{{"send", "--to=bob", "hi"}, {"listen", "--count=1"}} {
			if test.flag != "" {
				args = append(args, test.flag)
			}
			mustRun(t, []string{"ALLSPARK_AUTH_KEY=ann", "ALLSPARK_SERVER=" + test.server}, args...)
		}
	}
}

func TestSendRefused(t *testing.T) {
	var tries atomic.Int32
	var refusals []*envelope.Error // one after the other, the last again and again
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := int(tries.Add(1))
		clienttest.Refuse(w, refusals[min(n, len(refusals))-1])
	}))
	defer h.Close()
	busy := &envelope.Error{Code: envelope.Busy, RetryMS: 1}
	for _, tt := range []struct {
		name     string
		refusals []*envelope.Error
		tries    int32
		stderr   string
	}{
		{"final", []*envelope.Error{envelope.Errorf(envelope.Forbidden, "no")}, 1, "allspark: send: forbidden: no\n"},
		{"after busy", []*envelope.Error{busy, busy, envelope.Errorf(envelope.Unauthorized, "expired")}, 3, "allspark: send: unauthorized: expired\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tries.Store(0)
			refusals = tt.refusals
			r := allspark(t.Context(), []string{"ALLSPARK_AUTH_KEY=ann"}, "send", "--server", h.URL, "--to=bob", "hi")
			if r.code != exitFailed || r.stdout != "" || r.stderr != tt.stderr || tries.Load() != tt.tries {
				t.Errorf("exit %d after %d tries, %q, want %q", r.code, tries.Load(), r.stderr, tt.stderr)
			}
		})
	}
}

// TestListen checks that exactly what was printed is acknowledged, before the end.
func TestListen(t *testing.T) {
	s, url := testServer(t)
	bob := []string{"ALLSPARK_AUTH_KEY=bob"}
	for _, id := range []string{"a", "b", "c"} {
		e := envelope.Envelope{ID: id, DestNode: "bob", SrcNode: "ann", SrcClient: "ann"}
		e.SetPayload("hi")
		s.Deliver(e)
	}
	acked := func() uint64 { return s.Acked("bob")[envelope.NodeID("bob").Address()] }

	lines := strings.Split(mustRun(t, bob, "listen", "--server", url, "--count=2"), "\n")
	if len(lines) != 3 || lines[2] != "" {
		t.Fatalf("%d lines, want 2 and the end: %q", len(lines), lines)
	}
	for i, id := range []string{"a", "b"} {
		p := envelope.Parser{From: envelope.FromServer}
		e, err := p.Parse([]byte(lines[i]))
		if err != nil || e.ID != id || e.Seq != uint64(i)+1 || e.SrcNode != "ann" || string(e.Body) != `"payload":"hi"` {
			t.Errorf("line %d is %s (%v)", i, lines[i], err)
		}
	}
	if acked() != 2 {
		t.Errorf("acknowledged up to %d, want 2", acked())
	}

	r := allspark(t.Context(), bob, "listen", "--server", url, "--count=2", "--timeout=2s")
	if want := "allspark: listen: not 2 messages within 2s\n"; r.code != exitFailed || r.stderr != want {
		t.Errorf("exit %d, %q, want %q", r.code, r.stderr, want)
	}
	if !strings.Contains(r.stdout, `"id":"c"`) || acked() != 3 {
		t.Errorf("printed %q and acknowledged up to %d, want the third", r.stdout, acked())
	}

	if out := mustRun(t, bob, "listen", "--server", url, "--timeout=2s"); out != "" {
		t.Errorf("printed %q, want nothing new", out)
	}
}

// TestListenInterrupted checks that an interrupt ends listening in good order.
func TestListenInterrupted(t *testing.T) {
	s, url := testServer(t)
	s.Deliver(envelope.Envelope{ID: "a", DestNode: "bob", SrcNode: "ann"})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stdout, w := io.Pipe()
	var stderr strings.Builder
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"listen", "--server", url}, nil, w, &stderr, []string{"ALLSPARK_AUTH_KEY=bob"})
	}()
	line := make([]byte, 1000)
	if _, err := stdout.Read(line); err != nil {
		t.Fatal(err)
	}
	interrupt()
	if code := <-done; code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
	if n := s.Acked("bob")[envelope.NodeID("bob").Address()]; n != 1 {
		t.Errorf("acknowledged up to %d, want 1", n)
	}
}

// TestListenCannotPrint checks that what was not printed is not acknowledged.
func TestListenCannotPrint(t *testing.T) {
	s, url := testServer(t)
	s.Deliver(envelope.Envelope{ID: "a", DestNode: "bob", SrcNode: "ann"})
	r, w := io.Pipe()
	_ = r.Close()
	var stderr strings.Builder
	code := run(t.Context(), []string{"listen", "--server", url}, nil, w, &stderr, []string{"ALLSPARK_AUTH_KEY=bob"})
	if code != exitFailed || stderr.Len() == 0 {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
	if n := s.Acked("bob")[envelope.NodeID("bob").Address()]; n != 0 {
		t.Errorf("acknowledged up to %d, want nothing", n)
	}
}

// TestListenTopics checks that topics are followed before the first message.
func TestListenTopics(t *testing.T) {
	s := new(clienttest.Server)
	s.OnControl = func(c *clienttest.Conn, f envelope.Control) {
		if f.Control == envelope.ControlSubscribe {
			c.WriteControl(envelope.Control{Control: envelope.ControlSubscribed, ID: f.ID, Topics: f.Topics})
			for i, id := range f.Topics {
				c.WriteMessage(envelope.Envelope{ID: string('a' + rune(i)), DestSession: id, SrcNode: "ann", Body: []byte(`"payload":1`)})
			}
		}
	}
	h := httptest.NewServer(s)
	defer h.Close()
	bob := []string{"ALLSPARK_AUTH_KEY=bob"}
	out := mustRun(t, bob, "listen", "--server", h.URL, "--topic=topic:a", "--topic=topic:b", "--count=2")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"topic:a"`) || !strings.Contains(lines[1], `"topic:b"`) {
		t.Errorf("printed %q", out)
	}
	r := allspark(t.Context(), bob, "listen", "--server", h.URL, "--topic=news")
	if r.code != exitFailed || !strings.HasPrefix(r.stderr, "allspark: listen: bad_request: ") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}
