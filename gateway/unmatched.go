package gateway

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// StatusError is a refusal by HTTP itself, whose status says more than that of
// the code does.
type StatusError struct {
	Status int
	Err    *envelope.Error
}

// Error implements error.
func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap returns the refusal, which has the code.
func (e *StatusError) Unwrap() error { return e.Err }

// Unmatched answers what no pattern of a mux with a method is for, which its
// caller registers it for: with 405 and the methods that there are for the path
// (RFC 9110, section 15.5.6), or 404. The mux itself would have said so in plain
// text, or not at all.
func Unmatched(mux *http.ServeMux, core Core, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			with := *r
			with.Method = method
			if _, pattern := mux.Handler(&with); strings.HasPrefix(pattern, method+" ") {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			Refuse(w, core, log, envelope.Errorf(envelope.NotFound, "nothing by that path"))
			return
		}
		methods := strings.Join(allowed, ", ")
		w.Header().Set("Allow", methods)
		Refuse(w, core, log, &StatusError{http.StatusMethodNotAllowed, envelope.Errorf(envelope.BadRequest, "this takes %s", methods)})
	}
}
