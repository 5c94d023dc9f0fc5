package hook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is the header with the signature of a request: "t=" and the
// time in Unix seconds, ",v1=" and the hexadecimal HMAC-SHA256 (RFC 2104) of
// that time's text, a dot, and the body.
const SignatureHeader = "Allspark-Signature"

// ErrSignature means that a signature is not by the holder of the secret, or
// of another time.
var ErrSignature = errors.New("hook: the signature does not hold")

// Sign returns the signature of a body at a time.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return fmt.Sprintf("t=%s,v1=%s", t, hex.EncodeToString(mac(secret, t, body)))
}

// Verify is what a receiver does: it returns nil when the signature of a body is
// good and its time within tolerance of now, and else [ErrSignature].
func Verify(secret []byte, signature string, body []byte, now time.Time, tolerance time.Duration) error {
	var t string
	var sum []byte
	for part := range strings.SplitSeq(signature, ",") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "t":
			t = value
		case "v1":
			sum, _ = hex.DecodeString(value)
		}
	}
	at, err := strconv.ParseInt(t, 10, 64)
	if err != nil || !hmac.Equal(sum, mac(secret, t, body)) || now.Sub(time.Unix(at, 0)).Abs() > tolerance {
		return ErrSignature
	}
	return nil
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}
