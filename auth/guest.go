package auth

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	guestType     = "allspark-guest+jwt"
	guestInfo     = "allspark guest key v1" // separates the derived key from other uses of the mesh key
	guestAudience = "allspark-guest"
	guestBurst    = 5 * time.Second // what may be made at once: as many as in that time
)

// guestHeader begins every guest key: they are made here only, with one header.
var guestHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"`+guestType+`"}`)) + "."

// Guests makes identities for people who have no account, and checks their auth
// keys. A guest key is a JWT (HS256) that any server with the mesh key makes and
// takes. It is safe for concurrent use.
type Guests struct {
	// static after construction
	key    []byte
	ttl    time.Duration
	now    func() time.Time
	parser *jwt.Parser
	pace   *rate.Limiter // has a lock of its own
}

// guestClaims are those of a guest key.
type guestClaims struct {
	jwt.RegisteredClaims        // aud: guestAudience, sub: client and node id, iat, exp
	Only                 string `json:"only,omitzero"` // the session it may join
}

// NewGuests derives the signing key from the mesh key, which needs at least 16
// random bytes (HKDF with SHA-256, RFC 5869). Identities last for ttl, in whole
// seconds, and perSecond of them are made here, for a moment five times as many.
// A nil now means time.Now.
func NewGuests(meshKey []byte, ttl time.Duration, perSecond int, now func() time.Time) (*Guests, error) {
	if len(meshKey) < minMeshKey {
		return nil, errors.New("auth: mesh key is shorter than 16 bytes")
	}
	if ttl < time.Second || perSecond < 1 {
		return nil, errors.New("auth: guests need a time to live and a rate")
	}
	key, err := hkdf.Key(sha256.New, meshKey, nil, guestInfo, sha256.Size)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	return &Guests{
		key: key,
		ttl: ttl,
		now: now,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithStrictDecoding(), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithAudience(guestAudience), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now),
		),
		pace: rate.NewLimiter(rate.Limit(perSecond), perSecond*int(guestBurst/time.Second)),
	}, nil
}

// Issue makes an identity that nobody had before, and its auth key. With only
// it may join that session and no other. The error is an [*envelope.Error]:
// RateLimited when too many were made just now, BadRequest when only is no id.
func (g *Guests) Issue(only envelope.SessionID) (key string, who Verified, err error) {
	if only != "" && !envelope.ValidID(string(only)) {
		return "", Verified{}, envelope.Errorf(envelope.BadRequest, "session_id has not the form of an id")
	}
	now := g.now()
	if !g.pace.AllowN(now, 1) {
		seconds := (1 - g.pace.TokensAt(now)) / float64(g.pace.Limit())
		return "", Verified{}, &envelope.Error{
			Code: envelope.RateLimited, Detail: "too many new guests at this server", RetryMS: int64(math.Ceil(1000 * seconds)),
		}
	}
	ends := now.Add(g.ttl).Truncate(time.Second)
	c := guestClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Audience:  jwt.ClaimStrings{guestAudience},
			Subject:   envelope.GuestID(ends, strings.ToLower(rand.Text())),
			IssuedAt:  jwt.NewNumericDate(now.Truncate(time.Second)),
			ExpiresAt: jwt.NewNumericDate(ends),
		},
		Only: string(only),
	}
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, &c)
	j.Header["typ"] = guestType
	if key, err = j.SignedString(g.key); err != nil {
		return "", Verified{}, envelope.AsError(err)
	}
	return key, c.verified(), nil
}

// takes reports whether a token is to be checked as a guest key.
func (g *Guests) takes(token string) bool { return g != nil && strings.HasPrefix(token, guestHeader) }

// verify checks a guest key, of which form and header have been checked.
func (g *Guests) verify(token string) (Verified, error) {
	var c guestClaims
	_, err := g.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return g.key, nil })
	if err != nil {
		return Verified{}, refuse(err)
	}
	ends, ok := envelope.GuestEnds(c.Subject)
	if !ok || !ends.Equal(c.ExpiresAt.Time) || c.IssuedAt == nil || c.Only != "" && !envelope.ValidID(c.Only) {
		return Verified{}, refuse(errID)
	}
	return c.verified(), nil
}

func (c *guestClaims) verified() Verified {
	return Verified{
		Principal: envelope.Principal{
			Node: envelope.NodeID(c.Subject), Client: envelope.ClientID(c.Subject), Guest: true, Only: envelope.SessionID(c.Only),
		},
		Expires: c.ExpiresAt.Time,
		Issued:  c.IssuedAt.Time,
		JTI:     c.Subject, // each has one key
	}
}

// isGuest reports whether an id is kept for guests. Where they are taken, an
// auth key of the app with such an id is refused, so that nobody is taken for one.
func isGuest(id string) bool { return strings.HasPrefix(id, envelope.GuestPrefix) }
