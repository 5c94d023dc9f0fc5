package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenLife   = 12 * time.Hour // RFC 8292, section 2: at most 24 hours
	renewBefore = time.Hour
	maxOrigins  = 256 // whose tokens are kept; users choose the origins
)

// vapid says to push services who sends (RFC 8292).
type vapid struct {
	// static
	key     *ecdsa.PrivateKey
	public  string // base64url of the point
	subject string

	mu     sync.Mutex
	tokens map[string]signed // guarded by mu, by origin
}

type signed struct {
	value string
	renew time.Time
}

func newVAPID(data []byte, subject string) (*vapid, error) {
	key, err := parseKey(data)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil || key.Curve != elliptic.P256() {
		return nil, errors.New("webpush: the key is not of the curve P-256")
	}
	if !strings.HasPrefix(subject, "mailto:") && !strings.HasPrefix(subject, "https://") {
		return nil, errors.New("webpush: the subject must be mailto: or https://")
	}
	return &vapid{
		key:     key,
		public:  base64.RawURLEncoding.EncodeToString(point),
		subject: subject,
		tokens:  map[string]signed{},
	}, nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string(data)), "="))
		if err != nil {
			return nil, errors.New("webpush: the key is neither PEM nor base64url")
		}
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
		if err != nil {
			return nil, errors.New("webpush: the key is not one of P-256 in 32 bytes")
		}
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(*ecdsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("webpush: the key is not an EC private key")
}

// authorization returns the header for requests to an origin. It stays the same
// for hours, so that a push service can keep what it found.
func (v *vapid) authorization(origin string, now time.Time) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t, ok := v.tokens[origin]; ok && now.Before(t.renew) {
		return t.value, nil
	}
	expires := now.Add(tokenLife)
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": origin,
		"exp": expires.Unix(),
		"sub": v.subject,
	}).SignedString(v.key)
	if err != nil {
		return "", err
	}
	if len(v.tokens) >= maxOrigins {
		clear(v.tokens)
	}
	value := "vapid t=" + token + ", k=" + v.public
	v.tokens[origin] = signed{value, expires.Add(-renewBefore)}
	return value, nil
}
