package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/allsparkrt/allspark/push"
)

const (
	scope         = "https://www.googleapis.com/auth/firebase.messaging"
	assertionLife = time.Hour // the most that Google takes
	maxLife       = 24 * time.Hour
	renewBefore   = 5 * time.Minute // and at most half the token's life
	renewPause    = 5 * time.Second // after a renewal that failed
)

var errNoToken = errors.New("no access token in the answer")

// tokenSource gets access tokens for a service account, by the JWT bearer grant
// of OAuth 2.0 (RFC 7523, section 2.1), and keeps the one it has.
type tokenSource struct {
	// static
	account *account
	client  *http.Client

	renewing chan struct{} // holds one: whoever renews

	mu      sync.Mutex
	current accessToken   // guarded by mu
	failed  *push.Failure // guarded by mu: of the last renewal
	again   time.Time     // guarded by mu: when another may be tried, after one that failed
}

type accessToken struct {
	value          string
	renew, expires time.Time
}

func newTokenSource(a *account, client *http.Client) *tokenSource {
	return &tokenSource{account: a, client: client, renewing: make(chan struct{}, 1)}
}

// token returns an access token. Shortly before it expires one caller renews
// it, while the others go on with what there is; without one they wait. That
// there is none says nothing about a notification, so its failure is to be retried.
func (s *tokenSource) token(ctx context.Context) (string, *push.Failure) {
	access, fresh, f := s.peek()
	if fresh || f != nil {
		return access, f
	}
	if access != "" {
		select {
		case s.renewing <- struct{}{}:
		default:
			return access, nil
		}
	} else {
		select {
		case s.renewing <- struct{}{}:
		case <-ctx.Done():
			return "", push.Unanswered(ctx.Err())
		}
	}
	defer func() { <-s.renewing }()
	access, fresh, f = s.peek()
	if fresh || f != nil { // another has done it, or failed to
		return access, f
	}
	renewed, f := s.renew(ctx)
	if f != nil && access != "" {
		return access, nil
	}
	return renewed, f
}

// peek returns the token there is, or "", and whether it is left as it is; or
// why there is none, as long as another renewal is not to be tried.
func (s *tokenSource) peek() (access string, fresh bool, _ *push.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	paused := now.Before(s.again)
	switch {
	case now.Before(s.current.expires):
		return s.current.value, paused || now.Before(s.current.renew), nil
	case paused:
		return "", false, s.failed
	}
	return "", false, nil
}

// forget drops a token that was refused, unless it has been renewed since.
func (s *tokenSource) forget(used string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.value == used {
		s.current = accessToken{}
	}
}

// renew asks for a token; only who holds renewing may.
func (s *tokenSource) renew(ctx context.Context) (string, *push.Failure) {
	access, f := s.ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		s.current, s.failed, s.again = access, nil, time.Time{}
		return access.value, nil
	}
	f.Retry = true
	if ctx.Err() == nil { // else it says nothing about the next caller's
		s.failed, s.again = f, time.Now().Add(max(renewPause, f.After))
	}
	return "", f
}

func (s *tokenSource) ask(ctx context.Context) (accessToken, *push.Failure) {
	now := time.Now()
	assertion, err := s.assertion(now)
	if err != nil {
		return accessToken{}, &push.Failure{Reason: "signing failed", Cause: err}
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.account.TokenURI, strings.NewReader(form.Encode()))
	if err != nil {
		return accessToken{}, push.Unanswered(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.client.Do(request)
	if err != nil {
		return accessToken{}, push.Unanswered(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return accessToken{}, push.Unanswered(err)
	}
	return granted(now, response, body)
}

// granted reads the token endpoint's answer (RFC 6749, sections 5.1 and 5.2).
func granted(now time.Time, response *http.Response, body []byte) (accessToken, *push.Failure) {
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int32  `json:"expires_in"` // seconds
		Error       string `json:"error"`
	}
	err := json.Unmarshal(body, &answer)
	switch {
	case response.StatusCode != http.StatusOK:
		return accessToken{}, push.Refused(response.StatusCode, response.Header, answer.Error)
	case err != nil || answer.AccessToken == "" || answer.ExpiresIn <= 0:
		return accessToken{}, push.Unanswered(errNoToken)
	}
	life := min(time.Duration(answer.ExpiresIn)*time.Second, maxLife)
	return accessToken{
		value:   answer.AccessToken,
		renew:   now.Add(life - min(renewBefore, life/2)),
		expires: now.Add(life),
	}, nil
}

func (s *tokenSource) assertion(now time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss":   s.account.Email,
		"scope": scope,
		"aud":   s.account.TokenURI,
		"iat":   now.Unix(),
		"exp":   now.Add(assertionLife).Unix(),
	})
	t.Header["kid"] = s.account.KeyID
	return t.SignedString(s.account.key)
}
