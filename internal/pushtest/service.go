// Package pushtest has push services in the test process: HTTP/2 over TLS with
// a certificate authority of their own. They check requests as the real ones do
// and refuse what those would, with their words.
package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Service is a push service. Its methods are safe for concurrent use.
type Service struct {
	URL   string         // https://127.0.0.1:port
	Roots *x509.CertPool // what its certificate is to be checked with

	// static
	server *httptest.Server
	ca     *authority
	wary   bool

	mu       sync.Mutex
	script   []Answer  // guarded by mu
	requests []Request // guarded by mu
	// answered has the connections, and whether a request has been answered.
	answered map[string]bool // guarded by mu
	hold     *hold           // guarded by mu
}

// Request is one that reached the service, refused or not.
type Request struct {
	Peer   string // the connection it came by
	Path   string
	Header http.Header
	Body   []byte // Web Push: decrypted
	Status int    // what was answered
}

// Answer is what the service says in place of success.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Drop   bool // breaks the connection off instead
}

// Then makes the service give these answers to the next requests that it has
// nothing against; the ones after them succeed.
func (s *Service) Then(answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, answers...)
}

// Hold makes requests wait until release is called. The channel is closed when
// the first has arrived.
func (s *Service) Hold() (arrived <-chan struct{}, release func()) {
	h := &hold{arrived: make(chan struct{}), released: make(chan struct{})}
	h.arrive = sync.OnceFunc(func() { close(h.arrived) })
	s.mu.Lock()
	s.hold = h
	s.mu.Unlock()
	return h.arrived, sync.OnceFunc(func() {
		s.mu.Lock()
		s.hold = nil
		s.mu.Unlock()
		close(h.released)
	})
}

// hold is where requests wait.
type hold struct {
	arrive            func() // closes arrived, once
	arrived, released chan struct{}
}

// Requests returns those so far, in the order in which they were answered.
func (s *Service) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Connections returns how many connections requests have come by.
func (s *Service) Connections() int {
	peers := map[string]bool{}
	for _, r := range s.Requests() {
		peers[r.Peer] = true
	}
	return len(peers)
}

// Certificate returns one that the service accepts from clients, with its key,
// in PEM.
func (s *Service) Certificate(t testing.TB) []byte {
	_, data := s.ca.issue(t)
	return data
}

// Authority returns the certificate of the service's authority, in PEM: for a
// process of its own, to which Roots cannot be given.
func (s *Service) Authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.certificate.Raw})
}

// check returns nil for a request that the service has nothing against, or the
// answer; body is what it read.
type check func(r *http.Request, body *[]byte) *Answer

// scripted reports whether the test has an answer ready.
func (s *Service) scripted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.script) > 0
}

// start starts a service; success is its answer if all is well. If it is wary it
// takes no second request by a connection before the first is answered.
func start(t testing.TB, ca *authority, wary bool, verify check, success Answer) *Service {
	t.Helper()
	s := &Service{ca: ca, wary: wary, answered: map[string]bool{}}
	certificate, _ := s.ca.issue(t)
	s.Roots = s.ca.pool()
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, verify, success)
	}))
	s.server.EnableHTTP2 = true
	s.server.TLS = &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    s.Roots,
		ClientAuth:   tls.VerifyClientCertIfGiven,
		MinVersion:   tls.VersionTLS12,
	}
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are part of the tests
	s.server.StartTLS()
	s.URL = s.server.URL
	t.Cleanup(s.server.Close)
	return s
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, verify check, success Answer) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	answer := verify(r, &body)
	s.mu.Lock()
	answered, known := s.answered[r.RemoteAddr]
	if s.wary && known && !answered {
		s.mu.Unlock()
		panic(http.ErrAbortHandler) // resets the stream
	}
	s.answered[r.RemoteAddr] = answered
	hold := s.hold
	if answer == nil && len(s.script) > 0 {
		answer, s.script = &s.script[0], s.script[1:]
	}
	if answer == nil {
		answer = &success
	}
	s.requests = append(s.requests, Request{Peer: r.RemoteAddr, Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Status: answer.Status})
	s.mu.Unlock()
	if hold != nil {
		hold.arrive()
		select {
		case <-hold.released:
		case <-r.Context().Done():
			return
		}
	}
	if answer.Drop {
		s.server.CloseClientConnections()
		return
	}
	s.mu.Lock()
	s.answered[r.RemoteAddr] = true
	s.mu.Unlock()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Status)
	_, _ = io.WriteString(w, answer.Body)
}

// authority is a certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := template("authority of a test")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a *authority) issue(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key := newKey(t)
	template := template("127.0.0.1")
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.DNSNames = []string{"localhost"}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), KeyPEM(t, key)...)
	certificate, err := tls.X509KeyPair(data, data)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, data
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// KeyPEM returns a private key in PKCS #8, in PEM.
func KeyPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
