package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

var (
	secretA = []byte("0123456789abcdef0123456789abcdef")
	secretB = []byte("fedcba9876543210fedcba9876543210")
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// logBuffer takes what is logged, from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func newVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	if c.Now == nil {
		c.Now = func() time.Time { return start }
	}
	v, err := NewVerifier(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// pair is a private key and what is published of it.
type pair struct {
	private crypto.Signer
	pem     []byte // private, PKCS #8
}

func newPair(t testing.TB, kind string) pair {
	t.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pair{private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

func (p pair) publicPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(p.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (p pair) jwk(kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: p.private.Public(), KeyID: kid, Use: "sig"}
}

func jwks(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, data []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign makes a token of any header and claims, as an attacker or a strange
// backend would. Members of header replace "alg" and "typ".
func sign(t testing.TB, method jwt.SigningMethod, private any, header, claims map[string]any) string {
	t.Helper()
	j := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	maps.Copy(j.Header, header)
	token, err := j.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// signRaw makes an HS256 token of raw JSON.
func signRaw(secret []byte, header, claims string) string {
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// with returns good claims, changed: a nil value takes one away.
func with(changes map[string]any) map[string]any {
	c := map[string]any{
		"sub": "alice", "nid": "alice-phone", "jti": "j1", "iss": "app", "aud": "allspark",
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func mint(t testing.TB, k MintKey) string {
	t.Helper()
	token, err := Mint(k, Claims{Client: "alice", Node: "alice-phone", Issued: start, Expires: start.Add(48 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wantRefused checks a refusal: its code, that the client learns nothing, and
// that no part of the token is in the error's text.
func wantRefused(t testing.TB, err error, token, detail string) {
	t.Helper()
	e, ok := err.(*envelope.Error)
	if !ok || e.Code != envelope.Unauthorized || e.Detail != detail || e.Cause == nil {
		t.Fatalf("got %#v (%v), want unauthorized: %s", err, err, detail)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 4 && strings.Contains(err.Error(), part) {
			t.Errorf("error quotes the token: %v", err)
		}
	}
}

const (
	notValid = "the credential is not valid"
	expired  = "the credential has expired"
)

func verify(v *Verifier, token string) error {
	_, err := v.Verify(context.Background(), token)
	return err
}
