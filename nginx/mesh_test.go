package nginx

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

const tokenSecret = "0123456789abcdef0123456789abcdef"

// TestMesh sends messages both ways between two devices that reach nothing but
// nginx, in front of a mesh of two servers.
func TestMesh(t *testing.T) {
	find(t) // before the work of building
	binary := filepath.Join(t.TempDir(), "allspark")
	if output, err := exec.Command("go", "build", "-o", binary, "../cmd/allspark").CombinedOutput(); err != nil {
		t.Fatalf("building allspark: %v\n%s", err, output)
	}
	uri := mongotest.URI(t) // which takes a while; then the ports, that nobody takes them
	addrs := map[string]string{"a": freeAddr(t), "b": freeAddr(t)}
	p := start(t, addrs["a"], addrs["b"])
	gossip := freeAddr(t)
	env := append(slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "ALLSPARK_") }),
		"ALLSPARK_MONGODB_URI="+uri, "ALLSPARK_MONGODB_DATABASE="+mongotest.Database(t),
		"ALLSPARK_MESH_KEY=0123456789abcdef", "ALLSPARK_TOKEN_SECRET="+tokenSecret,
		"ALLSPARK_PEER_PORT=0", "ALLSPARK_METRICS_ADDR=", "ALLSPARK_DRAIN_TIMEOUT=1s", "ALLSPARK_LOG_FORMAT=json",
	)
	serve(t, binary, env, "a", addrs["a"], p.https, "--gossip-port", port(t, gossip))
	serve(t, binary, env, "b", addrs["b"], p.https, "--gossip-port", "0", "--join", gossip)

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	alice, bob := dialMesh(t, ctx, p, "alice"), dialMesh(t, ctx, p, "bob")
	exchange := func(from, to *client.Client, dest envelope.NodeID, text string) {
		t.Helper()
		e := envelope.Envelope{DestNode: dest}
		e.SetPayload(text)
		ack, err := from.Send(ctx, e)
		if err != nil {
			t.Fatalf("sending to %s: %v", dest, err)
		}
		m, err := to.Receive(ctx)
		if err != nil {
			t.Fatalf("receiving at %s: %v", dest, err)
		}
		if m.ID != ack.ID || m.Seq != ack.Seq || string(m.Body) != string(e.Body) {
			t.Errorf("%s received %s, seq %d, want what was acknowledged: %+v", dest, m.Body, m.Seq, ack)
		}
	}
	for range 3 {
		exchange(alice, bob, "bob", "hi bob")
		exchange(bob, alice, "alice", "hi alice")
	}
}

// serve runs a server until the test ends and returns when it takes clients.
func serve(t *testing.T, binary string, env []string, name, addr, entry string, args ...string) {
	t.Helper()
	command := exec.Command(binary, append([]string{
		"serve", "--node-id", name, "--port", port(t, addr), "--proxy-url", entry + "/node/" + name, "--trusted-proxies", "127.0.0.1",
		"--url", "http://" + freeAddr(t), // nobody is there
	}, args...)...)
	command.Env = env
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	serving, ended := make(chan bool, 1), make(chan struct{})
	var log strings.Builder // read once ended is closed
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			var entry struct{ Msg string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				serving <- true
			}
		}
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = command.Process.Kill()
			<-ended
			t.Errorf("server %s did not end", name)
		}
		if t.Failed() {
			t.Logf("server %s:\n%s", name, log.String())
		}
	})
	select {
	case <-serving:
	case <-ended:
		t.Fatalf("server %s ended", name)
	case <-time.After(patience):
		t.Fatalf("server %s does not serve after %v", name, patience)
	}
}

// dialMesh connects a device through nginx and nothing else.
func dialMesh(t *testing.T, ctx context.Context, p *proxy, device string) *client.Client {
	t.Helper()
	now := time.Now()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(device), Issued: now, Expires: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.Dial(ctx, client.Options{
		Servers: []string{p.https}, AuthKey: key, Proxy: true, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatalf("connecting %s: %v", device, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("closing %s: %v", device, err)
		}
	})
	return c
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
