package systemtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/internal/mongotest"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // of its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mesh"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.cert = a.issue(template, template, nil)
	a.file = a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) issue(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// server returns the flags of a server with a certificate that is valid until then.
func (a *authority) server(name string, until time.Time) []string {
	a.t.Helper()
	key, cert := a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return []string{
		"--peer-cert=" + a.write(name+".pem", "CERTIFICATE", cert.Raw), "--peer-key=" + a.write(name+".key", "EC PRIVATE KEY", der), "--peer-ca=" + a.file,
	}
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// With certificates configured, servers link to those with a certificate of
// the same authority and to no others, although all know the mesh key.
func TestPeerLinksWithCertificates(t *testing.T) {
	uri, db := mongotest.URI(t), mongotest.Database(t)
	ours, foreign := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	begin := func(seed *server, certificate []string) *server {
		args := append([]string{"--mongodb-uri", uri, "--mongodb-database", db}, certificate...)
		if seed != nil {
			args = append(args, "--join", seed.gossip)
		}
		return newServer(t, args...)
	}
	a := begin(nil, ours.server("a", later))
	b := begin(a, ours.server("b", later))
	eventually(t, 15*time.Second, func() error { return linked(a, 1) })
	// From one server to the other; volatile, so that only the link can do it.
	bob := dial(t, client.Options{Servers: []string{b.url}, AuthKey: authKey(t, "bob")})
	if n := metric(b, "allspark_connections"); n != "1" {
		t.Fatalf("%s connections", n)
	}
	alice := authKey(t, "alice")
	stop := repeat(t, func() {
		run(t, "send", "--server", a.url, "--auth-key", alice, "--to", "bob", "--class=volatile", "hi")
	})
	m, err := bob.Receive(t.Context())
	stop()
	if err != nil || string(m.Body) != `"payload":"hi"` {
		t.Errorf("%s, %v", m.Body, err)
	}
	for name, certificate := range map[string][]string{
		"foreign": foreign.server("foreign", later),
		"expired": ours.server("expired", time.Now().Add(-time.Hour)),
		"none":    nil,
	} {
		c := begin(a, certificate)
		id := strings.TrimPrefix(c.url, "http://")
		eventually(t, 20*time.Second, func() error {
			for _, line := range append(strings.Split(a.log.String(), "\n"), strings.Split(c.log.String(), "\n")...) {
				if strings.Contains(line, "no peer link") && (strings.Contains(line, "peer="+id) || strings.Contains(c.log.String(), line)) {
					return nil
				}
			}
			return fmt.Errorf("%s: nobody has tried", name)
		})
		if err := linked(c, 0); err != nil {
			t.Errorf("%s certificate: %v", name, err)
		}
		if err := linked(a, 1); err != nil {
			t.Errorf("%s certificate: %v", name, err)
		}
		c.kill()
	}
}
