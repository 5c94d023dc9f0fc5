package auth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

func newGuests(t testing.TB, key []byte, now func() time.Time) *Guests {
	t.Helper()
	g, err := NewGuests(key, time.Hour, 20, now)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func issueGuest(t testing.TB, g *Guests, only envelope.SessionID) (string, Verified) {
	t.Helper()
	key, who, err := g.Issue(only)
	if err != nil {
		t.Fatal(err)
	}
	return key, who
}

// takingGuests is a verifier of an app's keys, with all that it can ask of
// them, and of guests' keys.
func takingGuests(t testing.TB, c *clock) (*Verifier, *Guests) {
	t.Helper()
	g := newGuests(t, meshKey, c.now)
	return newVerifier(t, Config{
		Keys: []KeySource{{Secret: secretA}}, Issuers: []string{"app"}, Audiences: []string{"allspark"}, Guests: g, Now: c.now,
	}), g
}

func TestGuest(t *testing.T) {
	c := newClock()
	v, _ := takingGuests(t, c)
	for _, only := range []envelope.SessionID{"", "room"} {
		key, made := issueGuest(t, newGuests(t, meshKey, c.now), only) // at another server
		got, err := v.Verify(t.Context(), key)
		if err != nil || got.Principal != made.Principal || !got.Expires.Equal(made.Expires) || !got.Issued.Equal(made.Issued) || got.JTI != made.JTI {
			t.Errorf("got %+v, want %+v, %v", got, made, err)
		}
		want := envelope.Principal{Node: got.Node, Client: envelope.ClientID(got.Node), Guest: true, Only: only}
		if got.Principal != want || !isGuest(string(got.Node)) {
			t.Errorf("got %+v", got)
		}
		if !got.Expires.Equal(start.Add(time.Hour)) || !got.Issued.Equal(start) || got.JTI == "" {
			t.Errorf("got %+v", got)
		}
	}
	_, one := issueGuest(t, newGuests(t, meshKey, c.now), "")
	_, other := issueGuest(t, newGuests(t, meshKey, c.now), "")
	if one.Node == other.Node {
		t.Errorf("two guests are %s", one.Node)
	}
	if err := verify(v, mint(t, MintKey{Secret: secretA})); err == nil {
		t.Error("an auth key without the issuer that is asked for passes where guests do")
	}
}

// A validation token says of a guest what its auth key says.
func TestGuestConnects(t *testing.T) {
	c := newClock()
	_, who := issueGuest(t, newGuests(t, meshKey, c.now), "room")
	tickets := newTickets(t, meshKey, c.now)
	token, _, err := tickets.Issue("s1", "b1", who)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tickets.Redeem(token, "s1", "b1")
	if err != nil || got.Principal != who.Principal || !got.Expires.Equal(who.Expires) || got.JTI != who.JTI {
		t.Errorf("got %+v, want %+v, %v", got, who, err)
	}
}

func TestGuestsArePaced(t *testing.T) {
	c := newClock()
	g := newGuests(t, meshKey, c.now)
	for range 100 {
		issueGuest(t, g, "")
	}
	refused := func() int64 {
		t.Helper()
		key, who, err := g.Issue("")
		if key != "" || who != (Verified{}) || envelope.CodeOf(err) != envelope.RateLimited {
			t.Fatalf("got %+v, %v", who, err)
		}
		return envelope.AsError(err).RetryMS
	}
	if ms := refused(); ms != 50 {
		t.Errorf("again after %d ms", ms)
	}
	c.add(30 * time.Millisecond)
	if ms := refused(); ms != 20 {
		t.Errorf("again after %d ms", ms)
	}
	c.add(20 * time.Millisecond)
	issueGuest(t, g, "")
	refused()
	c.add(time.Hour)
	for range 100 {
		issueGuest(t, g, "")
	}
	refused()
	if _, _, err := newGuests(t, meshKey, c.now).Issue("no id"); envelope.CodeOf(err) != envelope.BadRequest {
		t.Errorf("a guest of what is no session: %v", err)
	}
}

func TestNewGuests(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  []byte
		ttl  time.Duration
		rate int
	}{
		{"short key", meshKey[1:], time.Hour, 1},
		{"no time", meshKey, 0, 1},
		{"no rate", meshKey, time.Hour, 0},
	} {
		if _, err := NewGuests(tt.key, tt.ttl, tt.rate, nil); err == nil {
			t.Errorf("%s: taken", tt.name)
		}
	}
}

func TestAttacksOnGuestKeys(t *testing.T) {
	c := newClock()
	v, g := takingGuests(t, c)
	key, who := issueGuest(t, g, "")
	parts := strings.Split(key, ".")
	header, claims := decode(t, parts[0]), decode(t, parts[1])
	foreign, _ := issueGuest(t, newGuests(t, []byte("another mesh key"), c.now), "")
	tickets := newTickets(t, meshKey, c.now)
	ticket, _, err := tickets.Issue("s1", "b1", who)
	if err != nil {
		t.Fatal(err)
	}
	ticketKey, err := hkdf.Key(sha256.New, meshKey, nil, ticketInfo, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	guest := func(old, new string) string {
		t.Helper()
		changed := strings.Replace(claims, old, new, 1)
		if changed == claims {
			t.Fatalf("%s is not in %s", old, claims)
		}
		return signRaw(g.key, header, changed)
	}
	ofApp := func(changes map[string]any) string {
		return sign(t, jwt.SigningMethodHS256, secretA, nil, with(changes))
	}

	for _, tt := range []struct {
		name, token string
		after       time.Duration
		detail      string
	}{
		{name: "forged: another mesh", token: foreign},
		{name: "forged: the app's secret", token: signRaw(secretA, header, claims)},
		{name: "forged: the mesh key itself", token: signRaw(meshKey, header, claims)},
		{name: "forged: the key of validation tokens", token: signRaw(ticketKey, header, claims)},
		{name: "forged: other claims", token: parts[0] + "." + encode([]byte(strings.Replace(claims, "guest-", "guest-x", 1))) + "." + parts[2]},
		{name: "no signature", token: parts[0] + "." + parts[1] + "."},
		{name: "signature spelled otherwise", token: key[:len(key)-1] + respell(key[len(key)-1])},
		{name: "alg none", token: sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"typ": guestType}, with(nil))},
		{name: "expired", token: key, after: time.Hour + Leeway, detail: expired},
		{name: "made by a clock far ahead", token: key, after: -Leeway - time.Second},
		{name: "wrong audience", token: guest(`["allspark-guest"]`, `["allspark"]`)},
		{name: "no audience", token: guest(`"aud":["allspark-guest"],`, ``)},
		{name: "no expiry", token: guest(`"exp":`, `"ex":`)},
		{name: "no time of issue", token: guest(`"iat":`, `"it":`)},
		{name: "the id of a user", token: guest(`"sub":"guest-`, `"sub":"`)},
		{name: "an id that says otherwise when it ends", token: guest(`"sub":"guest-`, `"sub":"guest-1`)},
		{name: "no id", token: guest(`"sub":"guest-`, `"sub":"guest- `)},
		{name: "not a session", token: guest(`"sub":`, `"only":"a b","sub":`)},
		{name: "header with a key", token: signRaw(g.key, `{"alg":"HS256","jwk":{},"typ":"`+guestType+`"}`, claims)},
		{name: "type of an auth key", token: signRaw(g.key, `{"alg":"HS256","typ":"JWT"}`, claims)},
		{name: "type of a guest key on one of the app", token: signRaw(secretA, `{"typ":"`+guestType+`","alg":"HS256"}`, `{}`)},
		{name: "validation token", token: ticket},
		{name: "app key with a guest's sub", token: ofApp(map[string]any{"sub": string(who.Client)})},
		{name: "app key with a guest's nid", token: ofApp(map[string]any{"nid": string(who.Node)})},
		{name: "app key with a guest's id for both", token: ofApp(map[string]any{"sub": "guest-1", "nid": "guest-1", "app": true})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.detail == "" {
				tt.detail = notValid
			}
			c.add(tt.after)
			defer c.add(-tt.after)
			wantRefused(t, verify(v, tt.token), tt.token, tt.detail)
		})
	}

	if err := verify(v, key); err != nil {
		t.Errorf("the key that the others are made of: %v", err)
	}
	if err := verify(v, signRaw(g.key, header, claims)); err != nil {
		t.Errorf("the same, signed here: %v", err)
	}
	if err := verify(v, ofApp(map[string]any{"sub": "guest", "nid": "Guest-1"})); err != nil {
		t.Errorf("ids that are no guest's: %v", err)
	}
	got, err := v.Verify(t.Context(), guest(`"sub":`, `"app":true,"guest":false,"nid":"alice","sub":`))
	if err != nil || got.Principal != who.Principal {
		t.Errorf("a guest key that claims more is %+v, %v", got.Principal, err)
	}
}

// A guest key is nothing where guests are not taken, even under a key of the
// app, and nowhere a validation token.
func TestNoGuests(t *testing.T) {
	c := newClock()
	g := newGuests(t, meshKey, c.now)
	key, _ := issueGuest(t, g, "")
	parts := strings.Split(key, ".")
	without := newVerifier(t, Config{Keys: []KeySource{{Secret: secretA}, {Secret: g.key}}, Now: c.now})
	wantRefused(t, verify(without, key), key, notValid)
	if err := verify(without, sign(t, jwt.SigningMethodHS256, secretA, nil, with(map[string]any{"sub": "guest-1"}))); err != nil {
		t.Errorf("an app's key, where there are no guests: %v", err)
	}
	tickets := newTickets(t, meshKey, c.now)
	for name, token := range map[string]string{
		"a guest key": key,
		"signed with the key of validation tokens": signRaw(tickets.seal.key, decode(t, parts[0]), decode(t, parts[1])),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tickets.Redeem(token, "s1", "b1")
			wantRefused(t, err, token, notValid)
		})
	}
}

// FuzzGuestClaims signs what it is given, to get behind the signature.
func FuzzGuestClaims(f *testing.F) {
	c := newClock()
	v, g := takingGuests(f, c)
	header := `{"alg":"HS256","typ":"` + guestType + `"}`
	id := envelope.GuestID(time.Unix(9999999999, 0), "x")
	f.Add(`{"aud":["allspark-guest"],"sub":"` + id + `","iat":1,"exp":9999999999,"only":"room"}`)
	f.Add(`{"aud":"allspark-guest","sub":"` + id + `","iat":1e9,"exp":1e10,"app":true}`)
	f.Fuzz(func(t *testing.T, claims string) {
		who, err := v.Verify(t.Context(), signRaw(g.key, header, claims))
		checkOutcome(t, who, err)
		if err == nil && (!who.Guest || who.App || !isGuest(string(who.Node)) || string(who.Node) != string(who.Client)) {
			t.Fatalf("accepted %+v", who)
		}
	})
}
