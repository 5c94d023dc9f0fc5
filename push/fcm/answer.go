package fcm

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/push"
)

// The codes that something is made of. The others are named as they come.
const (
	unregistered    = "UNREGISTERED"
	invalidArgument = "INVALID_ARGUMENT"
	// Of our credentials, or of those that the project has for other services.
	unauthenticated  = "UNAUTHENTICATED"
	permissionDenied = "PERMISSION_DENIED"
	thirdPartyAuth   = "THIRD_PARTY_AUTH_ERROR"
)

// quotaPause is how long to wait where a quota is exceeded and nothing said.
const quotaPause = time.Minute

// apiError is an error of Google's APIs, with the details that FCM adds.
type apiError struct {
	Error struct {
		Message string `json:"message"`
		Status  string `json:"status"`
		Details []struct {
			ErrorCode       string `json:"errorCode"` // of google.firebase.fcm.v1.FcmError
			FieldViolations []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"` // of google.rpc.BadRequest
		} `json:"details"`
	} `json:"error"`
}

// refused says what an answer means: FCM's own code where there is one, else
// the general one, else the status.
//
// A SENDER_ID_MISMATCH leaves the token alone: a server with another project's
// key would lose them all.
func refused(status int, header http.Header, body []byte) *push.Failure {
	var e apiError
	if err := json.Unmarshal(body, &e); err != nil {
		e = apiError{} // not from the API; the status says enough
	}
	code := e.Error.Status
	for _, d := range e.Error.Details {
		if d.ErrorCode != "" {
			code = d.ErrorCode
		}
	}
	if status == http.StatusUnauthorized && code == "" {
		code = unauthenticated
	}
	f := push.Refused(status, header, code)
	switch code {
	case unregistered:
		f.Gone = true
	case invalidArgument:
		f.Gone = e.namesToken()
	case unauthenticated, permissionDenied, thirdPartyAuth: // not the notification's fault, and put right by an operator
		f.Retry = true
	}
	if status == http.StatusTooManyRequests && f.After == 0 {
		f.After = quotaPause
	}
	return f
}

// namesToken reports whether the argument that is invalid is the token. Newer
// answers say so in their text only.
func (e *apiError) namesToken() bool {
	fields := 0
	for _, d := range e.Error.Details {
		for _, v := range d.FieldViolations {
			if v.Field == "message.token" {
				return true
			}
			fields++
		}
	}
	return fields == 0 && strings.Contains(e.Error.Message, "registration token is not a valid")
}
