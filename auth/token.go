package auth

import (
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// MaxTokenSize is the longest token in bytes that is looked at.
	MaxTokenSize = 8 << 10
	// Leeway is how far the clock of an auth key's issuer may be off.
	Leeway = 30 * time.Second
)

// Verified is what a valid credential says.
type Verified struct {
	envelope.Principal
	Expires time.Time // of the auth key, also when a validation token was presented
	Issued  time.Time // zero when the auth key does not say
	JTI     string    // the auth key's name; "" when it has none
	Issuer  string    // who made the auth key; "" when it does not say
}

// Why a token was refused. These reach the log only.
var (
	errTooLong      = errors.New("longer than 8 KiB")
	errForm         = errors.New("not three parts in base64url")
	errHeader       = errors.New("header names a key or an extension")
	errType         = errors.New("another kind of token")
	errSignature    = errors.New("not signed with the key of this mesh")
	errAlgorithm    = errors.New("algorithm does not go with the key")
	errUnknownKey   = errors.New("unknown key id")
	errIssuer       = errors.New("issuer is not among the expected")
	errID           = errors.New("sub or nid is not an id")
	errLongClaim    = errors.New("jti or iss is too long")
	errRights       = errors.New("rights that are not understood, or for the app, which none bind")
	errTooLongLived = errors.New("valid for longer than a key may be")
	errGuest        = errors.New("not made here, with the id of a guest")
	errServer       = errors.New("for another server or boot")
	errUsed         = errors.New("used before")
	errTooFarAhead  = errors.New("expires later than any made by now")
)

// refuse returns the error for a credential that does not hold.
func refuse(cause error) error {
	switch {
	case errors.Is(cause, jwt.ErrTokenMalformed):
		cause = jwt.ErrTokenMalformed // the decoder's text may quote the token
	case errors.Is(cause, jwt.ErrTokenExpired):
		return &envelope.Error{Code: envelope.Unauthorized, Detail: "the credential has expired", Cause: cause}
	}
	return &envelope.Error{Code: envelope.Unauthorized, Detail: "the credential is not valid", Cause: cause}
}

// checkForm refuses what cannot be a signed token, in one pass and before
// anything is allocated. The decoder behind it would skip line breaks.
func checkForm(token string) error {
	if len(token) > MaxTokenSize {
		return errTooLong
	}
	dots := 0
	for i := range len(token) {
		switch c := token[i]; {
		case c == '.':
			if dots++; dots > 2 {
				return errForm
			}
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return errForm
		}
	}
	if dots != 2 {
		return errForm
	}
	return nil
}

// checkHeader refuses a header that brings its own key or asks for an
// extension (RFC 7515, section 4.1), or whose typ is not among types. In
// types, "" stands for a header without typ.
func checkHeader(header map[string]any, types ...string) error {
	for _, name := range [...]string{"jku", "jwk", "x5u", "x5c", "crit"} {
		if _, ok := header[name]; ok {
			return errHeader
		}
	}
	typ, ok := header["typ"].(string)
	if _, present := header["typ"]; present && !ok {
		return errType
	}
	// A media type: case does not matter and "application/" may be left out.
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	for _, t := range types {
		if typ == t {
			return nil
		}
	}
	return errType
}
