package apns

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/allsparkrt/allspark/push"
)

const (
	dialTimeout = 10 * time.Second // and as much for TLS
	// A connection that is silent for pingAfter is asked for a sign of life,
	// and given up without one after pingTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 15 * time.Second
)

// maxInFlight bounds the requests that wait for their answers. It is well below
// the streams that Apple allows: past those, there would be another connection.
const maxInFlight = 100

// environment is Apple's production or development service, by one connection.
//
// On a new connection Apple takes one request at a time until it has seen a
// provider's token in one. A client that sends many has them refused and waits
// seconds for each; one that opens a connection for each passes for an attack. So
// the first request goes alone.
type environment struct {
	client *apns2.Client

	slots    chan struct{} // holds one for each request under way
	first    chan struct{} // holds one: the request that goes alone
	answered atomic.Bool   // the connection has had an answer
}

// newEnvironment returns a service by its URL; the token is nil where the
// configuration has a certificate.
func newEnvironment(host string, bearer *token.Token, config *tls.Config) *environment {
	e := &environment{slots: make(chan struct{}, maxInFlight), first: make(chan struct{}, 1)}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			e.answered.Store(false)
			return dialer.DialContext(ctx, network, addr)
		},
		TLSClientConfig:        config.Clone(), // the transport writes into it
		TLSHandshakeTimeout:    dialTimeout,
		Protocols:              new(http.Protocols),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxResponseHeaderBytes: 64 << 10,
	}
	transport.Protocols.SetHTTP2(true)
	e.client = &apns2.Client{Host: host, Token: bearer, HTTPClient: &http.Client{
		Transport:     recorder{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return e
}

// attempt makes one request and returns why it failed, or nil.
func (e *environment) attempt(ctx context.Context, m *apns2.Notification) *push.Failure {
	if err := acquire(ctx, e.slots); err != nil {
		return push.Unanswered(err)
	}
	defer release(e.slots)
	if !e.answered.Load() {
		if err := acquire(ctx, e.first); err != nil {
			return push.Unanswered(err)
		}
		if e.answered.Load() {
			release(e.first)
		} else {
			defer release(e.first)
		}
	}
	var got answer
	response, err := e.client.PushWithContext(context.WithValue(ctx, answerKey{}, &got), m)
	e.answered.Store(got.status != 0)
	switch {
	case got.status == http.StatusOK:
		return nil
	case got.status == 0:
		return push.Unanswered(err)
	case err != nil: // refused with a body that is not Apple's, by something in between
		return push.Refused(got.status, got.header, "")
	}
	return refused(got, response)
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(slots chan struct{}) { <-slots }
