package mongo

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

// query is try for calls that only read.
func (s *Store) query(ctx context.Context, f func(ctx context.Context, again bool) error) error {
	return s.try(ctx, ctx, s.reads, f)
}

// change is try for calls that write. What is on its way when ctx ends is
// waited for: a write that is let go may be carried out after the caller's next
// one, and undo it.
func (s *Store) change(ctx context.Context, f func(ctx context.Context, again bool) error) error {
	return s.try(ctx, context.WithoutCancel(ctx), s.writes, f)
}

// try calls f, with work, until it has an answer: no error, or one that the
// contract of the call names. Any other error means that the outcome is
// unknown; f is then repeated, with again set, until the time-out or the end of
// ctx makes it Busy. So f must be idempotent, and know its own work when it
// finds it done.
func (s *Store) try(ctx, work context.Context, b *breaker, f func(ctx context.Context, again bool) error) error {
	if err := b.refusal(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(work, s.timeout)
	defer cancel()
	err := context.Cause(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		err = s.once(limited, n > 0, f)
		if answers(err) {
			b.success()
			return err
		}
		if outOfSpace(err) {
			b.success()
			return envelope.BusyError(retryNoSpace, noSpace, err)
		}
		if sleep(limited, backoff(n+1)) != nil {
			if ctx.Err() == nil { // else it was the caller who had no time
				b.failure(err)
			}
			break
		}
	}
	return envelope.BusyError(retryAway, noAnswer, err)
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
		session.ErrExists, session.ErrNotFound, session.ErrChanged, push.ErrChanged,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// Details of Busy.
const (
	noAnswer = "the store does not answer"
	noSpace  = "the store has no space left"
	closing  = "the server is shutting down"
)

// errAway means that the database has not answered several calls before.
var errAway = errors.New("mongo: the database was away a moment ago")

// Codes of a server that can read and has nowhere to write to.
const (
	codeOutOfDiskSpace = 14031
	codeAtlas          = 8000 // of many things, among them "over your space quota"
)

// outOfSpace reports whether the database has answered that it is full. To
// repeat a write at once is of no use then, while other calls may succeed.
func outOfSpace(err error) bool {
	server, ok := errors.AsType[mongo.ServerError](err)
	return ok && (server.HasErrorCode(codeOutOfDiskSpace) || server.HasErrorCodeWithMessage(codeAtlas, "space quota"))
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
