package auth

import (
	"errors"
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// Bearer returns the token of a request's Authorization header (RFC 6750,
// section 2.1). It looks nowhere else: a token in a URL or a form ends up in
// logs and Referer headers. The error is an [*envelope.Error] with Unauthorized.
func Bearer(r *http.Request) (string, error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return "", envelope.Errorf(envelope.Unauthorized, "a bearer token is required")
	}
	if len(values) > 1 {
		return "", refuse(errors.New("more than one Authorization header"))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", envelope.Errorf(envelope.Unauthorized, "a bearer token is required")
	}
	token = strings.TrimLeft(token, " ")
	if len(token) > MaxTokenSize {
		return "", refuse(errTooLong)
	}
	if !isB64Token(token) {
		return "", refuse(errors.New("not the form of a bearer token"))
	}
	return token, nil
}

// isB64Token reports whether s is a b64token as RFC 6750 defines it.
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
