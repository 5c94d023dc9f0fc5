package auth

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

var meshKey = []byte("0123456789abcdef")

func newTickets(t testing.TB, key []byte, now func() time.Time) *Tickets {
	t.Helper()
	k, err := NewTickets(key, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func alice() Verified {
	return Verified{
		Principal: envelope.Principal{Node: "alice-phone", Client: "alice", App: true, Rights: &envelope.Rights{Send: []string{"session:*"}, Join: []string{}}},
		Expires:   start.Add(time.Hour), Issued: start.Add(-time.Hour), JTI: "j1", Issuer: "app",
	}
}

func issue(t testing.TB, k *Tickets) string {
	t.Helper()
	token, _, err := k.Issue("s1", "b1", alice())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTicketFromAnotherServer(t *testing.T) {
	c := newClock()
	here, there := newTickets(t, meshKey, c.now), newTickets(t, meshKey, c.now)
	token, expires, err := there.Issue("s1", "b1", alice())
	if err != nil || !expires.Equal(start.Add(TicketLifetime)) {
		t.Fatal(expires, err)
	}
	c.add(TicketLifetime - time.Nanosecond)
	got, err := here.Redeem(token, "s1", "b1")
	if err != nil {
		t.Fatal(err)
	}
	want := alice()
	if !got.Same(want.Principal) || !got.Rights.Equal(want.Rights) || got.JTI != want.JTI || got.Issuer != want.Issuer || !got.Expires.Equal(want.Expires) || !got.Issued.Equal(want.Issued) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAttacksOnTickets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		detail string
		redeem func(t *testing.T, k *Tickets, c *clock) (token string, err error)
	}{
		{name: "5 expired", detail: expired, redeem: func(t *testing.T, k *Tickets, c *clock) (string, error) {
			token := issue(t, k)
			c.add(TicketLifetime)
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "5 auth key expired meanwhile", detail: expired, redeem: func(t *testing.T, k *Tickets, c *clock) (string, error) {
			c.add(time.Hour)
			token := issue(t, k)
			c.add(Leeway)
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "5 issued for an expired auth key", detail: expired, redeem: func(_ *testing.T, k *Tickets, c *clock) (string, error) {
			c.add(time.Hour + Leeway)
			return k.issueOnly()
		}},
		{name: "11 used twice", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := issue(t, k)
			if _, err := k.Redeem(token, "s1", "b1"); err != nil {
				t.Fatal(err)
			}
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "11 used twice, the clock set back", detail: expired, redeem: func(t *testing.T, k *Tickets, c *clock) (string, error) {
			token := issue(t, k)
			if _, err := k.Redeem(token, "s1", "b1"); err != nil {
				t.Fatal(err)
			}
			c.add(time.Hour / 2)
			if _, err := k.Redeem(issue(t, k), "s1", "b1"); err != nil {
				t.Fatal(err)
			}
			c.add(-time.Hour / 2)
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "11 spelled otherwise", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := issue(t, k)
			_, err := k.Redeem(token[:len(token)-1]+respell(token[len(token)-1]), "s1", "b1")
			return token, err
		}},
		{name: "12 another server", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := issue(t, k)
			_, err := k.Redeem(token, "s2", "b1")
			return token, err
		}},
		{name: "12 another boot", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := issue(t, k)
			_, err := k.Redeem(token, "s1", "b2")
			return token, err
		}},
		{name: "13 another device", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := issue(t, k)
			parts := strings.Split(token, ".")
			forged := strings.Replace(decode(t, parts[1]), "alice-phone", "carol-phone", 1)
			token = parts[0] + "." + encode([]byte(forged)) + "." + parts[2]
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "14 auth key", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := mint(t, MintKey{Secret: secretA})
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "14 auth key under the same key", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := mint(t, MintKey{Secret: k.seal.key})
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "14 right claims under another type", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			parts := strings.Split(issue(t, k), ".")
			token := signRaw(k.seal.key, `{"alg":"HS256","typ":"JWT"}`, decode(t, parts[1]))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "14 mesh key itself", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			parts := strings.Split(issue(t, k), ".")
			token := signRaw(meshKey, decode(t, parts[0]), decode(t, parts[1]))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "17 another mesh", detail: notValid, redeem: func(t *testing.T, k *Tickets, c *clock) (string, error) {
			token := issue(t, newTickets(t, []byte("another mesh key"), c.now))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "1 alg none", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			token := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"typ": ticketType}, with(nil))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "10 dots", detail: notValid, redeem: func(_ *testing.T, k *Tickets, _ *clock) (string, error) {
			_, err := k.Redeem(strings.Repeat(".", 8000), "s1", "b1")
			return "", err
		}},
		{name: "issuer's clock far ahead", detail: notValid, redeem: func(t *testing.T, k *Tickets, c *clock) (string, error) {
			token := issue(t, newTickets(t, meshKey, func() time.Time { return c.now().Add(Leeway + time.Second) }))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
		{name: "jti of the wrong length", detail: notValid, redeem: func(t *testing.T, k *Tickets, _ *clock) (string, error) {
			parts := strings.Split(issue(t, k), ".")
			token := signRaw(k.seal.key, decode(t, parts[0]), strings.Replace(decode(t, parts[1]), `"jti":"`, `"jti":"AAAA`, 1))
			_, err := k.Redeem(token, "s1", "b1")
			return token, err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			token, err := tt.redeem(t, newTickets(t, meshKey, c.now), c)
			wantRefused(t, err, token, tt.detail)
		})
	}
}

func TestErrorsDoNotQuoteClaims(t *testing.T) {
	token := signRaw(secretB, `{"alg":"HS256"}`, `{"sub":"a","exp":"canary"}`)
	_, err := newTickets(t, meshKey, newClock().now).Redeem(token, "s1", "b1")
	wantRefused(t, err, token, notValid)
	if strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}

func (t *Tickets) issueOnly() (string, error) {
	token, _, err := t.Issue("s1", "b1", alice())
	return token, err
}

func TestTicketRefusedElsewhereIsNotUsedUp(t *testing.T) {
	k := newTickets(t, meshKey, newClock().now)
	token := issue(t, k)
	for _, at := range []envelope.ServerID{"s2", "s3"} {
		if _, err := k.Redeem(token, at, "b1"); err == nil {
			t.Fatalf("redeemed at %s", at)
		}
	}
	if _, err := k.Redeem(token, "s1", "b1"); err != nil {
		t.Error(err)
	}
}

func TestTicketMemoryIsBounded(t *testing.T) {
	c := newClock()
	k := newTickets(t, meshKey, c.now)
	k.max = 3
	for range k.max {
		if _, err := k.Redeem(issue(t, k), "s1", "b1"); err != nil {
			t.Fatal(err)
		}
	}
	token := issue(t, k)
	if _, err := k.Redeem(token, "s1", "b1"); envelope.CodeOf(err) != envelope.Busy {
		t.Fatalf("got %v, want busy", err)
	}
	c.add(2 * TicketLifetime)
	if _, err := k.Redeem(issue(t, k), "s1", "b1"); err != nil {
		t.Fatal(err)
	}
	if k.count != 1 || len(k.used) != 1 {
		t.Errorf("%d remembered in %d minutes, want 1 in 1", k.count, len(k.used))
	}
}

func TestTicketUsedOnceUnderRace(t *testing.T) {
	k := newTickets(t, meshKey, newClock().now)
	for range 20 {
		token := issue(t, k)
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := k.Redeem(token, "s1", "b1"); err == nil {
					admitted.Add(1)
				}
			})
		}
		wg.Wait()
		if n := admitted.Load(); n != 1 {
			t.Fatalf("admitted %d times", n)
		}
	}
}

func TestIssueRefusesTheIncomplete(t *testing.T) {
	k := newTickets(t, meshKey, newClock().now)
	for i, edit := range []func(server *envelope.ServerID, boot *string, who *Verified){
		func(s *envelope.ServerID, _ *string, _ *Verified) { *s = "" },
		func(_ *envelope.ServerID, b *string, _ *Verified) { *b = "" },
		func(_ *envelope.ServerID, _ *string, w *Verified) { w.Client = "" },
		func(_ *envelope.ServerID, _ *string, w *Verified) { w.Node = "a b" },
		func(_ *envelope.ServerID, _ *string, w *Verified) { w.Expires = time.Time{} },
	} {
		server, boot, who := envelope.ServerID("s1"), "b1", alice()
		edit(&server, &boot, &who)
		if _, _, err := k.Issue(server, boot, who); envelope.CodeOf(err) != envelope.Internal {
			t.Errorf("case %d: %v", i, err)
		}
	}
	if _, err := NewTickets(meshKey[1:], nil); err == nil {
		t.Error("a short mesh key is accepted")
	}
}

func decode(t testing.TB, part string) string {
	t.Helper()
	b, err := jwt.NewParser().DecodeSegment(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func FuzzRedeem(f *testing.F) {
	k := newTickets(f, meshKey, func() time.Time { return start })
	header := fmt.Sprintf(`{"alg":"HS256","typ":%q}`, ticketType)
	f.Add("a.b.c", header, fmt.Sprintf(`{"aud":["s1"],"boot":"b1","sub":"a","nid":"b","exp":%d,"jti":"AAAAAAAAAAAAAAAAAAAAAA","key_exp":9999999999}`, start.Unix()+60))
	f.Add("..", header, `{"aud":"s1","exp":1e10}`)
	f.Fuzz(func(t *testing.T, token, header, claims string) {
		for _, token := range []string{token, signRaw(k.seal.key, header, claims)} {
			who, err := k.Redeem(token, "s1", "b1")
			if envelope.CodeOf(err) == envelope.Busy {
				continue // the fuzzer found very many
			}
			checkOutcome(t, who, err)
			if _, again := k.Redeem(token, "s1", "b1"); again == nil {
				t.Fatal("redeemed twice")
			}
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	k, who := newTickets(b, meshKey, nil), alice()
	who.Expires = time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.Issue("s1", "b1", who); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRedeem(b *testing.B) {
	k := newTickets(b, meshKey, func() time.Time { return start })
	token := issue(b, k)
	b.ReportAllocs()
	for b.Loop() {
		clear(k.used) // so that the same one may be redeemed again
		if _, err := k.Redeem(token, "s1", "b1"); err != nil {
			b.Fatal(err)
		}
		k.count = 0
	}
}

// Any library for JWTs reads a validation token: its form is no secret of ours.
func TestTicketIsAJWT(t *testing.T) {
	k := newTickets(t, meshKey, newClock().now)
	var c jwt.MapClaims
	j, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(issue(t, k), &c, func(*jwt.Token) (any, error) { return k.seal.key, nil })
	if err != nil || j.Method != jwt.SigningMethodHS256 || j.Header["typ"] != ticketType || c["sub"] != "alice" {
		t.Errorf("header %v, claims %v, %v", j.Header, c, err)
	}
}
