package systemtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

const (
	tokenSecret = "a secret of at least thirty-two characters"
	meshKey     = "a mesh key for tests"
)

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "allspark-systemtest-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "allspark")
		build := exec.Command("go", "build", "-o", binary, "github.com/allsparkrt/allspark/cmd/allspark")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// process is a running program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	log    logBuffer
	ended  chan struct{} // closed when it has ended; then code is set
	code   int
}

// logBuffer is what a process wrote to stderr; it can be read meanwhile.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs the program. It is killed when the test ends; its log is shown
// when the test has failed.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	own := slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "ALLSPARK_") })
	p.cmd.Env = append(own, env...)
	p.cmd.Stderr = &p.log
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = w
	p.stdout = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		p.kill()
		out.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.log.String())
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// wait returns the exit code.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(within):
		p.t.Fatalf("still running after %v:\n%s", within, p.log.String())
		return 0
	}
}

// run runs the program to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	p := start(t, nil, args...)
	out, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	code = p.wait(30 * time.Second)
	return string(out), p.log.String(), code
}

// server is a process of `allspark serve`, with ports of its own that stay the
// same over restarts.
type server struct {
	*process
	t       *testing.T
	url     string
	metrics string
	gossip  string
	args    []string
}

// newServer starts a server with --data or --mongodb-uri and the like in extra.
func newServer(t *testing.T, extra ...string) *server {
	t.Helper()
	s := configure(t, extra...)
	s.start()
	s.waitReady()
	return s
}

// configure chooses the ports of a server without starting it.
func configure(t *testing.T, extra ...string) *server {
	t.Helper()
	p := freePorts(t, 4)
	s := &server{t: t, url: "http://127.0.0.1:" + p[0], metrics: "http://127.0.0.1:" + p[3], gossip: "127.0.0.1:" + p[1]}
	s.args = append([]string{
		"serve", "--host=127.0.0.1", "--port=" + p[0], "--gossip-port=" + p[1], "--peer-port=" + p[2], "--metrics-addr=127.0.0.1:" + p[3],
		"--log-level=debug",
	}, extra...)
	return s
}

var secrets = []string{"ALLSPARK_TOKEN_SECRET=" + tokenSecret, "ALLSPARK_MESH_KEY=" + meshKey}

func (s *server) start(extra ...string) {
	s.t.Helper()
	s.process = start(s.t, secrets, append(s.args, extra...)...)
}

func (s *server) waitReady() {
	s.t.Helper()
	eventually(s.t, 30*time.Second, func() error {
		select {
		case <-s.ended:
			s.t.Fatalf("the server ended with %d:\n%s", s.code, s.log.String())
		default:
		}
		return ready(s.url)
	})
}

func ready(url string) error {
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}

// freePorts returns ports that were free a moment ago, for TCP and UDP.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // after all are chosen, so that none is chosen twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

// eventually waits until f returns nil, and fails with its last error.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
		<-ticker.C
	}
}

// authKey mints the key of a device whose user has the same name.
func authKey(t *testing.T, device string) string {
	t.Helper()
	key, err := auth.Mint(auth.MintKey{Secret: auth.Secret(tokenSecret)}, auth.Claims{
		Client: envelope.ClientID(device), Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dial connects a device.
func dial(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// bestServer returns the URL of the server that a device is sent to first.
func bestServer(t *testing.T, asked, key string) string {
	t.Helper()
	var reply struct {
		Servers []struct{ URL string }
	}
	body := post(t, asked+"/v1/connect", key, "")
	if err := json.Unmarshal(body, &reply); err != nil || len(reply.Servers) == 0 {
		t.Fatalf("%s: %v", body, err)
	}
	return reply.Servers[0].URL
}

// repeat does something again and again until stop is called.
func repeat(t *testing.T, f func()) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// demo is a running `allspark demo --json`.
type demo struct {
	*process
	Servers  []string          `json:"servers"`
	AuthKeys map[string]string `json:"auth_keys"`
}

func startDemo(t *testing.T, data string) *demo {
	t.Helper()
	d := &demo{process: start(t, nil, "demo", "--json", "--data", data)}
	line, err := d.stdout.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, d)
	}
	if err != nil {
		t.Fatalf("demo printed %q: %v\n%s", line, err, d.log.String())
	}
	return d
}
