package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

// Config configures a [Verifier]. Only Keys is required.
type Config struct {
	Keys []KeySource
	// Issuers and Audiences are what iss must be and aud must have one of.
	// Give both when the keys sign tokens for others too.
	Issuers, Audiences []string
	// Guests are those whose keys are taken besides; nil: nobody's.
	Guests *Guests
	// Revocations are those that are heeded; nil: none are.
	Revocations *Revocations
	// MaxLifetime is how long an auth key may last, from when it was issued or,
	// if it does not say, from now; 0: any time.
	MaxLifetime time.Duration

	Now        func() time.Time // nil: time.Now
	HTTPClient *http.Client     // fetches JWK sets; nil: the default transport
	Logger     *slog.Logger     // nil: no log
}

// Verifier checks auth keys: those that the app has made, and those of guests.
type Verifier struct {
	// static after construction
	parser  *jwt.Parser
	keys    *keySet
	issuers []string
	guests  *Guests      // may be nil
	revoked *Revocations // may be nil
	longest time.Duration
	now     func() time.Time
	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewVerifier loads the keys and keeps them fresh until Close. It fails when a
// source is malformed, a file cannot be loaded, or ctx ends first; a URL that
// cannot be fetched is logged and tried again.
func NewVerifier(ctx context.Context, c Config) (*Verifier, error) {
	if len(c.Keys) == 0 {
		return nil, errors.New("auth: no key source")
	}
	if slices.Contains(c.Issuers, "") || slices.Contains(c.Audiences, "") {
		return nil, errors.New("auth: empty issuer or audience")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := newKeySet(ctx, &c)
	if err != nil {
		return nil, err
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{
			"HS256", "HS384", "HS512", "RS256", "RS384", "RS512",
			"PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
		}),
		jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(c.Now),
	}
	if len(c.Audiences) > 0 {
		options = append(options, jwt.WithAudience(slices.Clone(c.Audiences)...))
	}
	v := &Verifier{
		parser: jwt.NewParser(options...), keys: keys, issuers: slices.Clone(c.Issuers), guests: c.Guests,
		revoked: c.Revocations, longest: c.MaxLifetime, now: c.Now,
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop = stop
	if keys.reloads() {
		v.running.Go(func() { keys.run(background) })
	}
	return v, nil
}

// Close ends the background refresh. Verify keeps working.
func (v *Verifier) Close() {
	v.stop()
	v.running.Wait()
}

// Verify checks an auth key, of the app or of a guest. The error is an [*envelope.Error]: Unauthorized,
// Revoked, or Busy when the key that the token names may exist but cannot be
// fetched now, or ctx ended while waiting for it.
func (v *Verifier) Verify(ctx context.Context, token string) (Verified, error) {
	who, err := v.verify(ctx, token)
	if err == nil {
		err = v.revoked.Check(who)
	}
	if err != nil {
		return Verified{}, err
	}
	return who, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (Verified, error) {
	if err := checkForm(token); err != nil {
		return Verified{}, refuse(err)
	}
	if v.guests.takes(token) {
		return v.guests.verify(token)
	}
	var c authClaims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if err := checkHeader(t.Header, "", "jwt", "at+jwt"); err != nil {
			return nil, err
		}
		return v.key(ctx, t, c.iss)
	})
	if err != nil {
		if e, ok := errors.AsType[*envelope.Error](err); ok {
			return Verified{}, e
		}
		return Verified{}, refuse(err)
	}
	if len(v.issuers) > 0 && !slices.Contains(v.issuers, c.iss) {
		return Verified{}, refuse(errIssuer)
	}
	who, err := c.verified()
	if err == nil && v.guests != nil && (isGuest(c.sub) || isGuest(c.nid)) {
		err = errGuest
	}
	if err == nil && v.longest > 0 && who.lasts(v.now()) > v.longest {
		err = errTooLongLived
	}
	if err != nil {
		return Verified{}, refuse(err)
	}
	return who, nil
}

// lasts returns how long the credential is valid from its beginning on.
func (v *Verified) lasts(now time.Time) time.Duration {
	if v.Issued.IsZero() {
		return v.Expires.Sub(now)
	}
	return v.Expires.Sub(v.Issued)
}

// key returns what the library is to check the signature with.
func (v *Verifier) key(ctx context.Context, t *jwt.Token, iss string) (any, error) {
	kid, ok := t.Header["kid"].(string)
	if _, present := t.Header["kid"]; present && !ok {
		return nil, errUnknownKey
	}
	keys, err := v.keys.find(ctx, kid, t.Method.Alg(), iss)
	if err != nil {
		return nil, err
	}
	if len(keys) == 1 {
		return keys[0].value, nil
	}
	var set jwt.VerificationKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, k.value)
	}
	return set, nil
}
