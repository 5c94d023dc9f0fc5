package envelope

import (
	"errors"
	"fmt"
	"net/http"
)

// Code names why something was refused. It is the only part of an error that
// clients may decide on.
type Code string

// The codes. The table below gives what each means on every transport.
const (
	BadRequest   Code = "bad_request"
	Unauthorized Code = "unauthorized"
	Forbidden    Code = "forbidden"
	NotFound     Code = "not_found"
	Conflict     Code = "conflict"
	TooLarge     Code = "too_large"
	RateLimited  Code = "rate_limited"
	Quota        Code = "quota"
	Busy         Code = "busy"
	SlowReader   Code = "slow_reader"
	Replaced     Code = "replaced"
	Revoked      Code = "revoked"
	GoingAway    Code = "going_away"
	Internal     Code = "internal"
)

// meaning is what one code means on each transport.
type meaning struct {
	http  int  // HTTP status
	close int  // WebSocket close code; 4000–4499: reconnect, 4500–4999: do not
	retry bool // the same request with the same id may succeed later
	title string
}

var meanings = map[Code]meaning{
	BadRequest:   {http.StatusBadRequest, 4500, false, "The request is malformed"},
	Unauthorized: {http.StatusUnauthorized, 4501, false, "The credential is missing or not valid"},
	Forbidden:    {http.StatusForbidden, 4502, false, "Not allowed"},
	NotFound:     {http.StatusNotFound, 4503, false, "Nothing by that name"},
	Conflict:     {http.StatusConflict, 4504, false, "It does not go with what is there"},
	TooLarge:     {http.StatusRequestEntityTooLarge, 1009, false, "Too large"},
	RateLimited:  {http.StatusTooManyRequests, 4002, true, "Too many requests"},
	Quota:        {http.StatusInsufficientStorage, 4003, true, "The destination's store is full"},
	Busy:         {http.StatusServiceUnavailable, 4004, true, "Overloaded or the store is away; try again"},
	SlowReader:   {http.StatusRequestTimeout, 4001, true, "The reader made no progress"},
	Replaced:     {http.StatusConflict, 4505, false, "The device connected again elsewhere"},
	Revoked:      {http.StatusUnauthorized, 4506, false, "The credential was revoked"},
	GoingAway:    {http.StatusServiceUnavailable, 1001, true, "The server is shutting down"},
	Internal:     {http.StatusInternalServerError, 1011, true, "Internal error"},
}

func (c Code) meaning() meaning {
	if m, ok := meanings[c]; ok {
		return m
	}
	return meanings[Internal]
}

// HTTPStatus returns the status of an HTTP reply that carries c.
func (c Code) HTTPStatus() int { return c.meaning().http }

// CloseCode returns the WebSocket close code (RFC 6455, section 7.4) for c.
// Codes from 4500 up, and 1009, tell a client not to come back with the same request.
func (c Code) CloseCode() int { return c.meaning().close }

// Retry reports whether the same request with the same id may succeed later.
func (c Code) Retry() bool { return c.meaning().retry }

// Title returns one line in English for people.
func (c Code) Title() string { return c.meaning().title }

// Error is a refusal. Detail is shown to the client and never holds what it
// has no right to know; Cause goes to the log only.
type Error struct {
	Code    Code
	Detail  string
	RetryMS int64 // when to try again, in milliseconds; 0 when unknown
	Cause   error
}

// Errorf returns an [*Error] whose detail is formatted as by fmt.Sprintf.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// BusyError returns a [Busy] error that asks to try again after retryMS milliseconds.
func BusyError(retryMS int64, detail string, cause error) *Error {
	return &Error{Code: Busy, Detail: detail, RetryMS: retryMS, Cause: cause}
}

// Error implements error.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// AsError returns err as an [*Error]. Any other error becomes [Internal] with
// err as its cause, so that its text never reaches a client.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Internal, Cause: err}
}

// CodeOf returns the code of err: "" for nil, [Internal] for an error without one.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}
