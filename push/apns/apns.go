// Package apns sends notifications to Apple's devices, by the Apple Push
// Notification service's provider API over HTTP/2.
//
// An app finds in a notification, next to "aps": the notification's Data, each
// under its key (but not "aps" and "dismiss"), and "dismiss", the collapse id of
// what it is to take back, which is also the identifier that the device gave it.
package apns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/certificate"
	"github.com/sideshow/apns2/token"

	"github.com/allsparkrt/allspark/push"
)

// Config says who sends. Either a key with its id and the team's, or a
// certificate.
type Config struct {
	Key    []byte // the .p8 file: an EC private key, PKCS #8 in PEM
	KeyID  string
	TeamID string

	Certificate []byte // a .p12 file (with the old ciphers, as the keychain writes it), or PEM with the certificate and its key
	Password    string // of the .p12 file or the PEM key; "" without

	Production string         // "" for Apple's; else https://host:port, say of a relay
	Sandbox    string         // likewise, of the development environment
	RootCAs    *x509.CertPool // nil for the system's
}

// attemptTimeout is for one attempt, with connecting and a renewal.
const attemptTimeout = 30 * time.Second

// Sender sends to one team's apps. It is safe for concurrent use, and uses one
// connection to each environment, which it keeps. It goes by the proxy that the
// environment variables name, if any.
type Sender struct {
	production, sandbox *environment
	provider            *provider // nil with a certificate
}

var _ push.Sender = (*Sender)(nil)

// New returns a Sender. It does not connect.
func New(c Config) (*Sender, error) {
	s := &Sender{}
	config := &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}
	switch {
	case (len(c.Key) > 0) == (len(c.Certificate) > 0):
		return nil, errors.New("apns: either a key or a certificate is needed")
	case len(c.Key) > 0:
		p, err := newProvider(c)
		if err != nil {
			return nil, err
		}
		s.provider = p
	default:
		cert, err := loadCertificate(c.Certificate, c.Password)
		if err != nil {
			return nil, fmt.Errorf("apns: certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	var err error
	if s.production, err = s.environment(c.Production, apns2.HostProduction, config); err != nil {
		return nil, err
	}
	if s.sandbox, err = s.environment(c.Sandbox, apns2.HostDevelopment, config); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Sender) environment(host, standard string, config *tls.Config) (*environment, error) {
	if host == "" {
		host = standard
	}
	if u, err := url.Parse(host); err != nil || u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != host {
		return nil, errors.New("apns: a host must be https://host or https://host:port")
	}
	var bearer *token.Token
	if s.provider != nil {
		bearer = s.provider.token
	}
	return newEnvironment(host, bearer, config), nil
}

func loadCertificate(data []byte, password string) (tls.Certificate, error) {
	if block, _ := pem.Decode(data); block != nil {
		return certificate.FromPemBytes(data, password)
	}
	return certificate.FromP12Bytes(data, password)
}

// newProvider reads the key.
func newProvider(c Config) (*provider, error) {
	key, err := token.AuthKeyFromBytes(c.Key)
	if err != nil {
		return nil, fmt.Errorf("apns: key: %w", err)
	}
	if c.KeyID == "" || c.TeamID == "" {
		return nil, errors.New("apns: a key needs its id and the team's")
	}
	p := &provider{token: &token.Token{AuthKey: key, KeyID: c.KeyID, TeamID: c.TeamID}}
	if _, err := p.token.Generate(); err != nil { // a key of another curve
		return nil, fmt.Errorf("apns: key: %w", err)
	}
	return p, nil
}

// Send implements [push.Sender]. The token's App is the topic. An attempt takes
// at most 30 seconds; one that finds the provider's token expired has it renewed
// and is made once more.
func (s *Sender) Send(ctx context.Context, to push.Token, n push.Notification) error {
	if to.Service != push.APNs {
		return &push.Failure{Reason: "another service's token"}
	}
	to, err := push.ValidToken(to)
	if err != nil {
		return &push.Failure{Reason: "malformed token", Gone: true, Cause: err}
	}
	message, err := newMessage(to, n)
	if err != nil {
		return &push.Failure{Reason: apns2.ReasonPayloadTooLarge, Cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	at := s.production
	if to.Sandbox {
		at = s.sandbox
	}
	if s.provider == nil {
		return failed(at.attempt(ctx, message))
	}
	used := s.provider.token.GenerateIfExpired()
	f := at.attempt(ctx, message)
	if f != nil && f.Reason == apns2.ReasonExpiredProviderToken && s.provider.renew(used) {
		f = at.attempt(ctx, message)
	}
	return failed(f)
}

// failed makes an error of a failure; nil of none.
func failed(f *push.Failure) error {
	if f == nil {
		return nil
	}
	return f
}

// Close closes the connections that are idle.
func (s *Sender) Close() {
	s.production.client.CloseIdleConnections()
	s.sandbox.client.CloseIdleConnections()
}
