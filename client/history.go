package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// HistoryQuery asks for a page of a log that the caller may read: its own, its
// user's, or that of a session, there what falls into the caller's stays.
type HistoryQuery struct {
	Log   envelope.Address
	Limit int // messages at most; 0: 100, up to 1,000

	// Forwards: what is behind After and not before Since.
	After uint64
	Since time.Time

	// Backwards: what is before Before, 0 being the end of the log, and not
	// after Until.
	Back   bool
	Before uint64
	Until  time.Time
}

// Page is a part of a log, in rising order. Each message is as its last edit has
// left it; one that was edited has a member "edited", one that was deleted has
// "deleted" and nothing else. Forwards the edits and deletions are among the
// messages, so that who goes on from what it has learns of them.
type Page struct {
	Messages []envelope.Envelope
	Floor    uint64 // what was below it is gone
	Head     uint64 // the last that the caller may see
	Next     uint64 // After, or backwards Before, of the next page
	More     bool   // there is one
}

// History returns a page of a log. It may be shorter than the limit, also empty,
// and not the last.
func (a *API) History(ctx context.Context, q HistoryQuery) (Page, error) {
	var reply struct {
		Messages   []json.RawMessage `json:"messages"`
		Floor      uint64            `json:"floor"`
		Head       uint64            `json:"head"`
		Next, Prev uint64
		More       bool `json:"more"`
	}
	if err := a.call(ctx, http.MethodGet, "/v1/messages?"+q.values().Encode(), nil, &reply, true); err != nil {
		return Page{}, err
	}
	page := Page{
		Messages: make([]envelope.Envelope, len(reply.Messages)),
		Floor:    reply.Floor, Head: reply.Head, Next: max(reply.Next, reply.Prev), More: reply.More,
	}
	p := envelope.Parser{From: envelope.FromServer}
	for i, raw := range reply.Messages {
		var err error
		if page.Messages[i], err = p.Parse(raw); err != nil {
			return Page{}, fmt.Errorf("client: history of %v: %w", q.Log, err)
		}
	}
	return page, nil
}

func (q *HistoryQuery) values() url.Values {
	v := url.Values{"log": {q.Log.String()}}
	number := func(name string, n uint64) {
		if n > 0 {
			v.Set(name, strconv.FormatUint(n, 10))
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Set(name, strconv.FormatInt(max(t.UnixMilli(), 0), 10))
		}
	}
	number("limit", uint64(max(q.Limit, 0)))
	if q.Back {
		v.Set("before", strconv.FormatUint(q.Before, 10))
		at("until", q.Until)
	} else {
		number("after", q.After)
		at("since", q.Since)
	}
	return v
}
