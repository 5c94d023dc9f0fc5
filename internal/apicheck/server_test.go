package apicheck

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secret = "a secret of at least thirty-two characters"

// server is a process of the program, built for the test.
type server struct {
	url  string
	keys map[string]string // by security scheme
}

func (s *server) key(scheme string) string { return s.keys[scheme] }

func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "allspark")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/allspark").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ports := freePorts(t, 3)
	s := &server{url: "http://127.0.0.1:" + ports[0], keys: make(map[string]string)}
	for scheme, args := range map[string][]string{"auth_key": {"--client", "ann", "--node", "ann-phone"}, "app_key": {"--client", "backend", "--app"}} {
		out, err := exec.Command(program, append([]string{"token", "--secret", secret}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.keys[scheme] = strings.TrimSpace(string(out))
	}
	process := exec.Command(program, "serve", "--data", filepath.Join(dir, "data"), "--host", "127.0.0.1", "--guests",
		"--port", ports[0], "--gossip-port", ports[1], "--peer-port", ports[2], "--token-secret", secret)
	process.Stderr = t.Output()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	for range 600 {
		if resp, err := http.Get(s.url + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the server does not get ready")
	return nil
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}
