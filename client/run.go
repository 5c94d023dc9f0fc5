package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// dialTimeout bounds each step of opening a connection.
const dialTimeout = 10 * time.Second

// final marks an error that connecting again does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// run keeps a connection until the client ends.
func (c *Client) run() {
	why := c.keepConnected()
	if c.closed() {
		why = ErrClosed
	}
	c.cancel()
	c.mu.Lock()
	c.err = why
	c.state = Closed
	unanswered := c.out.empty()
	c.mu.Unlock()
	for _, p := range unanswered {
		p.done(Ack{}, why)
	}
	c.tell(Closed, why)
	close(c.done)
}

// keepConnected returns why the client cannot be connected any more.
func (c *Client) keepConnected() error {
	refusals := 0 // of tokens, one after the other
	var before error
	for {
		opened, err := c.connectOnce()
		lasted := time.Duration(0)
		if !opened.IsZero() {
			lasted = time.Since(opened)
			refusals = 0
		}
		if lasted >= stable {
			c.backoff.reset()
		}
		if f, ok := errors.AsType[final](err); ok {
			return f.error
		}
		if c.closed() || c.ctx.Err() != nil {
			if before != nil && errors.Is(err, context.Canceled) {
				return before // an attempt that was called off does not say what was wrong
			}
			return err
		}
		before = err
		if errors.Is(err, errToken) {
			if refusals++; refusals > 1 {
				return err
			}
		}
		wait := c.wait(err)
		c.opts.Logger.Info("connection over", "reason", err, "lasted", lasted, "again_in", wait)
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return err
		}
	}
}

// wait returns how long to wait before the next connection: until the moment
// the server named when it asked the client to leave, else the back-off, and
// not less than what a refusal asks for.
func (c *Client) wait(why error) time.Duration {
	c.mu.Lock()
	resumeAt := c.resumeAt
	c.resumeAt = time.Time{}
	c.mu.Unlock()
	if !resumeAt.IsZero() {
		return max(time.Until(resumeAt), 0)
	}
	wait := c.backoff.next()
	if e, ok := errors.AsType[*envelope.Error](why); ok {
		wait = max(wait, time.Duration(e.RetryMS)*time.Millisecond)
	}
	return wait
}

// connectOnce opens a connection and serves it until it is over. opened is
// zero when there never was one.
func (c *Client) connectOnce() (opened time.Time, err error) {
	nodes, err := c.locate()
	if err != nil {
		return time.Time{}, err
	}
	var errs []error
	for _, n := range nodes {
		l, err := c.open(n)
		if err == nil {
			opened = time.Now()
			return opened, l.serve()
		}
		if _, ok := errors.AsType[final](err); ok {
			return time.Time{}, err
		}
		errs = append(errs, err)
	}
	return time.Time{}, errors.Join(errs...)
}

// locate makes the pre-connection call at one server after the other.
func (c *Client) locate() ([]Node, error) {
	bases := append(c.prefer, c.servers...)
	c.prefer = nil
	var errs []error
	for _, base := range bases {
		ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
		nodes, err := c.connect(ctx, base, c.opts.Session, c.opts.Proxy)
		cancel()
		if e, ok := errors.AsType[*envelope.Error](err); ok && !e.Code.Retry() {
			return nil, final{err}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, n := range nodes {
			if !slices.Contains(c.servers, n.URL) && len(c.servers) < len(c.opts.Servers)+maxLearned {
				c.servers = append(c.servers, n.URL)
			}
		}
		if len(nodes) == 0 {
			errs = append(errs, fmt.Errorf("client: %s names no servers", base))
			continue
		}
		return nodes, nil
	}
	return nil, errors.Join(errs...)
}

// maxLearned bounds the servers remembered from replies.
const maxLearned = 16

// errToken means that the validation token was refused.
var errToken = errors.New("client: the validation token was refused")

// open opens the WebSocket to a node and exchanges hellos. The token goes as a
// subprotocol: URLs end up in logs.
func (c *Client) open(n Node) (_ *link, err error) {
	url := n.URL
	if c.opts.Proxy && n.ProxyURL != "" {
		url = n.ProxyURL
	}
	l := newLink(c)
	defer func() {
		if err != nil {
			l.cancel(err)
		}
	}()
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, strings.TrimSuffix(url, "/")+"/ws", &websocket.DialOptions{
		HTTPClient:     c.opts.HTTPClient,
		Subprotocols:   []string{subprotocol, "bearer." + n.ValidationToken},
		OnPingReceived: l.pinged,
	})
	switch {
	case err == nil:
	case resp != nil && resp.StatusCode == http.StatusUnauthorized:
		return nil, errors.Join(errToken, err)
	case resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, problem(resp)
	default:
		return nil, err
	}
	l.ws = ws
	if got := ws.Subprotocol(); got != subprotocol {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("client: %s speaks %q, not %s", url, got, subprotocol)
	}
	if err := l.hello(ctx); err != nil {
		_ = ws.CloseNow()
		return nil, reading(err)
	}
	return l, nil
}

const subprotocol = "allspark.v2.json"

// reading says what the error of a read asks for.
func reading(err error) error {
	ce, ok := errors.AsType[websocket.CloseError](err)
	if !ok {
		return err
	}
	refused := &envelope.Error{Code: codeOfClose(int(ce.Code)), Detail: ce.Reason}
	err = fmt.Errorf("client: connection closed by the server (%d): %w", int(ce.Code), refused)
	switch meaningOfClose(int(ce.Code)) {
	case stayAway:
		return final{err}
	case askForToken:
		return errors.Join(errToken, err)
	}
	return err
}

func (c *Client) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}
