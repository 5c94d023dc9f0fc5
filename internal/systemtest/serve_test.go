package systemtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

// What stops a server from starting is said in one line that names it.
func TestServeRefusesToStart(t *testing.T) {
	running := newServer(t, "--data", t.TempDir())
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shared := t.TempDir()
	newServer(t, "--data", shared, "--gossip-port", portOf(occupied.Addr().String())) // it has nobody to gossip with
	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"port taken", []string{"--port", portOf(running.url), "--data", t.TempDir()}, "port: cannot listen on"},
		{"metrics port taken", []string{"--metrics-addr", occupied.Addr().String(), "--data", t.TempDir()}, "metrics_addr: cannot listen on"},
		{"peer port taken", []string{"--peer-port", portOf(occupied.Addr().String()), "--data", t.TempDir()}, "peer_port: cannot listen on"},
		{"gossip port taken", []string{"--gossip-port", portOf(occupied.Addr().String())}, "gossip_port: "},
		{"data is a file", []string{"--data", file}, file},
		{"data below a file", []string{"--data", filepath.Join(file, "below")}, file},
		{"data of another process", []string{"--data", shared}, "another process"},
		{"two problems", []string{"--log-level", "loud", "--max-connections=-1", "--data", t.TempDir()}, "log_level"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if !slices.Contains(args, "--data") {
				args = append(args, "--mongodb-uri", mongotest.URI(t), "--mongodb-database", mongotest.Database(t))
			}
			s := configure(t, args...)
			s.start()
			if code := s.wait(20 * time.Second); code == 0 {
				t.Errorf("exit %d", code)
			}
			last := lastLine(s.log.String())
			if !strings.HasPrefix(last, "allspark: serve: ") || !strings.Contains(s.log.String(), tt.says) {
				t.Errorf("it said %q, want something with %q", last, tt.says)
			}
		})
	}
}

func portOf(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// A server whose database cannot be reached says so, lives, is not ready, and
// starts when the database does.
func TestDatabaseAwayAtStart(t *testing.T) {
	db := mongotest.Start(t)
	db.Kill()
	s := configure(t, "--mongodb-uri", db.URI)
	s.start()
	eventually(t, 20*time.Second, func() error {
		if !strings.Contains(s.log.String(), "cannot use the database yet") {
			return fmt.Errorf("no word about the database:\n%s", s.log.String())
		}
		return nil
	})
	status := func(path string) int {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if live, ready, call := status("/healthz"), status("/readyz"), status("/v1/sessions/x"); live != 200 || ready != 503 || call != 503 {
		t.Errorf("healthz %d, readyz %d, a call %d", live, ready, call)
	}
	db.Restart()
	s.waitReady()
	if a := send(t, s.url, authKey(t, "alice"), "--to", "bob", "hi"); a.Seq != 1 {
		t.Errorf("acknowledged with %+v", a)
	}
}

// A server refuses to be one that lives; it takes over from one that crashed,
// at once with --force and after a lease without.
func TestForce(t *testing.T) {
	uri, db := mongotest.URI(t), mongotest.Database(t)
	args := []string{"--mongodb-uri", uri, "--mongodb-database", db}
	first := newServer(t, args...)

	impostor := configure(t, args...)
	impostor.start("--node-id", strings.TrimPrefix(first.url, "http://"))
	if code := impostor.wait(30 * time.Second); code == 0 || !strings.Contains(lastLine(impostor.log.String()), "force") {
		t.Errorf("exit %d: %s", code, lastLine(impostor.log.String()))
	}
	if err := ready(first.url); err != nil {
		t.Error(err)
	}

	first.kill()
	started := time.Now()
	first.start("--force")
	first.waitReady()
	if d := time.Since(started); d > 6*time.Second {
		t.Errorf("with force it took %v, as long as a lease", d)
	}
	first.kill()
	first.start()
	first.waitReady()
}

// SIGTERM: not ready, clients told to go elsewhere, exit 0, nothing lost.
func TestDrain(t *testing.T) {
	uri, db := mongotest.URI(t), mongotest.Database(t)
	args := []string{"--mongodb-uri", uri, "--mongodb-database", db, "--drain-timeout", "6s"}
	a := newServer(t, args...)
	b := newServer(t, append(args, "--join", a.gossip)...)
	eventually(t, 10*time.Second, func() error { return linked(a, 1) })

	c := dial(t, client.Options{Servers: []string{a.url, b.url}, AuthKey: authKey(t, "bob")})
	alice := authKey(t, "alice")
	send(t, b.url, alice, "--to", "bob", "1")
	if m, err := c.Receive(t.Context()); err != nil || m.Seq != 1 {
		t.Fatal(m, err)
	}
	if n := metric(a, "allspark_connections"); n != "1" {
		t.Fatalf("%s connections at the server to drain", n)
	}
	// A second device, by hand, to see what it is told.
	ws := dialRaw(t, a.url, authKey(t, "carol"))
	eventually(t, 5*time.Second, func() error {
		if n := metric(a, "allspark_connections"); n != "2" {
			return fmt.Errorf("%s connections at the server to drain", n)
		}
		return nil
	})

	a.signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, func() error {
		if ready(a.url) == nil {
			return fmt.Errorf("still ready")
		}
		return nil
	})
	for {
		_, frame, err := ws.Read(t.Context())
		if err != nil {
			t.Fatalf("no reconnect before the end: %v", err)
		}
		if f, err := envelope.ParseControl(frame); err == nil && f.Control == envelope.ControlReconnect {
			if f.AfterMS > 3000 || len(f.Nodes) != 1 || f.Nodes[0] != b.url {
				t.Errorf("told %s", frame)
			}
			break
		}
	}
	eventually(t, 6*time.Second, func() error {
		if n := metric(b, "allspark_connections"); n != "1" {
			return fmt.Errorf("%s connections at the other server", n)
		}
		return nil
	})
	ws.CloseNow()
	if code := a.wait(15 * time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	send(t, b.url, alice, "--to", "bob", "2")
	m, err := c.Receive(t.Context())
	if err != nil || m.Seq != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// dialRaw opens a device's connection at one server, without a client.
func dialRaw(t *testing.T, server, key string) *websocket.Conn {
	t.Helper()
	var reply struct {
		Servers []struct {
			URL             string
			ValidationToken string `json:"validation_token"`
		}
	}
	body := post(t, server+"/v1/connect", key, "")
	if err := json.Unmarshal(body, &reply); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, s := range reply.Servers {
		if s.URL == server {
			ws, _, err := websocket.Dial(t.Context(), server+"/ws", &websocket.DialOptions{
				Subprotocols: []string{"allspark.v2.json", "bearer." + s.ValidationToken},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ws.CloseNow() })
			return ws
		}
	}
	t.Fatalf("%s is not offered: %s", server, body)
	return nil
}

// linked reports whether a server has so many peer links, by its metrics.
func linked(s *server, n int) error {
	if got := metric(s, "allspark_peer_links"); got != fmt.Sprint(n) {
		return fmt.Errorf("%s peer links, want %d", got, n)
	}
	return nil
}

// metric returns a metric's value as text.
func metric(s *server, name string) string {
	resp, err := http.Get(s.metrics + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "nothing"
}

// No token and no payload in the log, whatever happens.
func TestLogsHoldNoSecrets(t *testing.T) {
	s := newServer(t, "--data", t.TempDir())
	key := authKey(t, "alice")
	const payload = "the-very-private-payload"
	c := dial(t, client.Options{Servers: []string{s.url}, AuthKey: key})
	e := envelope.Envelope{DestNode: "bob"}
	e.SetPayload(payload)
	if _, err := c.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Servers []struct {
			ValidationToken string `json:"validation_token"`
		}
	}
	body := post(t, s.url+"/v1/connect", key, "")
	if err := json.Unmarshal(body, &reply); err != nil || len(reply.Servers) != 1 {
		t.Fatalf("%s: %v", body, err)
	}
	token := reply.Servers[0].ValidationToken
	paths := []string{"/ws?token=" + token, "/ws?token=" + token + "x", "/connectV3?auth_key=" + key, "/connectV3?auth_key=" + key + "x&validation_key=" + token}
	for _, call := range []string{"create_session", "join_session", "unjoin_session", "get_session_info", "reveal_anonymity"} {
		for _, params := range []string{"", "x", "&session_id=none", "&session_id=%zz", ";"} {
			paths = append(paths, "/"+call+"?auth_key="+key+params)
		}
		for _, form := range []string{"auth_key=" + key, "auth_key=" + key + "&session_id=%zz"} {
			resp, err := http.Post(s.url+"/"+call, "application/x-www-form-urlencoded", strings.NewReader(form))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	for _, path := range paths {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	s.signal(syscall.SIGTERM)
	s.wait(30 * time.Second)
	log := s.log.String()
	for name, secret := range map[string]string{"auth key": key, "validation token": token, "payload": payload, "token secret": tokenSecret, "mesh key": meshKey} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s", name)
		}
	}
}

func post(t *testing.T, url, key, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
