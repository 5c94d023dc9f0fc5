package systemtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

// A server is drained by way of another: its client goes there, its process ends
// with 0, and who has asked sees it go. Then the last one is, which nobody but
// itself can be asked about.
func TestDrainFromAfar(t *testing.T) {
	uri, db := mongotest.URI(t), mongotest.Database(t)
	args := []string{"--mongodb-uri", uri, "--mongodb-database", db, "--drain-timeout", "6s"}
	a := newServer(t, append(args, "--node-id", "first")...)
	b := newServer(t, append(args, "--node-id", "second", "--join", a.gossip)...)
	eventually(t, 10*time.Second, func() error { return linked(b, 1) })
	bob := dial(t, client.Options{Servers: []string{a.url, b.url}, AuthKey: authKey(t, "bob")})
	if n := metric(a, "allspark_connections"); n != "1" {
		t.Fatalf("%s connections at the server to drain", n)
	}
	app, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: "backend", App: true, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}

	out, stderr, code := run(t, "nodes", "--server", b.url, "--auth-key", app, "--json")
	var servers []client.Server
	if err := json.Unmarshal([]byte(out), &servers); err != nil || code != 0 || len(servers) != 2 {
		t.Fatalf("exit %d, %s%s: %v", code, out, stderr, err)
	}
	for _, s := range servers {
		if h := s.Health; h == nil || h.StoreWriteUS == 0 || len(h.Links) != 1 || h.ClockAheadMS < -1000 || h.ClockAheadMS > 1000 {
			t.Errorf("%s: %+v", s.ID, h)
		}
	}

	if _, stderr, code := run(t, "drain", "third", "--server", b.url, "--auth-key", app); code != 1 || !strings.Contains(stderr, "no such server") {
		t.Errorf("of a server that is not there: exit %d, %s", code, stderr)
	}
	if _, stderr, code := run(t, "drain", "first", "--server", b.url, "--auth-key", authKey(t, "bob")); code != 1 || !strings.Contains(stderr, "forbidden") {
		t.Errorf("not the app: exit %d, %s", code, stderr)
	}
	out, stderr, code = run(t, "drain", "first", "--server", b.url, "--auth-key", app)
	if code != 0 || !strings.HasPrefix(out, "first drains, ") || !strings.HasSuffix(out, "first has left\n") {
		t.Errorf("exit %d, %s%s", code, out, stderr)
	}
	if code := a.wait(15 * time.Second); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
	eventually(t, 10*time.Second, func() error {
		if n := metric(b, "allspark_connections"); n != "1" {
			return fmt.Errorf("%s connections at the other server", n)
		}
		return nil
	})
	send(t, b.url, authKey(t, "alice"), "--to", "bob", "1")
	if m, err := bob.Receive(t.Context()); err != nil || m.Seq != 1 {
		t.Fatal(m, err)
	}

	out, stderr, code = run(t, "drain", "second", "--json", "--server", b.url, "--auth-key", app)
	if code != 0 || !strings.HasSuffix(out, `{"server":"second","connections":0,"left":true}`+"\n") {
		t.Errorf("the one that was asked: exit %d, %s%s", code, out, stderr)
	}
	if code := b.wait(15 * time.Second); code != 0 {
		t.Errorf("the last server ended with %d", code)
	}
	if _, err := http.Get(b.url + "/healthz"); err == nil {
		t.Error("it goes on answering")
	}
}
