package push

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		tests := []struct {
			name       string
			status     int
			retryAfter string
			word       string
			want       Failure
		}{
			{"a word", 400, "", "BadTopic", Failure{Reason: "BadTopic"}},
			{"no word", 400, "", "", Failure{Reason: "HTTP 400"}},
			{"a token for a word", 400, "", strings.Repeat("ab12", 20), Failure{Reason: "HTTP 400"}},
			{"a word with a line break", 400, "", "Bad\nlevel=ERROR", Failure{Reason: "HTTP 400"}},
			{"redirect", 307, "5", "", Failure{Reason: "HTTP 307"}},
			{"timeout", 408, "", "", Failure{Reason: "HTTP 408", Retry: true}},
			{"too many", 429, "7", "", Failure{Reason: "HTTP 429", Retry: true, After: 7 * time.Second}},
			{"a date", 503, in(time.Hour), "", Failure{Reason: "HTTP 503", Retry: true, After: time.Hour}},
			{"a date that has passed", 503, in(-time.Hour), "", Failure{Reason: "HTTP 503", Retry: true}},
			{"years", 503, "999999999", "", Failure{Reason: "HTTP 503", Retry: true, After: maxRetryAfter}},
			{"less than nothing", 500, "-5", "", Failure{Reason: "HTTP 500", Retry: true}},
			{"nonsense", 502, "soon", "", Failure{Reason: "HTTP 502", Retry: true}},
		}
		for _, test := range tests {
			got := Refused(test.status, http.Header{"Retry-After": {test.retryAfter}}, test.word)
			if *got != test.want {
				t.Errorf("%s: got %+v, want %+v", test.name, *got, test.want)
			}
		}
	})
}

func TestUnanswered(t *testing.T) {
	for _, test := range []struct {
		cause error
		want  string
	}{
		{io.ErrUnexpectedEOF, "unreachable"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		got := Unanswered(&url.Error{Op: "Post", URL: "https://push.example.net/secret", Err: test.cause})
		if got.Reason != test.want || !got.Retry || got.Gone || !errors.Is(got, test.cause) {
			t.Errorf("got %+v, want %s", got, test.want)
		}
		if strings.Contains(got.Cause.Error(), "secret") {
			t.Errorf("the error holds the token: %v", got.Cause)
		}
	}
}
