package systemtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
)

// ack is what `allspark send` prints.
type ack struct {
	ID  string
	Seq uint64
	Log string
}

func send(t *testing.T, server, key string, args ...string) ack {
	t.Helper()
	out, stderr, code := run(t, append([]string{"send", "--server", server, "--auth-key", key}, args...)...)
	var a ack
	if err := json.Unmarshal([]byte(out), &a); code != 0 || err != nil {
		t.Fatalf("send: exit %d, %q, %v\n%s", code, out, err, stderr)
	}
	return a
}

// listen takes n messages and returns their payloads.
func listen(t *testing.T, server, key string, n int) []string {
	t.Helper()
	out, stderr, code := run(t, "listen", "--server", server, "--auth-key", key, "--count", fmt.Sprint(n), "--timeout", "20s")
	if code != 0 {
		t.Fatalf("listen: exit %d, %q\n%s", code, out, stderr)
	}
	return payloads(t, out)
}

func payloads(t *testing.T, out string) []string {
	t.Helper()
	var got []string
	for line := range strings.Lines(out) {
		var m struct{ Payload string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, m.Payload)
	}
	return got
}

// What a newcomer does first: a message across servers, one that waits for a
// reader who is away, and one that survives the end of everything.
func TestDemo(t *testing.T) {
	data := t.TempDir()
	d := startDemo(t, data)
	if len(d.Servers) != 3 {
		t.Fatalf("servers: %v", d.Servers)
	}
	alice, bob := d.AuthKeys["alice"], d.AuthKeys["bob"]

	if a := send(t, d.Servers[0], alice, "--to", "bob", "while away"); a.Seq != 1 || a.Log != "node:bob" {
		t.Errorf("acknowledged with %+v", a)
	}
	if got := listen(t, d.Servers[2], bob, 1); got[0] != "while away" {
		t.Errorf("bob got %q", got)
	}

	// Who asks a server where to go is sent to that one, when all have as
	// little to do; so this is from one server to another. Volatile messages
	// arrive live or not at all.
	if first := bestServer(t, d.Servers[1], bob); first != d.Servers[1] {
		t.Fatalf("asked %s and was sent to %s", d.Servers[1], first)
	}
	listening := start(t, nil, "listen", "--server", d.Servers[1], "--auth-key", bob, "--count", "1", "--timeout", "20s")
	stop := repeat(t, func() {
		run(t, "send", "--server", d.Servers[0], "--auth-key", alice, "--to", "bob", "--class=volatile", "live")
	})
	line, err := listening.stdout.ReadString('\n')
	stop()
	if err != nil || listening.wait(10*time.Second) != 0 {
		t.Fatalf("%v\n%s", err, listening.log.String())
	}
	if got := payloads(t, line); got[0] != "live" {
		t.Errorf("bob got %q", got)
	}

	// A guest of one server is known to all.
	guest, err := (&client.API{Servers: d.Servers[:1]}).Guest(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	dial(t, client.Options{Servers: d.Servers[2:], AuthKey: guest.AuthKey})

	send(t, d.Servers[1], alice, "--to", "bob", "before the crash")
	d.kill()
	d = startDemo(t, data)
	send(t, d.Servers[2], alice, "--to", "bob", "after the crash")
	// The keys printed by the first run are still good.
	if got := listen(t, d.Servers[0], bob, 2); got[0] != "before the crash" || got[1] != "after the crash" {
		t.Errorf("bob got %q", got)
	}
	out, _, code := run(t, "listen", "--server", d.Servers[1], "--auth-key", bob, "--count", "1", "--timeout", "1s")
	if code == 0 || out != "" {
		t.Errorf("acknowledged messages came again: %q", out)
	}
}

func TestDemoEndsInPeace(t *testing.T) {
	d := startDemo(t, t.TempDir())
	d.signal(syscall.SIGTERM)
	if code := d.wait(15 * time.Second); code != 0 {
		t.Errorf("exit %d\n%s", code, d.log.String())
	}
}
