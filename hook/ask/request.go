package ask

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"

	"github.com/allsparkrt/allspark/hook"
)

const (
	// maxReply bounds an answer, in bytes; a longer one is none.
	maxReply = 16 << 10
	// maxReason bounds what a client is told of a reason, in bytes: it fits into
	// a close frame (RFC 6455, section 5.5).
	maxReason = 100
	idle      = time.Minute
)

var (
	errLong    = errors.New("ask: the backend's answer is too long")
	errNothing = errors.New("ask: the backend's answer has no allow")
)

// reply is the body of an answer.
type reply struct {
	Allow  *bool   `json:"allow"`
	Reason string  `json:"reason"`
	TTL    *uint64 `json:"ttl_ms"`
}

// newClient returns a client that follows no redirects: the question is for the
// backend alone.
func newClient(given *http.Client) *http.Client {
	client := new(http.Client)
	if given != nil {
		*client = *given
	} else {
		client.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: atOnce, IdleConnTimeout: idle, MaxResponseHeaderBytes: maxReply,
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

// request asks the backend once.
func (b *Backend) request(ctx context.Context, q Question) (answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "allspark")
	req.Header.Set(hook.SignatureHeader, hook.Sign(now, body, b.cfg.Secrets...))
	// Not sent when empty; it says that to ask again does no harm, should an idle
	// connection turn out to be gone.
	req.Header["Idempotency-Key"] = nil
	b.stats.Requests.Add(1)
	res, err := b.cfg.Client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL, which may hold a secret
	}
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	switch {
	case err != nil:
		return answer{}, err
	case len(said) > maxReply:
		return answer{}, errLong
	}
	return b.understand(res.StatusCode, said, now)
}

// understand returns what an answer says that was asked for at a time.
func (b *Backend) understand(status int, said []byte, now time.Time) (answer, error) {
	if status != http.StatusOK && status != http.StatusForbidden {
		return answer{}, fmt.Errorf("ask: the backend answered %d", status)
	}
	var r reply
	err := json.Unmarshal(said, &r)
	switch {
	case status == http.StatusForbidden: // whatever else it says; proxies say it in their own words
		if err != nil {
			r = reply{}
		}
		r.Allow = new(bool)
	case err != nil:
		return answer{}, fmt.Errorf("ask: the backend's answer: %w", err)
	case r.Allow == nil:
		return answer{}, errNothing
	}
	keep := b.cfg.Keep
	if r.TTL != nil && *r.TTL < uint64(keep.Milliseconds()) {
		keep = time.Duration(*r.TTL) * time.Millisecond
	}
	return answer{*r.Allow, printable(r.Reason), now.Add(keep)}, nil
}

// printable returns what a client may be told of a reason.
func printable(reason string) string {
	var told strings.Builder
	for _, r := range reason {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			continue
		}
		if told.Len()+len(string(r)) > maxReason {
			break
		}
		told.WriteRune(r)
	}
	return told.String()
}
