package auth

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// TicketLifetime is how long a validation token is valid.
	TicketLifetime = 60 * time.Second

	ticketType = "allspark-ticket+jwt"
	ticketInfo = "allspark validation token v1" // separates the derived key from other uses of the mesh key
	minMeshKey = 16                             // bytes
	maxUsed    = 1 << 18                        // 4,000 connects a second, in about 10 MB
)

// Tickets issues and redeems validation tokens. A token is a JWT (HS256) that
// any server with the mesh key can issue and that only the server and boot
// named in it redeems, once. Servers' clocks may differ by half a minute at no
// loss but that of lifetime.
type Tickets struct {
	// static after construction
	seal *seal
	now  func() time.Time
	max  int

	// guarded by mu
	mu    sync.Mutex
	used  map[int64]map[ticketID]struct{} // redeemed, by the minute in which they expire
	count int                             // of all in used
	floor int64                           // minutes before this are forgotten
}

type ticketID [16]byte

// ticketClaims are those of a validation token. Those with "key_" are the auth key's.
type ticketClaims struct {
	Audience []string `json:"aud"` // the server
	Boot     string   `json:"boot"`
	Client   string   `json:"sub"`
	Node     string   `json:"nid"`
	App      bool     `json:"app,omitzero"`
	Guest    bool     `json:"guest,omitzero"`
	Only     string   `json:"only,omitzero"`
	Expires  int64    `json:"exp"`
	ID       string   `json:"jti"`

	Rights *envelope.Rights `json:"rights,omitzero"`

	KeyExpires int64  `json:"key_exp"`
	KeyIssued  int64  `json:"key_iat,omitzero"`
	KeyID      string `json:"key_jti,omitzero"`
	KeyIssuer  string `json:"key_iss,omitzero"`
}

// NewTickets derives the signing key from the mesh key, which needs at least
// 16 random bytes (HKDF with SHA-256, RFC 5869). A nil now means time.Now.
func NewTickets(meshKey []byte, now func() time.Time) (*Tickets, error) {
	if len(meshKey) < minMeshKey {
		return nil, errors.New("auth: mesh key is shorter than 16 bytes")
	}
	key, err := hkdf.Key(sha256.New, meshKey, nil, ticketInfo, sha256.Size)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	return &Tickets{seal: newSeal(key, ticketType), now: now, max: maxUsed, used: make(map[int64]map[ticketID]struct{})}, nil
}

// Issue makes a validation token for who, valid at one boot of one server.
// The error is an [*envelope.Error]: Unauthorized when who's auth key has
// expired, Internal when an argument is incomplete.
func (t *Tickets) Issue(server envelope.ServerID, boot string, who Verified) (token string, expires time.Time, err error) {
	if server == "" || boot == "" || who.Expires.IsZero() ||
		!envelope.ValidID(string(who.Client)) || !envelope.ValidID(string(who.Node)) {
		return "", time.Time{}, envelope.AsError(errors.New("auth: a validation token needs server, boot, client, node and expiry"))
	}
	now := t.now()
	if !now.Before(who.Expires.Add(Leeway)) {
		return "", time.Time{}, refuse(jwt.ErrTokenExpired)
	}
	var id ticketID
	rand.Read(id[:]) // never fails
	expires = now.Add(TicketLifetime).Truncate(time.Second)
	claims := ticketClaims{
		Audience:   []string{string(server)},
		Boot:       boot,
		Client:     string(who.Client),
		Node:       string(who.Node),
		App:        who.App,
		Guest:      who.Guest,
		Only:       string(who.Only),
		Expires:    expires.Unix(),
		ID:         base64.RawURLEncoding.EncodeToString(id[:]),
		Rights:     who.Rights,
		KeyExpires: who.Expires.Unix(),
		KeyID:      who.JTI,
		KeyIssuer:  who.Issuer,
	}
	if !who.Issued.IsZero() {
		claims.KeyIssued = who.Issued.Unix()
	}
	if token, err = t.seal.sign(&claims); err != nil {
		return "", time.Time{}, envelope.AsError(err)
	}
	return token, expires, nil
}

// Redeem checks a validation token and uses it up. The error is an
// [*envelope.Error]: Unauthorized, or Busy when too many were redeemed within
// a minute to remember one more. A token refused for another reason than
// having been used is not used up.
func (t *Tickets) Redeem(token string, self envelope.ServerID, boot string) (Verified, error) {
	if err := checkForm(token); err != nil {
		return Verified{}, refuse(err)
	}
	var c ticketClaims
	if err := t.seal.open(token, &c); err != nil {
		return Verified{}, refuse(err)
	}
	// From here on the token is one of ours, so comparing it in variable time
	// tells nothing that its bearer could not read in it.
	if len(c.Audience) != 1 || c.Audience[0] != string(self) || c.Boot != boot {
		return Verified{}, refuse(errServer)
	}
	now := t.now()
	expires, keyExpires := time.Unix(c.Expires, 0), time.Unix(c.KeyExpires, 0)
	if !now.Before(expires) || !now.Before(keyExpires.Add(Leeway)) {
		return Verified{}, refuse(jwt.ErrTokenExpired)
	}
	if expires.After(now.Add(TicketLifetime + Leeway)) {
		return Verified{}, refuse(errTooFarAhead)
	}
	if !envelope.ValidID(c.Client) || !envelope.ValidID(c.Node) {
		return Verified{}, refuse(errID)
	}
	id, err := base64.RawURLEncoding.DecodeString(c.ID)
	if err != nil || len(id) != len(ticketID{}) {
		return Verified{}, refuse(errForm)
	}
	if err := t.use(ticketID(id), expires, now); err != nil {
		return Verified{}, err
	}
	who := Verified{
		Principal: envelope.Principal{
			Node: envelope.NodeID(c.Node), Client: envelope.ClientID(c.Client),
			App: c.App, Guest: c.Guest, Only: envelope.SessionID(c.Only), Rights: c.Rights,
		},
		Expires: keyExpires,
		JTI:     c.KeyID,
		Issuer:  c.KeyIssuer,
	}
	if c.KeyIssued != 0 {
		who.Issued = time.Unix(c.KeyIssued, 0)
	}
	return who, nil
}

// use remembers that a token was redeemed until it has expired. Minutes that
// are over are forgotten whole, and stay over should the clock be set back.
func (t *Tickets) use(id ticketID, expires, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := minute(now); m > t.floor {
		t.floor = m
		for past, ids := range t.used {
			if past < m {
				t.count -= len(ids)
				delete(t.used, past)
			}
		}
	}
	m := minute(expires)
	if m < t.floor {
		return refuse(jwt.ErrTokenExpired)
	}
	if _, ok := t.used[m][id]; ok {
		return refuse(errUsed)
	}
	if t.count >= t.max {
		return envelope.BusyError(TicketLifetime.Milliseconds(), "too many connects", nil)
	}
	if t.used[m] == nil {
		t.used[m] = make(map[ticketID]struct{})
	}
	t.used[m][id] = struct{}{}
	t.count++
	return nil
}

func minute(at time.Time) int64 { return at.Unix() / 60 }
