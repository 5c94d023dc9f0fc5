package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// API makes HTTP calls. Its methods are safe for concurrent use. They try the
// servers in turn; a call that may not be made twice goes to the next one only
// if the first could not be reached, or says that it has done nothing. Errors of
// a server are [*envelope.Error]; of several, the one that ended the call is
// found, or the first, if all were tried in vain.
type API struct {
	Servers    []string                                  // base URLs
	AuthKey    func(ctx context.Context) (string, error) // the credential; nil: none, see [API.Guest]
	HTTPClient *http.Client                              // nil: [http.DefaultClient]
}

// Node is a server that a device may connect to.
type Node struct {
	NodeID          envelope.ServerID `json:"node_id"`
	URL             string            `json:"url"`
	ProxyURL        string            `json:"proxy_url"`
	ValidationToken string            `json:"validation_token"` // for this node and device, once
}

// SendHTTP sends one message without a connection. Without an id it is not
// tried a second time once it may have been taken.
func (a *API) SendHTTP(ctx context.Context, e envelope.Envelope) (Ack, error) {
	var reply struct {
		ID      string `json:"id"`
		Seq     uint64 `json:"seq"`
		Log     string `json:"log"`
		Offline bool   `json:"offline"`
	}
	err := a.call(ctx, http.MethodPost, "/v1/messages", e.AppendRequest(nil), &reply, e.ID != "")
	if err != nil {
		return Ack{}, err
	}
	ack := Ack{ID: reply.ID, Seq: reply.Seq, Offline: reply.Offline}
	if reply.Log != "" {
		ack.Log, err = envelope.ParseAddress(reply.Log)
	}
	return ack, err
}

// connect is the pre-connection call: up to three nodes, best first.
func (a *API) connect(ctx context.Context, base string, session envelope.SessionID, proxy bool) ([]Node, error) {
	var body []byte
	if session != "" || proxy {
		body, _ = json.Marshal(struct {
			Session envelope.SessionID `json:"session_id,omitempty"`
			Proxy   bool               `json:"proxy,omitempty"`
		}{session, proxy})
	}
	var reply struct {
		Servers []Node `json:"servers"`
	}
	err := a.do(ctx, http.MethodPost, base, "/v1/connect", body, &reply)
	return reply.Servers, err
}

func (a *API) post(ctx context.Context, path string, body, reply any, again bool) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return a.call(ctx, http.MethodPost, path, raw, reply, again)
}

// call makes a call at one server after the other until one answers; again
// says that it may be made twice.
func (a *API) call(ctx context.Context, method, path string, body []byte, reply any, again bool) error {
	var errs []error
	for _, base := range a.Servers {
		err := a.do(ctx, method, base, path, body, reply)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !another(err, again) {
			return ended(err, errs)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ended returns the error of a call that one of several servers has ended. Those before
// it are told, but not to be found: their codes do not say what has become of the call.
func ended(err error, before []error) error {
	if len(before) == 0 {
		return err
	}
	return fmt.Errorf("%w; before that: %v", err, errors.Join(before...))
}

// another reports whether a call that failed is for another server to try; again
// says that it may be made twice.
func another(err error, again bool) bool {
	refused, answered := errors.AsType[*envelope.Error](err)
	if !answered {
		return again || unreached(err)
	}
	switch refused.Code {
	case envelope.Busy, envelope.Internal: // it may have been done
		return again
	default:
		return refused.Code.Retry()
	}
}

// unreached reports whether err shows that no request has been sent.
func unreached(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// maxReply bounds the reply that is read.
const maxReply = 16 << 20

func (a *API) do(ctx context.Context, method, base, path string, body []byte, reply any) error {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if a.AuthKey != nil {
		key, err := a.AuthKey(ctx)
		if err != nil {
			return fmt.Errorf("client: auth key: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := cmp.Or(a.HTTPClient, http.DefaultClient).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return problem(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(reply); err != nil {
		return fmt.Errorf("client: reply to %s %s: %w", method, path, err)
	}
	return nil
}

// problem returns the error that a reply of another status than 2xx carries as
// application/problem+json (RFC 9457). Without one, as from a proxy, only the
// refusal of the credential is taken for the server's word.
func problem(resp *http.Response) error {
	var p struct {
		Title   string        `json:"title"`
		Detail  string        `json:"detail"`
		Code    envelope.Code `json:"code"`
		RetryMS int64         `json:"retry_ms"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(raw, &p) == nil && p.Code != "" {
		if p.Detail == "" {
			p.Detail = p.Title
		}
		return &envelope.Error{Code: p.Code, Detail: p.Detail, RetryMS: p.RetryMS}
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return envelope.Errorf(envelope.Unauthorized, "%s", resp.Status)
	case http.StatusForbidden:
		return envelope.Errorf(envelope.Forbidden, "%s", resp.Status)
	}
	return fmt.Errorf("client: %s answered %s", resp.Request.URL.Host, resp.Status)
}
