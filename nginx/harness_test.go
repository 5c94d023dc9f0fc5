// Package nginx holds the proxy configuration; its tests run it in a real nginx.
package nginx

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds everything that waits for a process.
const patience = time.Minute

// proxy is a running nginx with allspark.conf.
type proxy struct {
	http  string // "http://127.0.0.1:PORT", for port 80
	https string // "https://127.0.0.1:PORT", for port 443
	roots *x509.CertPool

	dir  string
	stop func()
}

// start runs nginx in front of the servers a and b, given as host:port. It
// ends with the test.
func start(t *testing.T, a, b string) *proxy {
	t.Helper()
	binary := find(t)
	// A free port may be taken by somebody else before nginx has it.
	for attempt := 1; ; attempt++ {
		p, err := tryStart(t, binary, a, b)
		if err == nil {
			return p
		}
		if attempt == 3 {
			t.Fatal(err)
		}
	}
}

func tryStart(t *testing.T, binary, a, b string) (*proxy, error) {
	t.Helper()
	p := &proxy{dir: t.TempDir()}
	plain, tls := freeAddr(t), freeAddr(t)
	p.http, p.https = "http://"+plain, "https://"+tls
	p.roots = writeCertificate(t, p.dir)
	writeFile(t, filepath.Join(p.dir, "nginx.conf"), mainConf)
	writeFile(t, filepath.Join(p.dir, "allspark.conf"), adapted(t,
		"listen 80;", "listen "+plain+";",
		"listen 443 ssl;", "listen "+tls+" ssl;",
		"/etc/allspark/tls", p.dir,
		"/var/log/nginx", p.dir,
		"10.0.0.1:8420", a,
		"10.0.0.2:8420", b,
	))

	command := exec.Command(binary, "-p", p.dir, "-e", "startup.log", "-c", "nginx.conf")
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	if err := reachable(t.Context(), plain, ended); err != nil {
		_ = command.Process.Kill()
		return nil, fmt.Errorf("nginx: %w\n%s", err, output.String())
	}
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = command.Process.Kill()
			t.Error("nginx did not end")
		}
	}
	t.Cleanup(p.stop)
	return p, nil
}

// mainConf is around allspark.conf what /etc/nginx/nginx.conf is on a machine.
const mainConf = `
daemon off;
master_process off;
pid nginx.pid;
error_log main-error.log info;
events { worker_connections 512; }
http {
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include allspark.conf;
}
`

// adapted returns allspark.conf with pairs of old and new text, all of which
// must be there.
func adapted(t *testing.T, pairs ...string) string {
	t.Helper()
	conf, err := os.ReadFile("allspark.conf")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(conf), pairs[i]) {
			t.Fatalf("allspark.conf does not have %q", pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(conf))
}

// find returns the nginx binary. Without one the test is skipped, except where
// CI is set.
func find(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if binary, err := exec.LookPath(name); err == nil {
			return binary
		}
	}
	const message = "no nginx here; on Debian: apt-get install nginx"
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// reachable waits until addr takes connections. A process in between has no
// other way to say that it is ready.
func reachable(ctx context.Context, addr string, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("nobody listens on %s after %v", addr, patience))
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case err := <-ended:
			return fmt.Errorf("ended at once: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writeCertificate puts a certificate for 127.0.0.1 where the configuration
// expects one, and returns what to trust.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "fullchain.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, filepath.Join(dir, "privkey.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
