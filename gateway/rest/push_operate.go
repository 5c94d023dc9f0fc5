package rest

import (
	"net/http"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type pushTestRequest struct {
	NodeID envelope.NodeID `json:"node_id"` // default the caller's; another for the app only
	Title  string          `json:"title"`
	Body   string          `json:"body"`
}

type pushTestReply struct {
	Tokens []pushTryReply `json:"tokens"`
}

type pushTryReply struct {
	Service string `json:"service"`
	Token   string `json:"token"` // a digest that tells tokens apart
	Sent    bool   `json:"sent"`
	Reason  string `json:"reason,omitempty"` // why not
	Gone    bool   `json:"gone,omitempty"`   // the token is dead, and dropped
	Retry   bool   `json:"retry,omitempty"`  // it may be taken later
	RetryMS int64  `json:"retry_ms,omitempty"`
}

// testPush answers POST /v1/push/test.
func (h *Handler) testPush(r *http.Request, who auth.Verified) (any, error) {
	req := pushTestRequest{Title: "AllSpark", Body: "This is a test."}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.TestPush{Node: req.NodeID, Title: req.Title, Body: req.Body})
	if err != nil {
		return nil, err
	}
	reply := pushTestReply{Tokens: []pushTryReply{}}
	for _, try := range ev.(gateway.PushTested).Of {
		reply.Tokens = append(reply.Tokens, pushTryReply{
			Service: try.Service, Token: try.Token, Sent: try.Sent, Reason: try.Reason, Gone: try.Gone, Retry: try.Retry, RetryMS: try.After.Milliseconds(),
		})
	}
	return reply, nil
}

type failedPushesReply struct {
	Failed []failedPushReply `json:"failed"`
	Next   envelope.NodeID   `json:"next,omitempty"` // after= of the next page
	More   bool              `json:"more"`
}

type failedPushReply struct {
	NodeID   envelope.NodeID `json:"node_id"`
	At       int64           `json:"at"`            // Unix milliseconds
	Log      string          `json:"log,omitempty"` // not of a session
	Seq      uint64          `json:"seq,omitempty"`
	Service  string          `json:"service"`
	Reason   string          `json:"reason"`
	Attempts int             `json:"attempts"`
}

// failedPushes answers GET /v1/push/failed?after=&limit=.
func (h *Handler) failedPushes(r *http.Request, who auth.Verified) (any, error) {
	q, err := query(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	cmd := gateway.GetFailedPushes{After: envelope.NodeID(q.id("after")), Limit: int(q.number("limit"))}
	if q.err != nil {
		return nil, q.err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	page := ev.(gateway.FailedPushes)
	reply := failedPushesReply{Failed: []failedPushReply{}, More: page.More}
	for _, f := range page.Of {
		of := failedPushReply{NodeID: f.Node, At: f.At, Service: f.Service, Reason: f.Reason, Attempts: f.Attempts}
		if f.Seq != 0 {
			of.Log, of.Seq = f.Log.String(), f.Seq
		}
		reply.Failed = append(reply.Failed, of)
	}
	if page.More {
		reply.Next = page.Next
	}
	return reply, nil
}

// settleFailedPush answers DELETE /v1/push/failed/{id} and, with again, POST
// /v1/push/failed/{id}/retry.
func (h *Handler) settleFailedPush(again bool) func(*http.Request, auth.Verified) (any, error) {
	return func(r *http.Request, who auth.Verified) (any, error) {
		_, err := h.Core.Do(r.Context(), who.Principal, gateway.SettleFailedPush{Node: envelope.NodeID(r.PathValue("id")), Again: again})
		return struct{}{}, err
	}
}
