// Package fcm sends notifications to Android's devices, and to Apple's whose
// apps are registered with Google, by the HTTP v1 API of Firebase Cloud Messaging.
//
// An app finds in a message's data what is in the notification's Data, and
// "dismiss": the collapse id of what it is to take back, which is also the tag
// of what was shown.
package fcm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/push"
)

// Config says who sends.
type Config struct {
	Credentials []byte         // a service account's key file, as Google hands it out
	Endpoint    string         // "" for Google's; else https://host:port
	RootCAs     *x509.CertPool // nil for the system's
}

const (
	standardEndpoint = "https://fcm.googleapis.com"
	attemptTimeout   = 30 * time.Second // of one attempt, with a new access token
	maxAnswer        = 64 << 10         // bytes
)

// Sender sends to one project's apps. It is safe for concurrent use. It goes by
// the proxy that the environment names, if any.
type Sender struct {
	url       string
	tokens    *tokenSource
	client    *http.Client
	transport *http.Transport
}

var _ push.Sender = (*Sender)(nil)

// New returns a Sender. It does not connect.
func New(c Config) (*Sender, error) {
	account, err := parseAccount(c.Credentials)
	if err != nil {
		return nil, err
	}
	if c.Endpoint == "" {
		c.Endpoint = standardEndpoint
	}
	if !isHTTPS(c.Endpoint) {
		return nil, errors.New("fcm: the endpoint must be https")
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		IdleConnTimeout:        5 * time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Sender{
		url:       strings.TrimSuffix(c.Endpoint, "/") + "/v1/projects/" + url.PathEscape(account.ProjectID) + "/messages:send",
		tokens:    newTokenSource(account, client),
		client:    client,
		transport: transport,
	}, nil
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

// Send implements [push.Sender]. An attempt takes at most 30 seconds; one whose
// access token is refused is made once more with a new one.
func (s *Sender) Send(ctx context.Context, to push.Token, n push.Notification) error {
	if to.Service != push.FCM {
		return &push.Failure{Reason: "another service's token"}
	}
	to, err := push.ValidToken(to)
	if err != nil {
		return &push.Failure{Reason: "malformed token", Gone: true, Cause: err}
	}
	body, err := newMessage(to, n, time.Now())
	if err != nil {
		return &push.Failure{Reason: "message too large", Cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	used, f := s.attempt(ctx, body)
	if f != nil && f.Reason == unauthenticated {
		s.tokens.forget(used)
		_, f = s.attempt(ctx, body)
	}
	if f != nil {
		return f
	}
	return nil
}

// attempt makes one request. It returns the access token it used.
func (s *Sender) attempt(ctx context.Context, body []byte) (access string, _ *push.Failure) {
	access, f := s.tokens.token(ctx)
	if f != nil {
		return "", f
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return access, push.Unanswered(err)
	}
	request.Header.Set("Authorization", "Bearer "+access)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := s.client.Do(request)
	if err != nil {
		return access, push.Unanswered(err)
	}
	defer response.Body.Close()
	// An answer that breaks off is judged by its status.
	answer, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode == http.StatusOK {
		return access, nil
	}
	return access, refused(response.StatusCode, response.Header, answer)
}

// Close closes the connections that are idle.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }
