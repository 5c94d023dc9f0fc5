package auth

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// rowsInMemory is the least that keeps revocations.
type rowsInMemory struct {
	mu   sync.Mutex
	rows map[string]Revocation // guarded by mu
	n    uint64                // guarded by mu
	away error                 // guarded by mu
}

func (s *rowsInMemory) PutRevocation(_ context.Context, r Revocation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return s.away
	}
	r.Cover(s.rows[r.Name()])
	s.rows[r.Name()] = r
	s.n++
	return nil
}

func (s *rowsInMemory) Revocations(_ context.Context, known uint64) (all []Revocation, version uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n+1 == known {
		return nil, known, s.away
	}
	for _, r := range s.rows {
		all = append(all, r)
	}
	return all, s.n + 1, s.away
}

func (s *rowsInMemory) DropRevocations(_ context.Context, before int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, r := range s.rows {
		if r.Expires < before {
			delete(s.rows, name)
		}
	}
	return s.away
}

func TestWhatARevocationMeans(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	before := now.UnixMilli()
	old, fresh := now.Add(-time.Second), now
	ann := envelope.Principal{Client: "ann", Node: "phone"}
	for _, test := range []struct {
		name    string
		row     Revocation
		who     Verified
		revoked bool
	}{
		{"jti", Revocation{JTI: "k"}, Verified{Principal: ann, JTI: "k", Issued: fresh}, true},
		{"another jti", Revocation{JTI: "k"}, Verified{Principal: ann, JTI: "l", Issued: old}, false},
		{"jti of who has none", Revocation{JTI: "k"}, Verified{Principal: ann, Issued: old}, false},
		{"user", Revocation{Client: "ann", Before: before}, Verified{Principal: ann, Issued: old}, true},
		{"user since", Revocation{Client: "ann", Before: before}, Verified{Principal: ann, Issued: fresh}, false},
		{"user, no iat", Revocation{Client: "ann", Before: before}, Verified{Principal: ann}, true},
		{"a device of that name", Revocation{Node: "ann", Before: before}, Verified{Principal: ann, Issued: old}, false},
		{"a jti of that name", Revocation{JTI: "ann"}, Verified{Principal: ann, Issued: old}, false},
		{"device", Revocation{Node: "phone", Before: before}, Verified{Principal: ann, Issued: old}, true},
		{"another device", Revocation{Node: "pad", Before: before}, Verified{Principal: ann, Issued: old}, false},
		{"everybody", Revocation{Before: before}, Verified{Principal: ann, Issued: old, JTI: "k"}, true},
		{"everybody since", Revocation{Before: before}, Verified{Principal: ann, Issued: fresh}, false},
		{"the app", Revocation{Before: before}, Verified{Principal: envelope.Principal{Client: "app", Node: "app", App: true}, Issued: old}, true},
	} {
		r := NewRevocations(&rowsInMemory{rows: map[string]Revocation{}}, time.Hour, func() time.Time { return now })
		if err := r.Check(test.who); err != nil {
			t.Fatal(err)
		}
		got, err := r.Revoke(t.Context(), test.row)
		if err != nil || got.Before != test.row.Before || got.Expires != now.Add(time.Hour+2*Leeway).UnixMilli() {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
		if err := r.Check(test.who); (envelope.CodeOf(err) == envelope.Revoked) != test.revoked {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if err := (*Revocations)(nil).Check(Verified{Principal: ann}); err != nil {
		t.Error(err)
	}
}

func TestRevocationsSpreadByTheStore(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	store := &rowsInMemory{rows: map[string]Revocation{}}
	here, there := NewRevocations(store, time.Hour, clock), NewRevocations(store, time.Hour, clock)
	refresh := func(want bool) {
		t.Helper()
		if news, err := there.Refresh(t.Context()); news != want || err != nil {
			t.Errorf("news %v, %v; want %v", news, err, want)
		}
	}
	refresh(false)
	row, err := here.Revoke(t.Context(), Revocation{JTI: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if !there.Learn(row) || there.Learn(row) { // from a peer
		t.Error("news once")
	}
	refresh(false)
	if _, err := here.Revoke(t.Context(), Revocation{Client: "ann", Before: 5000}); err != nil {
		t.Fatal(err)
	}
	refresh(true)
	refresh(false)
	if _, err := here.Revoke(t.Context(), Revocation{Client: "ann", Before: 4000}); err != nil { // takes nothing back
		t.Fatal(err)
	}
	refresh(false)
	if err := there.Check(Verified{Principal: envelope.Principal{Client: "ann"}, Issued: time.UnixMilli(4500)}); err == nil {
		t.Error("taken back")
	}
	store.away = errors.New("away")
	if _, err := here.Revoke(t.Context(), Revocation{JTI: "l"}); err == nil || here.Check(Verified{JTI: "l"}) != nil {
		t.Errorf("not written, and done: %v", err)
	}
	store.away = nil

	now = now.Add(time.Hour + 2*Leeway + time.Second) // no key lasts so long
	if len(there.All()) != 0 {
		t.Errorf("over, and listed: %+v", there.All())
	}
	if err := here.Drop(t.Context()); err != nil || len(store.rows) != 0 {
		t.Errorf("%v, left %v", err, store.rows)
	}
	if _, err := here.Revoke(t.Context(), Revocation{JTI: "m"}); err != nil {
		t.Fatal(err)
	}
	refresh(true)
	if len(there.rows) != 1 {
		t.Errorf("not forgotten: %+v", there.rows)
	}
}

// A key that outlives the revocations of it would come back.
func TestMaxLifetime(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	secret := Secret("a secret that is long enough for HS256")
	v, err := NewVerifier(t.Context(), Config{
		Keys: []KeySource{{Secret: secret}}, MaxLifetime: time.Hour, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, test := range []struct {
		issued, expires time.Duration
		want            envelope.Code
	}{
		{0, time.Hour, ""},
		{0, time.Hour + time.Second, envelope.Unauthorized},
		{-59 * time.Minute, time.Minute, ""},
		{-59 * time.Minute, 2 * time.Minute, envelope.Unauthorized},
	} {
		key, err := Mint(MintKey{Secret: secret}, Claims{Client: "ann", Issued: now.Add(test.issued), Expires: now.Add(test.expires)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), key); envelope.CodeOf(err) != test.want {
			t.Errorf("from %v to %v: %v, want %q", test.issued, test.expires, err, test.want)
		}
	}
	for expires, want := range map[time.Duration]envelope.Code{time.Hour: "", time.Hour + time.Second: envelope.Unauthorized} {
		who := Verified{Expires: now.Add(expires)}
		if got := who.lasts(now) > v.longest; got != (want != "") {
			t.Errorf("no iat, for %v: too long %v", expires, got)
		}
	}
}
