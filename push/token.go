package push

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// ErrToken means that a token has not the form of its service's tokens.
var ErrToken = errors.New("push: malformed token")

var (
	apnsForm   = regexp.MustCompile(`^([0-9a-f]{2}){32,100}$`) // opaque, of variable length; 32 bytes today
	fcmForm    = regexp.MustCompile(`^[A-Za-z0-9_:-]{20,1000}$`)
	appForm    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)
	localeForm = regexp.MustCompile(`^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,8}$`)
)

// maxEndpoint is the length of the longest endpoint taken, in bytes.
const maxEndpoint = 2048

// ValidToken returns a token in the one spelling that it has, or an error that
// wraps [ErrToken] and holds nothing of it. It looks at the form only: whether
// an endpoint may be asked is decided when its name is resolved.
func ValidToken(t Token) (Token, error) {
	if t.Service == APNs {
		t.Value = strings.ToLower(t.Value)
	}
	if field := malformed(t); field != "" {
		return Token{}, fmt.Errorf("%w: %s", ErrToken, field)
	}
	return t, nil
}

// malformed names the part of a token that has not its form, or returns "".
func malformed(t Token) string {
	browser := t.Service == WebPush
	switch {
	case t.Service == APNs && !apnsForm.MatchString(t.Value), t.Service == FCM && !fcmForm.MatchString(t.Value):
		return "value"
	case browser && !validEndpoint(t.Value):
		return "endpoint"
	case !browser && t.Service != APNs && t.Service != FCM:
		return "service"
	case t.App == "" && t.Service == APNs, t.App != "" && !appForm.MatchString(t.App):
		return "app"
	case t.Sandbox && t.Service != APNs:
		return "sandbox"
	case browser && !validPoint(t.P256DH), !browser && len(t.P256DH) > 0:
		return "p256dh"
	case browser && len(t.Auth) != 16, !browser && len(t.Auth) > 0:
		return "auth"
	case t.Locale != "" && !localeForm.MatchString(t.Locale):
		return "locale"
	}
	return ""
}

func validEndpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxEndpoint && u.Scheme == "https" && u.Hostname() != "" &&
		u.User == nil && !strings.Contains(s, "#") && printable(s)
}

// printable refuses what could end a header's line or pass for another host.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' })
}

func validPoint(b []byte) bool {
	_, err := ecdh.P256().NewPublicKey(b)
	return err == nil
}

// String returns the service and a digest that tells tokens apart: a token is
// enough to reach a device, so it is not printed.
func (t Token) String() string {
	sum := sha256.Sum256([]byte(t.Value))
	return string(t.Service) + ":#" + hex.EncodeToString(sum[:4])
}

// LogValue implements [slog.LogValuer] with [Token.String].
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
