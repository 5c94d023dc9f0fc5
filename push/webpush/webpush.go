// Package webpush sends notifications to browsers: Web Push (RFC 8030) with
// encrypted messages (RFC 8291) from a server that says who it is (VAPID, RFC
// 8292).
//
// A service worker finds in a message the JSON of [Message].
//
// The endpoints come from users, and this package makes the server talk to
// them: only by https, to public addresses and the ports allowed, and without
// following redirects. No proxy is used, as it would connect unchecked.
package webpush

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/push"
)

// Config says who sends and where it may.
type Config struct {
	// Key is the application server's private key, of the curve P-256: PKCS #8
	// or SEC 1 in PEM, or its 32 bytes in base64url as many tools print them.
	Key     []byte
	Subject string // whom a push service can ask: mailto:address or https://page

	Ports   []uint16       // that endpoints may have; nil for 443
	RootCAs *x509.CertPool // nil for the system's
	// Loopback is for tests: this machine's own addresses may be sent to.
	Loopback bool
}

const (
	attemptTimeout = 30 * time.Second // of one attempt, with connecting
	defaultTTL     = 28 * 24 * time.Hour
)

// Sender sends for one application server. It is safe for concurrent use, and
// keeps connections.
type Sender struct {
	vapid     *vapid
	client    *http.Client
	transport *http.Transport
}

var _ push.Sender = (*Sender)(nil)

// New returns a Sender. It does not connect.
func New(c Config) (*Sender, error) {
	v, err := newVAPID(c.Key, c.Subject)
	if err != nil {
		return nil, err
	}
	if c.Ports == nil {
		c.Ports = []uint16{443}
	}
	transport := newTransport(c)
	return &Sender{
		vapid:     v,
		transport: transport,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// PublicKey returns the key that browsers subscribe with (the Push API's
// applicationServerKey), in base64url.
func (s *Sender) PublicKey() string { return s.vapid.public }

// Send implements [push.Sender]. An attempt takes at most 30 seconds.
func (s *Sender) Send(ctx context.Context, to push.Token, n push.Notification) error {
	if to.Service != push.WebPush {
		return &push.Failure{Reason: "another service's token"}
	}
	to, err := push.ValidToken(to)
	if err != nil {
		return &push.Failure{Reason: "malformed token", Gone: true, Cause: err}
	}
	body, err := newBody(to, n)
	if err != nil {
		return &push.Failure{Reason: "message too large", Cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := s.request(ctx, to, n, body)
	if err != nil {
		return &push.Failure{Reason: "message not signed", Cause: err}
	}
	response, err := s.client.Do(request)
	if err != nil {
		f := push.Unanswered(err)
		if errors.Is(err, ErrAddress) {
			f.Reason, f.Retry, f.Inner = "address not allowed", false, true
		}
		return f
	}
	defer response.Body.Close()
	return judge(response.StatusCode, response.Header)
}

func (s *Sender) request(ctx context.Context, to push.Token, n push.Notification, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Value, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the endpoint is no URL") // without it
	}
	authorization, err := s.vapid.authorization(origin(r.URL), time.Now())
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Content-Encoding", "aes128gcm")
	r.Header.Set("TTL", strconv.FormatInt(int64(ttl(n.Expires, time.Now())/time.Second), 10))
	urgency := "normal"
	if n.Urgent {
		urgency = "high"
	}
	r.Header.Set("Urgency", urgency)
	if n.CollapseID != "" {
		r.Header.Set("Topic", topic(n.CollapseID))
	}
	return r, nil
}

// judge says what a status means (RFC 8030, sections 5 and 7.3). Nothing else of an
// answer is looked at: it may come from anybody.
//
// A 401 or 403 leaves the token alone: a server with another key would lose
// them all.
func judge(status int, header http.Header) error {
	if status >= 200 && status < 300 {
		return nil
	}
	f := push.Refused(status, header, "")
	f.Gone = status == http.StatusNotFound || status == http.StatusGone
	return f
}

// origin is the audience of a VAPID token (RFC 6454, section 6.1).
func origin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	return "https://" + strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":")
}

// ttl returns how long the push service keeps the message.
func ttl(expires, now time.Time) time.Duration {
	if expires.IsZero() {
		return defaultTTL
	}
	left := min(max(expires.Sub(now), 0), defaultTTL)
	return (left + time.Second - 1).Truncate(time.Second)
}

// topic makes a Topic of a collapse id: at most 32 characters of base64url (RFC
// 8030, section 5.4), from which the push service learns nothing.
func topic(collapse string) string {
	sum := sha256.Sum256([]byte(collapse))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// Close closes the connections that are idle.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }
