package rest

import (
	_ "embed"
	"io"
	"net/http"
)

// document describes all calls under /v1/, as OpenAPI 3.1 has it. It is written
// by hand; tests hold it against the code.
//
//go:embed openapi.json
var document string

// openAPI answers GET /v1/openapi.json, for which nobody needs a credential.
func (h *Handler) openAPI(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "public, max-age=300")
	_, _ = io.WriteString(w, document)
}
