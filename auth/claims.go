package auth

import (
	"bytes"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

// maxClaim bounds jti and iss, which are stored and put into validation tokens.
const maxClaim = 256

// authClaims are the claims of an auth key. It implements [jwt.Claims] so that
// the library checks times and audience.
type authClaims struct {
	sub, nid, iss, jti string
	aud                jwt.ClaimStrings
	exp, nbf, iat      *jwt.NumericDate
	app                bool
	rights             jsontext.Value // nil: absent
}

// UnmarshalJSON takes names as they are spelled: a claim "APP" that an app lets
// its users set must not become "app". A name that comes twice is refused (RFC
// 7519, section 4). Claims that are not ours may hold what is no Unicode, such as
// half of an emoji that somebody has cut a name within.
func (c *authClaims) UnmarshalJSON(b []byte) error {
	in := jsontext.NewDecoder(bytes.NewBuffer(b), jsontext.AllowInvalidUTF8(true))
	if kind := in.PeekKind(); kind != '{' {
		return errors.New("claims are an object")
	}
	if _, err := in.ReadToken(); err != nil {
		return err
	}
	named := false // the device
	for in.PeekKind() != '}' {
		token, err := in.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := in.ReadValue()
		if err != nil {
			return err
		}
		switch name {
		case "sub":
			err = json.Unmarshal(value, &c.sub)
		case "nid":
			named = true
			err = json.Unmarshal(value, &c.nid)
		case "iss":
			err = json.Unmarshal(value, &c.iss)
		case "jti":
			err = json.Unmarshal(value, &c.jti)
		case "aud":
			err = json.Unmarshal(value, &c.aud)
		case "app":
			err = json.Unmarshal(value, &c.app)
		case "rights":
			c.rights = value.Clone()
		case "exp":
			c.exp, err = date(value)
		case "nbf":
			c.nbf, err = date(value)
		case "iat":
			c.iat, err = date(value)
		}
		if err != nil {
			return err
		}
	}
	if !named {
		c.nid = c.sub
	}
	_, err := in.ReadToken()
	return err
}

// date reads a NumericDate (RFC 7519, section 2) up to the year 9999. The
// library's own takes quoted numbers, and larger ones than time.Time can hold.
func date(value jsontext.Value) (*jwt.NumericDate, error) {
	const year10000 = 253402300800
	var number *float64
	if err := json.Unmarshal(value, &number); err != nil || number == nil {
		return nil, err // null is as good as absent
	}
	seconds := *number
	if seconds < 0 || seconds >= year10000 {
		return nil, errors.New("date out of range")
	}
	return &jwt.NumericDate{Time: time.Unix(int64(seconds), 0)}, nil
}

func (c *authClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *authClaims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *authClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *authClaims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }
func (c *authClaims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *authClaims) GetSubject() (string, error)                  { return c.sub, nil }

// verified returns what the claims say, once signature and times are known to hold.
func (c *authClaims) verified() (Verified, error) {
	if !envelope.ValidID(c.sub) || !envelope.ValidID(c.nid) {
		return Verified{}, errID
	}
	if len(c.jti) > maxClaim || len(c.iss) > maxClaim {
		return Verified{}, errLongClaim
	}
	var rights *envelope.Rights
	if c.rights != nil {
		var err error
		if rights, err = envelope.ParseRights(c.rights); err != nil || c.app {
			return Verified{}, errRights
		}
	}
	v := Verified{
		Principal: envelope.Principal{Node: envelope.NodeID(c.nid), Client: envelope.ClientID(c.sub), App: c.app, Rights: rights},
		Expires:   c.exp.Time,
		JTI:       c.jti,
		Issuer:    c.iss,
	}
	if c.iat != nil {
		v.Issued = c.iat.Time
	}
	return v, nil
}
