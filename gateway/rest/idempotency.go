package rest

import (
	"net/http"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// idempotencyKey returns the header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07),
// in quotes or without; "" when there is none. It stands in for the id of what a
// call makes, so nothing has to be remembered for it. Other calls need none.
func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if bare, quoted := strings.CutPrefix(key, `"`); quoted {
		key, quoted = strings.CutSuffix(bare, `"`)
		if !quoted {
			key = ""
		}
	}
	if len(values) > 1 || !envelope.ValidID(key) {
		return "", envelope.Errorf(envelope.BadRequest, "Idempotency-Key has the form of an id, such as a UUID")
	}
	return key, nil
}
