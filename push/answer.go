package push

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds how long a service can make us wait.
const maxRetryAfter = 24 * time.Hour

var wordForm = regexp.MustCompile(`^[A-Za-z_]{1,40}$`)

// Unanswered returns the failure of an attempt that got no answer: whether it
// was heard is not known. The error loses its URL, because that holds the token.
func Unanswered(err error) *Failure {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	f := &Failure{Reason: "unreachable", Retry: true, Cause: err}
	switch {
	case errors.Is(err, context.Canceled):
		f.Reason = "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		f.Reason = "timeout"
	}
	return f
}

// Refused returns the failure for an answer that is not a success, by its
// status alone. The reason is the service's word where that is one, so that no
// answer can bring a token into a log; else the status.
func Refused(status int, header http.Header, word string) *Failure {
	f := &Failure{Reason: "HTTP " + strconv.Itoa(status)}
	if wordForm.MatchString(word) {
		f.Reason = word
	}
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		f.Retry = true
		f.After = retryAfter(header)
	}
	return f
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or
// a date. 0 when there is none.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), maxRetryAfter)
}
