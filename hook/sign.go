package hook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is the header with the signature of a request: "t=" and the
// time in Unix seconds, and for each secret of its sender ",v1=" and the
// hexadecimal HMAC-SHA256 (RFC 2104) of that time's text, a dot, and the body.
// While a secret is changed there are two: a receiver finds the one of the secret
// that it knows.
const SignatureHeader = "Allspark-Signature"

// ErrSignature means that a signature is not by the holder of the secret, or
// of another time.
var ErrSignature = errors.New("hook: the signature does not hold")

// Sign returns the signature of a body at a time, by each of the secrets.
func Sign(at time.Time, body []byte, secrets ...[]byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	signature := "t=" + t
	for _, secret := range secrets {
		signature += ",v1=" + hex.EncodeToString(mac(secret, t, body))
	}
	return signature
}

// Verify is what a receiver does: it returns nil when the signature of a body is
// good, or one of several, and its time within tolerance of now, and else [ErrSignature].
func Verify(secret []byte, signature string, body []byte, now time.Time, tolerance time.Duration) error {
	var t string
	var sums []string
	for part := range strings.SplitSeq(signature, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			t = value
		case "v1":
			sums = append(sums, value)
		}
	}
	at, err := strconv.ParseInt(t, 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > tolerance {
		return ErrSignature
	}
	want := mac(secret, t, body)
	for _, text := range sums {
		if sum, err := hex.DecodeString(text); err == nil && hmac.Equal(sum, want) {
			return nil
		}
	}
	return ErrSignature
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}
