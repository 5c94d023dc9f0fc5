package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

// issuer is a server that publishes a JWK set.
type issuer struct {
	*httptest.Server
	set   atomic.Pointer[[]byte] // nil: 503
	asked atomic.Int64
}

func newIssuer(t *testing.T, set []byte) *issuer {
	i := &issuer{}
	i.set.Store(&set)
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		set := i.set.Load()
		if set == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write(*set)
	}))
	t.Cleanup(i.Close)
	return i
}

func TestRotationByURLWhileRunning(t *testing.T) {
	p1, p2, p3 := newPair(t, "p256"), newPair(t, "ed25519"), newPair(t, "rsa")
	web := newIssuer(t, jwks(t, p1.jwk("1")))
	c := newClock()
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSURL: web.URL}}, HTTPClient: web.Client(), Now: c.now})
	t1, t2, t3 := mint(t, MintKey{ID: "1", PEM: p1.pem}), mint(t, MintKey{ID: "2", PEM: p2.pem}), mint(t, MintKey{ID: "3", PEM: p3.pem})
	if err := verify(v, t1); err != nil {
		t.Fatal(err)
	}

	set := jwks(t, p1.jwk("1"), p2.jwk("2"))
	web.set.Store(&set)
	wantRefused(t, verify(v, t2), t2, notValid) // so soon after the first fetch
	c.add(minRefresh)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := verify(v, t2); err != nil {
				t.Errorf("current key: %v", err)
			}
		})
	}
	wg.Wait()
	if err := verify(v, t1); err != nil {
		t.Errorf("previous key: %v", err)
	}
	if n := web.asked.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}

	for range 100 { // names that nobody knows cost one fetch
		wantRefused(t, verify(v, t3), t3, notValid)
	}
	if n := web.asked.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	c.add(minRefresh)
	secret := mint(t, MintKey{ID: "3", Secret: secretA})
	wantRefused(t, verify(v, secret), secret, notValid)
	if n := web.asked.Load(); n != 2 {
		t.Errorf("an HMAC token made us fetch")
	}

	set = jwks(t, p2.jwk("2"), p3.jwk("3"))
	web.set.Store(&set)
	if err := verify(v, t3); err != nil {
		t.Error(err)
	}
	wantRefused(t, verify(v, t1), t1, notValid) // withdrawn
}

// Each of several issuers changes its keys for itself, under names that others
// use too, and is away for itself.
func TestSeveralIssuers(t *testing.T) {
	p1, p2, next := newPair(t, "p256"), newPair(t, "ed25519"), newPair(t, "p256")
	first, second := newIssuer(t, jwks(t, p1.jwk("k"))), newIssuer(t, jwks(t, p2.jwk("k")))
	c := newClock()
	v := newVerifier(t, Config{
		Keys: []KeySource{{JWKSURL: first.URL}, {JWKSURL: second.URL}}, HTTPClient: first.Client(), Now: c.now,
	})
	t1, t2, t3 := mint(t, MintKey{ID: "k", PEM: p1.pem}), mint(t, MintKey{ID: "k", PEM: p2.pem}), mint(t, MintKey{ID: "next", PEM: next.pem})
	for name, token := range map[string]string{"first": t1, "second": t2} {
		if err := verify(v, token); err != nil {
			t.Errorf("the %s issuer's: %v", name, err)
		}
	}
	first.set.Store(nil)
	set := jwks(t, next.jwk("next"))
	second.set.Store(&set)
	c.add(minRefresh)
	if err := verify(v, t3); err != nil {
		t.Errorf("the second's next key while the first is away: %v", err)
	}
	wantRefused(t, verify(v, t2), t2, notValid) // withdrawn, though the first has one by that name
	if err := verify(v, t1); err != nil {
		t.Errorf("the first's while it is away: %v", err)
	}
}

// An issuer signs for itself only, also by the name of another's key.
func TestIssuerSignsForItself(t *testing.T) {
	p1, p2, p3 := newPair(t, "p256"), newPair(t, "p256"), newPair(t, "p256")
	first, second := newIssuer(t, jwks(t, p1.jwk("k"))), newIssuer(t, jwks(t, p2.jwk("l")))
	c := newClock()
	v := newVerifier(t, Config{
		Keys:       []KeySource{{JWKSURL: first.URL, Issuer: "first"}, {JWKSURL: second.URL, Issuer: "second"}, {ID: "k", Secret: Secret(secretA), Issuer: "third"}},
		HTTPClient: first.Client(), Now: c.now,
	})
	by := func(k MintKey, iss string) string {
		t.Helper()
		token, err := Mint(k, Claims{Client: "alice", Issuer: iss, Issued: start, Expires: start.Add(48 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	k1, k2, k3 := MintKey{ID: "k", PEM: p1.pem}, MintKey{ID: "l", PEM: p2.pem}, MintKey{ID: "k", Secret: Secret(secretA)}
	for _, token := range []string{by(k1, "first"), by(k2, "second"), by(k3, "third")} {
		if err := verify(v, token); err != nil {
			t.Error(err)
		}
	}
	for _, token := range []string{by(k1, "second"), by(k2, "first"), by(k1, ""), by(k3, "first"), by(k1, "third")} {
		wantRefused(t, verify(v, token), token, notValid)
	}
	set := jwks(t, p3.jwk("k")) // the second one takes a name that the first has
	second.set.Store(&set)
	c.add(minRefresh)
	if err := verify(v, by(MintKey{ID: "k", PEM: p3.pem}, "second")); err != nil {
		t.Error(err)
	}
	stolen := by(MintKey{ID: "k", PEM: p3.pem}, "first")
	wantRefused(t, verify(v, stolen), stolen, notValid)
}

func TestStaleKeysWhileTheIssuerIsAway(t *testing.T) {
	p1, p2 := newPair(t, "p256"), newPair(t, "p256")
	web := newIssuer(t, jwks(t, p1.jwk("1")))
	c := newClock()
	var log logBuffer
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSURL: web.URL + "/keys?secret=canary"}}, HTTPClient: web.Client(), Now: c.now, Logger: log.logger()})
	known, unknown := mint(t, MintKey{ID: "1", PEM: p1.pem}), mint(t, MintKey{ID: "2", PEM: p2.pem})
	refresh := func() {
		t.Helper()
		if err := v.keys.refresh(t.Context(), t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}

	web.set.Store(nil)
	c.add(maxStale)
	refresh()
	if err := verify(v, known); err != nil {
		t.Errorf("known key: %v", err)
	}
	if err := verify(v, unknown); envelope.CodeOf(err) != envelope.Busy {
		t.Errorf("unknown key while the issuer is away: %v", err)
	}
	if v.keys.pause() != retryEvery {
		t.Error("no hurry while the issuer is away")
	}
	for _, broken := range []string{"", "{", "[]", `{"keys":[]}`, `{"keys":[{"kty":"EC"}]}`, strings.Repeat(" ", maxSetSize+1)} {
		b := []byte(broken)
		web.set.Store(&b)
		refresh()
		if err := verify(v, known); err != nil {
			t.Errorf("after %.20q: %v", broken, err)
		}
	}
	web.set.Store(nil)
	c.add(time.Second)
	refresh()
	if err := verify(v, known); envelope.CodeOf(err) != envelope.Busy {
		t.Errorf("key trusted for more than a day: %v", err)
	}
	set := jwks(t, p1.jwk("1"))
	web.set.Store(&set)
	c.add(minRefresh)
	if err := verify(v, known); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	web.Close()
	refresh()
	if s := log.String(); !strings.Contains(s, web.URL+"/keys") || strings.Contains(s, "canary") {
		t.Errorf("log: %s", s)
	}
}

func TestURLAwayAtTheStart(t *testing.T) {
	p := newPair(t, "p256")
	web := newIssuer(t, jwks(t, p.jwk("1")))
	web.set.Store(nil)
	c := newClock()
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSURL: web.URL}, {ID: "s", Secret: secretA}}, HTTPClient: web.Client(), Now: c.now})
	if err := verify(v, mint(t, MintKey{ID: "s", Secret: secretA})); err != nil {
		t.Errorf("another source: %v", err)
	}
	token := mint(t, MintKey{ID: "1", PEM: p.pem})
	if err := verify(v, token); envelope.CodeOf(err) != envelope.Busy {
		t.Errorf("got %v", err)
	}
	set := jwks(t, p.jwk("1"))
	web.set.Store(&set)
	c.add(minRefresh)
	if err := verify(v, token); err != nil {
		t.Error(err)
	}
}

// Who waits for another's fetch may give up; who fetches does it for all.
func TestContextWhileFetching(t *testing.T) {
	p1, p2 := newPair(t, "p256"), newPair(t, "p256")
	entered, release := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Write(jwks(t, p1.jwk("1")))
			return
		}
		close(entered)
		<-release
		w.Write(jwks(t, p1.jwk("1"), p2.jwk("2")))
	}))
	defer web.Close()
	c := newClock()
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSURL: web.URL}}, Now: c.now})
	c.add(minRefresh)
	token := mint(t, MintKey{ID: "2", PEM: p2.pem})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := v.Verify(ctx, token); err != nil {
			t.Errorf("the one who fetches: %v", err)
		}
	})
	<-entered
	cancel()
	if err := verify(v, mint(t, MintKey{ID: "1", PEM: p1.pem})); err != nil {
		t.Errorf("a known key had to wait: %v", err)
	}
	if _, err := v.Verify(ctx, token); envelope.CodeOf(err) != envelope.Busy || !errors.Is(err, context.Canceled) {
		t.Errorf("the one who waits: %v", err)
	}
	close(release)
	wg.Wait()
}

func TestRedirectIsNotFollowed(t *testing.T) {
	p := newPair(t, "p256")
	target := newIssuer(t, jwks(t, p.jwk("1")))
	web := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
	defer web.Close()
	client := target.Client()
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSURL: web.URL}}, HTTPClient: client})
	if err := verify(v, mint(t, MintKey{ID: "1", PEM: p.pem})); envelope.CodeOf(err) != envelope.Busy {
		t.Errorf("got %v", err)
	}
	if target.asked.Load() != 0 {
		t.Error("the redirect was followed")
	}
	if client.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

// In a bubble, time is virtual: five minutes pass at once.
func TestFilesAreReadAgain(t *testing.T) {
	p1, p2 := newPair(t, "p256"), newPair(t, "rsa")
	set, pemFile := writeFile(t, jwks(t, p1.jwk("1"))), writeFile(t, p1.publicPEM(t))
	synctest.Test(t, func(t *testing.T) {
		claims := Claims{Client: "c", Issued: time.Now(), Expires: time.Now().Add(48 * time.Hour)}
		token := func(id string, p pair) string {
			s, err := Mint(MintKey{ID: id, PEM: p.pem}, claims)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		v, err := NewVerifier(t.Context(), Config{Keys: []KeySource{{JWKSFile: set}, {ID: "pem", PEMFile: pemFile}}})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for path, data := range map[string][]byte{set: jwks(t, p2.jwk("1")), pemFile: p2.publicPEM(t)} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"1", "pem"} {
			if err := verify(v, token(id, p1)); err != nil {
				t.Errorf("before: %v", err)
			}
		}
		time.Sleep(refreshEvery)
		synctest.Wait()
		for _, id := range []string{"1", "pem"} {
			if err := verify(v, token(id, p2)); err != nil {
				t.Errorf("after: %v", err)
			}
			wantRefused(t, verify(v, token(id, p1)), token(id, p1), notValid)
		}
	})
}

func TestKeysOfASetThatAreLeftOut(t *testing.T) {
	ok, enc, narrow, private := newPair(t, "p256"), newPair(t, "rsa"), newPair(t, "rsa"), newPair(t, "ed25519")
	encJWK, narrowJWK := enc.jwk("enc"), narrow.jwk("narrow")
	encJWK.Use, narrowJWK.Algorithm = "enc", "PS256"
	set := jwks(t, ok.jwk("ok"), encJWK, narrowJWK,
		jose.JSONWebKey{Key: secretA, KeyID: "oct"},
		jose.JSONWebKey{Key: private.private, KeyID: "private"})
	set = []byte(strings.Replace(string(set), `{"keys":[`, `{"keys":[{"kty":"LMS","kid":"x"},7,{"kty":"EC","crv":"P-256","kid":"bad","x":"AA","y":"AA"},{"kty":"RSA","kid":"weak","n":"wQ","e":"AQAB"},`, 1))
	var log logBuffer
	v := newVerifier(t, Config{Keys: []KeySource{{JWKSFile: writeFile(t, set)}}, Logger: log.logger()})
	for _, token := range []string{
		mint(t, MintKey{ID: "ok", PEM: ok.pem}),
		sign(t, jwt.SigningMethodPS256, narrow.private, map[string]any{"kid": "narrow"}, with(nil)),
	} {
		if err := verify(v, token); err != nil {
			t.Error(err)
		}
	}
	for _, token := range []string{
		mint(t, MintKey{ID: "enc", PEM: enc.pem}),
		mint(t, MintKey{ID: "narrow", PEM: narrow.pem}), // RS256
		mint(t, MintKey{ID: "oct", Secret: secretA}),
		mint(t, MintKey{ID: "private", PEM: private.pem}),
	} {
		wantRefused(t, verify(v, token), token, notValid)
	}
	if s := log.String(); !strings.Contains(s, "skipped=7") {
		t.Errorf("log: %s", s)
	}
}

func TestConfigRefused(t *testing.T) {
	p, rsaKey := newPair(t, "p256"), newPair(t, "rsa")
	var many []jose.JSONWebKey
	for i := range maxSetKeys + 1 {
		many = append(many, p.jwk(fmt.Sprint(i)))
	}
	for name, c := range map[string]Config{
		"no source":            {},
		"empty source":         {Keys: []KeySource{{ID: "a"}}},
		"two in one":           {Keys: []KeySource{{Secret: secretA, PEMFile: "x"}}},
		"short secret":         {Keys: []KeySource{{Secret: secretA[1:]}}},
		"PEM as a secret":      {Keys: []KeySource{{Secret: rsaKey.publicPEM(t)}}},
		"private PEM":          {Keys: []KeySource{{PEMFile: writeFile(t, p.pem)}}},
		"no PEM":               {Keys: []KeySource{{PEMFile: writeFile(t, secretA)}}},
		"no file":              {Keys: []KeySource{{PEMFile: filepath.Join(t.TempDir(), "none")}}},
		"not a set":            {Keys: []KeySource{{JWKSFile: writeFile(t, secretA)}}},
		"too many keys":        {Keys: []KeySource{{JWKSFile: writeFile(t, jwks(t, many...))}}},
		"id for a set":         {Keys: []KeySource{{ID: "a", JWKSFile: writeFile(t, jwks(t, p.jwk("1")))}}},
		"http":                 {Keys: []KeySource{{JWKSURL: "http://example.com/keys"}}},
		"http like this host":  {Keys: []KeySource{{JWKSURL: "http://localhost.example.com/keys"}}},
		"http address":         {Keys: []KeySource{{JWKSURL: "http://169.254.169.254/keys"}}},
		"file":                 {Keys: []KeySource{{JWKSURL: "file:///etc/passwd"}}},
		"password in URL":      {Keys: []KeySource{{JWKSURL: "https://u:p@example.com/keys"}}},
		"no host":              {Keys: []KeySource{{JWKSURL: "https:///keys"}}},
		"empty issuer":         {Keys: []KeySource{{Secret: secretA}}, Issuers: []string{""}},
		"empty audience":       {Keys: []KeySource{{Secret: secretA}}, Audiences: []string{"a", ""}},
		"unparsable URL":       {Keys: []KeySource{{JWKSURL: "https://example.com/%zz"}}},
		"good and bad sources": {Keys: []KeySource{{Secret: secretA}, {PEMFile: writeFile(t, nil)}}},
	} {
		if v, err := NewVerifier(t.Context(), c); err == nil {
			v.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewVerifier(ctx, Config{Keys: []KeySource{{JWKSURL: "https://127.0.0.1:1/keys"}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
