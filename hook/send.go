package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// errGone is a receiver's 410: it wants no more, or has been taken away.
var errGone = errors.New("hook: the receiver answered 410: it is gone")

// maxAnswer is what is read of an answer, so that its connection can be used again.
const maxAnswer = 64 << 10

// request is the body of a request.
type request struct {
	Partition int     `json:"partition"`
	Events    []Event `json:"events"`
}

// send makes one attempt. When the receiver has said how long to wait before
// the next, it returns that.
func (d *Deliverer) send(ctx context.Context, partition int, events []Event, attempt int) (after time.Duration, err error) {
	body, err := json.Marshal(request{partition, events})
	if err != nil {
		panic(err) // strings, numbers and bools
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "allspark")
	req.Header.Set("Allspark-Attempt", strconv.Itoa(attempt))
	req.Header.Set(SignatureHeader, Sign(time.Now(), body, d.cfg.Secrets...))
	res, err := d.cfg.Client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL, which may hold a secret
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	switch {
	case res.StatusCode/100 == 2:
		return 0, nil
	case res.StatusCode == http.StatusGone:
		return 0, errGone
	}
	return retryAfter(res.Header.Get("Retry-After"), time.Now()), fmt.Errorf("hook: the receiver answered %d", res.StatusCode)
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds
// or a date. It is 0 when there is none.
func retryAfter(value string, now time.Time) time.Duration {
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), mostAfter)
}
