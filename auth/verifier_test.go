package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

func TestVerify(t *testing.T) {
	v := newVerifier(t, Config{
		Keys:    []KeySource{{ID: "a", Secret: secretA}},
		Issuers: []string{"other", "app"}, Audiences: []string{"allspark", "spare"},
	})
	alice := Verified{
		Principal: envelope.Principal{Node: "alice-phone", Client: "alice"},
		Expires:   start.Add(time.Hour), Issued: start, JTI: "j1", Issuer: "app",
	}
	changed := func(f func(*Verified)) Verified { w := alice; f(&w); return w }
	unix := func(d time.Duration) int64 { return start.Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		header map[string]any
		claims map[string]any
		want   Verified
	}{
		{name: "all claims", want: alice},
		{name: "node is the client", claims: map[string]any{"nid": nil}, want: changed(func(v *Verified) { v.Node = "alice" })},
		{name: "app", claims: map[string]any{"app": true}, want: changed(func(v *Verified) { v.App = true })},
		{name: "app in another case", claims: map[string]any{"APP": true, "ſub": "eve", "SUB": "eve", "Nid": "eve"}, want: alice},
		{name: "several audiences", claims: map[string]any{"aud": []string{"x", "spare"}}, want: alice},
		{name: "no jti, no iat", claims: map[string]any{"jti": nil, "iat": nil}, want: changed(func(v *Verified) { v.JTI, v.Issued = "", time.Time{} })},
		{name: "expired within leeway", claims: map[string]any{"exp": unix(-29 * time.Second)}, want: changed(func(v *Verified) { v.Expires = start.Add(-29 * time.Second) })},
		{name: "begins within leeway", claims: map[string]any{"nbf": unix(30 * time.Second)}, want: alice},
		{name: "fraction of a second", claims: map[string]any{"exp": float64(unix(time.Hour)) + 0.5}, want: alice},
		{
			name: "rights", claims: map[string]any{"rights": map[string]any{"send": []string{"session:*"}, "join": []string{}, "rate": 5}},
			want: changed(func(v *Verified) { v.Rights = &envelope.Rights{Send: []string{"session:*"}, Join: []string{}, Rate: 5} }),
		},
		{name: "access token type", header: map[string]any{"typ": "application/at+JWT"}, want: alice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := map[string]any{"kid": "a"}
			for k, v := range tt.header {
				header[k] = v
			}
			got, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, secretA, header, with(tt.claims)))
			if err != nil {
				t.Fatal(err)
			}
			if !got.Expires.Equal(tt.want.Expires) || !got.Issued.Equal(tt.want.Issued) {
				t.Errorf("times: got %+v, want %+v", got, tt.want)
			}
			got.Expires, got.Issued = tt.want.Expires, tt.want.Issued
			if !got.Same(tt.want.Principal) || !got.Rights.Equal(tt.want.Rights) || got.JTI != tt.want.JTI || got.Issuer != tt.want.Issuer {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Of rights that are not understood nothing is left out: the key is good for nothing.
func TestRightsRefused(t *testing.T) {
	v := newVerifier(t, Config{Keys: []KeySource{{Secret: secretA}}})
	for _, claims := range []string{
		`"rights":null`, `"rights":[]`, `"rights":"all"`, `"rights":{"sent":[]}`, `"rights":{"send":null}`, `"rights":{"send":["*"]}`,
		`"rights":{"send":[]},"rights":{"Send":[]}`, `"rights":{"join":["` + strings.Repeat("a", envelope.MaxRights) + `"]}`,
		`"rights":{},"app":true`, `"app":true,"rights":{"send":[]}`,
	} {
		token := signRaw(secretA, `{"alg":"HS256"}`, `{"sub":"alice","exp":`+strconv.FormatInt(start.Add(time.Hour).Unix(), 10)+`,`+claims+`}`)
		wantRefused(t, verify(v, token), token, notValid)
	}
}

func TestAttacksOnAuthKeys(t *testing.T) {
	rsaKey, ecKey, eve := newPair(t, "rsa"), newPair(t, "p256"), newPair(t, "rsa")
	meshKey := []byte("mesh key of sixteen bytes or more")
	v := newVerifier(t, Config{
		Keys: []KeySource{
			{ID: "a", Secret: secretA},
			{ID: "rsa", PEMFile: writeFile(t, rsaKey.publicPEM(t))},
			{ID: "ec", PEMFile: writeFile(t, ecKey.publicPEM(t))},
			{Secret: secretB},
		},
		Issuers: []string{"app"}, Audiences: []string{"allspark"},
	})
	kid := map[string]any{"kid": "a"}
	hs := func(header, claims map[string]any) string {
		h := map[string]any{"kid": "a"}
		for k, v := range header {
			h[k] = v
		}
		return sign(t, jwt.SigningMethodHS256, secretA, h, with(claims))
	}
	good := hs(nil, nil)
	parts := strings.Split(good, ".")
	unix := func(d time.Duration) int64 { return start.Add(d).Unix() }
	tickets, err := NewTickets(meshKey, func() time.Time { return start })
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := tickets.Issue("s1", "b1", Verified{Principal: envelope.Principal{Node: "n", Client: "c"}, Expires: start.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	ticketKey, err := hkdf.Key(sha256.New, meshKey, nil, ticketInfo, 32)
	if err != nil {
		t.Fatal(err)
	}
	sharing := newVerifier(t, Config{Keys: []KeySource{{Secret: ticketKey}}})
	jwk, err := json.Marshal(eve.jwk("rsa"))
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name, token string
		v           *Verifier
		detail      string
	}{
		{name: "1 alg none", token: sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, with(nil))},
		{name: "1 alg none in a mix of cases", token: signRaw(nil, `{"alg":"nOnE","kid":"a"}`, `{}`)},
		{name: "1 no alg", token: signRaw(secretA, `{"kid":"a"}`, `{}`)},
		{name: "1 alg is a number", token: signRaw(secretA, `{"alg":256,"kid":"a"}`, `{}`)},
		{name: "1 no signature", token: parts[0] + "." + parts[1] + "."},
		{name: "2 public PEM as HMAC secret", token: sign(t, jwt.SigningMethodHS256, rsaKey.publicPEM(t), map[string]any{"kid": "rsa"}, with(nil))},
		{name: "2 RSA token under the secret's id", token: sign(t, jwt.SigningMethodRS256, eve.private, kid, with(nil))},
		{name: "2 RSA token under the EC key's id", token: sign(t, jwt.SigningMethodRS256, rsaKey.private, map[string]any{"kid": "ec"}, with(nil))},
		{name: "2 EC alg that is not the curve's", token: sign(t, jwt.SigningMethodES256, ecKey.private, map[string]any{"kid": "ec", "alg": "ES384"}, with(nil))},
		{name: "3 kid is a path", token: hs(map[string]any{"kid": "../../../../dev/null"}, nil)},
		{name: "3 kid is SQL", token: hs(map[string]any{"kid": "a' OR '1'='1"}, nil)},
		{name: "3 kid is a URL", token: hs(map[string]any{"kid": "https://evil.example/k.json"}, nil)},
		{name: "3 kid is an object", token: hs(map[string]any{"kid": map[string]any{"$ne": ""}}, nil)},
		{name: "3 no kid, key has one", token: sign(t, jwt.SigningMethodHS256, secretA, nil, with(nil))},
		{name: "3 kid, key has none", token: sign(t, jwt.SigningMethodHS256, secretB, kid, with(nil))},
		{name: "4 jku", token: hs(map[string]any{"jku": "https://evil.example/k.json"}, nil)},
		{name: "4 jwk", token: sign(t, jwt.SigningMethodRS256, eve.private, map[string]any{"kid": "rsa", "jwk": json.RawMessage(jwk)}, with(nil))},
		{name: "4 x5u", token: hs(map[string]any{"x5u": "https://evil.example/c.pem"}, nil)},
		{name: "4 x5c", token: hs(map[string]any{"x5c": []string{"MII"}}, nil)},
		{name: "4 crit", token: hs(map[string]any{"crit": []string{"exp"}}, nil)},
		{name: "5 expired", token: hs(nil, map[string]any{"exp": unix(-30 * time.Second)}), detail: expired},
		{name: "5 expired and forged", token: parts[0] + "." + encode([]byte(`{"sub":"alice","exp":1}`)) + "." + parts[2]},
		{name: "6 nbf", token: hs(nil, map[string]any{"nbf": unix(31 * time.Second)})},
		{name: "6 iat", token: hs(nil, map[string]any{"iat": unix(31 * time.Second)})},
		{name: "7 no exp", token: hs(nil, map[string]any{"exp": nil})},
		{name: "7 exp null", token: signRaw(secretA, `{"alg":"HS256","kid":"a"}`, `{"sub":"alice","iss":"app","aud":"allspark","exp":null}`)},
		{name: "7 exp in another case", token: hs(nil, map[string]any{"exp": nil, "EXP": unix(time.Hour)})},
		{name: "7 exp quoted", token: hs(nil, map[string]any{"exp": fmt.Sprint(unix(time.Hour))})},
		{name: "7 exp far too large", token: hs(nil, map[string]any{"exp": 1e300})},
		{name: "7 exp over any float", token: signRaw(secretA, `{"alg":"HS256","kid":"a"}`, `{"sub":"alice","iss":"app","aud":"allspark","exp":1e999}`)},
		{name: "8 aud wrong", token: hs(nil, map[string]any{"aud": "other"})},
		{name: "8 aud missing", token: hs(nil, map[string]any{"aud": nil})},
		{name: "8 aud empty", token: hs(nil, map[string]any{"aud": ""})},
		{name: "8 aud empty array", token: hs(nil, map[string]any{"aud": []string{}})},
		{name: "8 aud array of others", token: hs(nil, map[string]any{"aud": []string{"x", "", "ALLSPARK"}})},
		{name: "8 aud array of arrays", token: hs(nil, map[string]any{"aud": []any{[]string{"allspark"}}})},
		{name: "9 iss wrong", token: hs(nil, map[string]any{"iss": "App"})},
		{name: "9 iss missing", token: hs(nil, map[string]any{"iss": nil})},
		{name: "10 ten thousand dots", token: strings.Repeat(".", 10_000)},
		{name: "10 dots within the size", token: strings.Repeat(".", 8000)},
		{name: "10 four parts", token: good + ".x"},
		{name: "10 two parts", token: parts[0] + "." + parts[1]},
		{name: "10 too large", token: hs(nil, map[string]any{"x": strings.Repeat("x", MaxTokenSize)})},
		{name: "14 validation token", token: ticket},
		{name: "14 validation token under the same key", token: ticket, v: sharing},
		{name: "14 another type of token", token: hs(map[string]any{"typ": "logout+jwt"}, nil)},
		{name: "14 type is a list", token: hs(map[string]any{"typ": []string{"JWT"}}, nil)},
		{name: "17 other secret", token: sign(t, jwt.SigningMethodHS256, secretB, kid, with(nil))},
		{name: "17 other private key", token: sign(t, jwt.SigningMethodRS256, eve.private, map[string]any{"kid": "rsa"}, with(nil))},
		{name: "17 signature of other claims", token: parts[0] + "." + encode([]byte(`{"sub":"eve"}`)) + "." + parts[2]},
		{name: "17 signature with a line break", token: good[:len(good)-1] + "\r\n" + good[len(good)-1:]},
		{name: "17 signature padded", token: good + "="},
		{name: "17 signature spelled otherwise", token: good[:len(good)-1] + respell(good[len(good)-1])},
		{name: "empty", token: ""},
		{name: "claims null", token: signRaw(secretA, `{"alg":"HS256","kid":"a"}`, `null`)},
		{name: "header null", token: signRaw(secretA, `null`, `{}`)},
		{name: "no sub", token: hs(nil, map[string]any{"sub": nil})},
		{name: "sub is not an id", token: hs(nil, map[string]any{"sub": "a b"})},
		{name: "sub is an object", token: hs(nil, map[string]any{"sub": map[string]any{"$ne": nil}})},
		{name: "nid empty", token: hs(nil, map[string]any{"nid": ""})},
		{name: "nid with NUL", token: hs(nil, map[string]any{"nid": "a\x00"})},
		{name: "nid too long", token: hs(nil, map[string]any{"nid": strings.Repeat("a", envelope.MaxIDLen+1)})},
		{name: "app is a string", token: hs(nil, map[string]any{"app": "true"})},
		{name: "jti too long", token: hs(nil, map[string]any{"jti": strings.Repeat("a", maxClaim+1)})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.v == nil {
				tt.v = v
			}
			if tt.detail == "" {
				tt.detail = notValid
			}
			wantRefused(t, verify(tt.v, tt.token), tt.token, tt.detail)
		})
	}
	if err := verify(v, good); err != nil {
		t.Errorf("the token that the others are made of: %v", err)
	}
}

// respell returns a last base64 character that stands for the same bytes:
// a 32-byte signature leaves two of its bits unused.
func respell(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}

func TestRotationWithPreviousKeys(t *testing.T) {
	current, previous := newPair(t, "ed25519"), newPair(t, "p384")
	v := newVerifier(t, Config{Keys: []KeySource{
		{ID: "new", Secret: secretA},
		{ID: "old", Secret: secretB},
		{Secret: secretA},
		{Secret: secretB},
		{ID: "pem", PEMFile: writeFile(t, slices.Concat(current.publicPEM(t), previous.publicPEM(t)))},
	}})
	for _, k := range []MintKey{
		{ID: "new", Secret: secretA},
		{ID: "old", Secret: secretB},
		{Secret: secretA},
		{Secret: secretB},
		{ID: "pem", PEM: current.pem},
		{ID: "pem", PEM: previous.pem},
	} {
		if err := verify(v, mint(t, k)); err != nil {
			t.Errorf("key %q: %v", k.ID, err)
		}
	}
	for _, k := range []MintKey{{ID: "old", Secret: secretA}, {ID: "new", Secret: secretB}} {
		token := mint(t, k)
		wantRefused(t, verify(v, token), token, notValid)
	}
}

func TestEveryAlgorithm(t *testing.T) {
	pairs := map[string]pair{}
	for _, kind := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		pairs[kind] = newPair(t, kind)
	}
	for alg, kind := range map[string]string{
		"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
		"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed25519",
		"HS256": "", "HS384": "", "HS512": "",
	} {
		t.Run(alg, func(t *testing.T) {
			source, private := KeySource{Secret: secretA}, any(secretA)
			if kind != "" {
				source, private = KeySource{PEMFile: writeFile(t, pairs[kind].publicPEM(t))}, pairs[kind].private
			}
			v := newVerifier(t, Config{Keys: []KeySource{source}})
			if err := verify(v, sign(t, jwt.GetSigningMethod(alg), private, nil, with(nil))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMint(t *testing.T) {
	for _, kind := range []string{"rsa", "p256", "p521", "ed25519"} {
		p := newPair(t, kind)
		v := newVerifier(t, Config{Keys: []KeySource{{ID: "k", PEMFile: writeFile(t, p.publicPEM(t))}}, Issuers: []string{"i"}, Audiences: []string{"a"}})
		want := Claims{
			Client: "c", App: true, Issuer: "i", Audience: []string{"a", "b"}, JTI: "j",
			Issued: start, NotBefore: start, Expires: start.Add(time.Minute),
		}
		token, err := Mint(MintKey{ID: "k", PEM: p.pem}, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if got.Client != "c" || got.Node != "c" || !got.App || got.JTI != "j" || got.Issuer != "i" || !got.Expires.Equal(want.Expires) || !got.Issued.Equal(start) {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	good := Claims{Client: "c", Issued: start, Expires: start.Add(time.Minute)}
	for _, tt := range []struct {
		name string
		key  MintKey
		edit func(*Claims)
	}{
		{name: "no key"},
		{name: "two keys", key: MintKey{Secret: secretA, PEM: newPair(t, "p256").pem}},
		{name: "short secret", key: MintKey{Secret: secretA[1:]}},
		{name: "not PEM", key: MintKey{PEM: secretA}},
		{name: "public PEM", key: MintKey{PEM: newPair(t, "p256").publicPEM(t)}},
		{name: "no client", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Client = "" }},
		{name: "bad node", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Node = "a b" }},
		{name: "no expiry", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Expires = time.Time{} }},
		{name: "no issue time", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Issued = time.Time{} }},
		{name: "rights of the app", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.App, c.Rights = true, new(envelope.Rights) }},
		{name: "no such right", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Rights = &envelope.Rights{Send: []string{"*"}} }},
		{name: "long issuer", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Issuer = strings.Repeat("i", maxClaim+1) }},
		{name: "huge", key: MintKey{Secret: secretA}, edit: func(c *Claims) { c.Audience = []string{strings.Repeat("i", MaxTokenSize)} }},
	} {
		c := good
		if tt.edit != nil {
			tt.edit(&c)
		}
		if token, err := Mint(tt.key, c); err == nil {
			t.Errorf("%s: minted %s", tt.name, token)
		}
	}
}

func TestVerifyConcurrently(t *testing.T) {
	p := newPair(t, "p256")
	v := newVerifier(t, Config{Keys: []KeySource{{ID: "s", Secret: secretA}, {JWKSFile: writeFile(t, jwks(t, p.jwk("k")))}}})
	tokens := []string{mint(t, MintKey{ID: "s", Secret: secretA}), mint(t, MintKey{ID: "k", PEM: p.pem})}
	unknown := mint(t, MintKey{ID: "u", PEM: p.pem})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if err := verify(v, tokens[i%2]); err != nil {
					t.Error(err)
				}
				if verify(v, unknown) == nil {
					t.Error("unknown key accepted")
				}
				if err := v.keys.refresh(context.Background(), context.Background(), 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzVerify(f *testing.F) {
	v := newVerifier(f, Config{Keys: []KeySource{{Secret: secretA}}})
	f.Add("a.b.c")
	f.Add("..")
	f.Add(signRaw(secretA, `{"alg":"HS256"}`, `{"sub":"a","exp":9999999999}`))
	f.Fuzz(func(t *testing.T, token string) {
		who, err := v.Verify(context.Background(), token)
		checkOutcome(t, who, err)
	})
}

// FuzzClaims signs what it is given, to get behind the signature.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f, Config{Keys: []KeySource{{ID: "k", Secret: secretA}, {Secret: secretA}}})
	f.Add(`{"alg":"HS256","kid":"k","typ":"JWT"}`, `{"sub":"a","nid":"b","exp":9999999999,"iat":1,"aud":["x"],"app":true}`)
	f.Add(`{"alg":"HS256"}`, `{"sub":"a","exp":1e10,"exp":null}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		who, err := v.Verify(context.Background(), signRaw(secretA, header, claims))
		checkOutcome(t, who, err)
	})
}

func checkOutcome(t *testing.T, who Verified, err error) {
	if err != nil {
		if envelope.CodeOf(err) != envelope.Unauthorized || who != (Verified{}) {
			t.Fatalf("%+v, %v", who, err)
		}
		return
	}
	if !envelope.ValidID(string(who.Node)) || !envelope.ValidID(string(who.Client)) || !who.Expires.Add(Leeway).After(start) {
		t.Fatalf("accepted %+v", who)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"hs256", "ed25519", "p256", "rsa"} {
		b.Run(kind, func(b *testing.B) {
			source, key := KeySource{ID: "k", Secret: secretA}, MintKey{ID: "k", Secret: secretA}
			if kind != "hs256" {
				p := newPair(b, kind)
				source, key = KeySource{ID: "k", PEMFile: writeFile(b, p.publicPEM(b))}, MintKey{ID: "k", PEM: p.pem}
			}
			v, token := newVerifier(b, Config{Keys: []KeySource{source}}), mint(b, key)
			b.ReportAllocs()
			for b.Loop() {
				if err := verify(v, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyDots(b *testing.B) {
	v := newVerifier(b, Config{Keys: []KeySource{{Secret: secretA}}})
	token := strings.Repeat(".", 8000)
	b.ReportAllocs()
	for b.Loop() {
		if verify(v, token) == nil {
			b.Fatal("accepted")
		}
	}
}
