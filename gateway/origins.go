package gateway

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// Origins are the web origins whose pages may use a server, besides its own:
// patterns of [path.Match] for a host with its port, or with "://" for a scheme
// with both. Case does not matter.
type Origins []string

// What pages may do with another origin's answer to a call.
const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
	corsExposed = "Retry-After"
	corsMaxAge  = "7200" // seconds; browsers keep it no longer
)

// Share answers browsers that ask whether a page may call next (Fetch standard,
// section 3.2, "CORS protocol"), and lets pages of these origins read its
// answers. Credentials travel in a header that a page must set itself and never
// in cookies, so that a page can do nothing in the name of who looks at it, and
// calls of other origins need not be refused: their answers cannot be read.
func (o Origins) Share(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		allowed := o.allow(r)
		if allowed {
			h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			h.Set("Access-Control-Expose-Headers", corsExposed)
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if allowed {
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", corsMaxAge)
		}
		w.WriteHeader(http.StatusNoContent) // which without these headers is a no
	})
}

// allow reports whether a request comes from a page that may use the server. It
// asks what is asked of the handshake of a WebSocket.
func (o Origins) allow(r *http.Request) bool {
	u, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || u.Host == "" { // "null" is everybody's
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, pattern := range o {
		from := u.Host
		if strings.Contains(pattern, "://") {
			from = u.Scheme + "://" + u.Host
		}
		if ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(from)); ok && err == nil {
			return true
		}
	}
	return false
}
