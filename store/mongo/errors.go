package mongo

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/session"
)

// try calls f until it has an answer: no error, or one that the contract of
// the call names. Any other error means that the outcome is unknown; f is then
// repeated, with again set, until the time-out makes it Busy. So f must be
// idempotent, and know its own work when it finds it done.
func (s *Store) try(ctx context.Context, f func(ctx context.Context, again bool) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for n := 0; ; n++ {
		err := s.once(ctx, n > 0, f)
		if answers(err) {
			return err
		}
		if sleep(ctx, backoff(n+1)) != nil {
			return envelope.BusyError(retryAway, "the store does not answer", err)
		}
	}
}

// once leaves time for another try on another connection.
func (s *Store) once(ctx context.Context, again bool, f func(context.Context, bool) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout/2)
	defer cancel()
	return f(ctx, again)
}

func answers(err error) bool {
	if err == nil {
		return true
	}
	if _, ok := errors.AsType[*envelope.Error](err); ok {
		return true
	}
	for _, sentinel := range []error{
		graph.ErrRecordExists, graph.ErrTakenOver,
		session.ErrExists, session.ErrNotFound, session.ErrChanged,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// errOld means that a majority does not show yet what is known to be there.
var errOld = errors.New("mongo: a majority read shows an older state")

// withoutCredentials removes the user and the password of uri from text.
func withoutCredentials(text, uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	// An "@" in a password should be escaped; where it is not, take the last.
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return text
	}
	text = strings.ReplaceAll(text, rest[:at], "***")
	_, password, _ := strings.Cut(rest[:at], ":")
	for _, secret := range []string{password, unescaped(password)} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// damaged is for a document that cannot be one of ours.
func damaged(what string, cause error) error {
	return &envelope.Error{Code: envelope.Internal, Detail: "a stored " + what + " is damaged", Cause: cause}
}
