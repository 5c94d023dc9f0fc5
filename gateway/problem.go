package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Problem is the body of every refused HTTP call: a problem document (RFC 9457)
// with the code that clients decide on.
type Problem struct {
	Title   string        `json:"title"`
	Status  int           `json:"status"`
	Detail  string        `json:"detail,omitempty"`
	Code    envelope.Code `json:"code"`
	RetryMS int64         `json:"retry_ms,omitempty"`
}

// Refuse answers an HTTP call with err, and counts it.
func Refuse(w http.ResponseWriter, core Core, log *slog.Logger, err error) {
	core.Refused(envelope.CodeOf(err))
	WriteError(w, log, err)
}

// WriteError answers an HTTP call with err as a [Problem]. What only operators
// may know goes to the log; log may be nil.
func WriteError(w http.ResponseWriter, log *slog.Logger, err error) {
	e := envelope.AsError(err)
	status := e.Code.HTTPStatus()
	if by, ok := errors.AsType[*StatusError](err); ok {
		status = by.Status
	}
	if log != nil && e.Cause != nil {
		level := slog.LevelDebug
		if e.Code == envelope.Internal || e.Code == envelope.Busy {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "call refused", "code", e.Code, "cause", e.Cause)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if e.Code == envelope.Unauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="allspark"`)
	}
	if e.RetryMS > 0 {
		seconds := math.Ceil(float64(e.RetryMS) / float64(time.Second/time.Millisecond))
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.WriteHeader(status)
	// The connection may be gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(Problem{
		Title: e.Code.Title(), Status: status, Detail: e.Detail, Code: e.Code, RetryMS: e.RetryMS,
	})
}

// WriteJSON answers an HTTP call with a value.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	jsonHeader(w)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// WriteVerbatim answers an HTTP call with JSON as it is. Messages in it are
// handed on byte for byte, which encoding/json does not do.
func WriteVerbatim(w http.ResponseWriter, text []byte) {
	jsonHeader(w)
	_, _ = w.Write(text)
}

func jsonHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
}
