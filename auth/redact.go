package auth

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// Secret is key material that does not print: fmt, encoding/json and slog
// show "[redacted]" in its place.
type Secret []byte

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalText implements [encoding.TextMarshaler].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// jwtForm matches a JSON object in base64url, a dot, and what follows of a token.
var jwtForm = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_.-]*`)

// Redact replaces everything in s that looks like a token.
func Redact(s string) string {
	if !strings.Contains(s, "eyJ") {
		return s
	}
	return jwtForm.ReplaceAllLiteralString(s, redacted)
}

// RedactURL returns a URL for a log: its path, and the names of its
// parameters without their values, because any of them may be a credential.
func RedactURL(u *url.URL) string {
	s := Redact(u.EscapedPath())
	sep := "?"
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if name, _, _ := strings.Cut(pair, "="); name != "" {
			s += sep + Redact(name) + "=…"
			sep = "&"
		}
	}
	return s
}

// RedactAttr is a ReplaceAttr for [slog.HandlerOptions] that redacts strings,
// errors and whatever prints itself. It is the last line of defence: code must
// not hand tokens to a log in the first place.
func RedactAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(Redact(v.Error()))
		case fmt.Stringer:
			a.Value = slog.StringValue(Redact(v.String()))
		}
	}
	return a
}
