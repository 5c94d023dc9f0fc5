package apns

import (
	"io"
	"net/http"

	"github.com/sideshow/apns2"

	"github.com/allsparkrt/allspark/push"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 4 << 10

// refused says what an answer means. The status decides, except for these.
func refused(got answer, r *apns2.Response) *push.Failure {
	f := push.Refused(got.status, got.header, r.Reason)
	switch r.Reason {
	case apns2.ReasonBadDeviceToken, apns2.ReasonDeviceTokenNotForTopic, apns2.ReasonExpiredToken:
		f.Gone = true
	case apns2.ReasonUnregistered:
		f.Gone, f.Since = true, r.Timestamp.Time
	case apns2.ReasonIdleTimeout:
		f.Retry = true
	case apns2.ReasonExpiredProviderToken, apns2.ReasonInvalidProviderToken, apns2.ReasonMissingProviderToken,
		apns2.ReasonBadCertificate, apns2.ReasonBadCertificateEnvironment:
		f.Retry = true // not the notification's fault, and put right by an operator
	case apns2.ReasonTooManyProviderTokenUpdates:
		f.After = max(f.After, renewAtMost) // the connection is of no use before
	}
	return f
}

// answer is what the library does not hand on of one.
type answer struct {
	status int
	header http.Header
}

type answerKey struct{}

// recorder notes the answer to a request where its context says.
type recorder struct{ *http.Transport }

// RoundTrip implements [http.RoundTripper].
func (t recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if got, ok := r.Context().Value(answerKey{}).(*answer); ok {
		got.status, got.header = response.StatusCode, response.Header
	}
	response.Body = limited{io.LimitReader(response.Body, maxAnswer), response.Body}
	return response, nil
}

// limited is a body of which the end is not read.
type limited struct {
	io.Reader
	io.Closer
}
