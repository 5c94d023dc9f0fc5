package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// answers are the schemas of what the OpenAPI document has calls answered with.
type answers struct {
	patterns *http.ServeMux                // finds the call of a request
	taken    map[string]*jsonschema.Schema // by pattern
	refused  *jsonschema.Schema
}

// documentedAnswers reads the document once for all tests.
var documentedAnswers = sync.OnceValues(func() (*answers, error) {
	text, err := os.ReadFile("../gateway/rest/openapi.json")
	if err != nil {
		return nil, err
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var read struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(apiURL, whole); err != nil {
		return nil, err
	}
	a := &answers{patterns: http.NewServeMux(), taken: make(map[string]*jsonschema.Schema)}
	if a.refused, err = c.Compile(apiURL + "#/components/schemas/Problem"); err != nil {
		return nil, err
	}
	for path, of := range read.Paths {
		for method := range of {
			if path == "/v1/stream" { // whose answer does not end
				continue
			}
			at := apiURL + "#/paths/" + strings.NewReplacer("/", "~1", "{", "%7B", "}", "%7D").Replace(path) + "/" + method
			pattern := strings.ToUpper(method) + " " + path
			if a.taken[pattern], err = c.Compile(at + "/responses/200/content/application~1json/schema"); err != nil {
				return nil, err
			}
			a.patterns.Handle(pattern, http.NotFoundHandler())
		}
	}
	return a, nil
})

// check holds an answer against the document.
func (a *answers) check(pattern string, status int, kind string, body []byte) error {
	schema, want := a.taken[pattern], "application/json"
	if status != http.StatusOK {
		schema, want = a.refused, "application/problem+json"
	}
	answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(answer)
	}
	if err == nil && kind != want {
		err = fmt.Errorf("its type is %q", kind)
	}
	return err
}

// documented serves calls, and fails the test for any that is not answered as
// the document has it.
func (m *mesh) documented(next http.Handler) http.Handler {
	a, err := documentedAnswers()
	if err != nil {
		m.t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := a.patterns.Handler(r)
		if pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		kept := &keptAnswer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(kept, r)
		if r.Method == http.MethodHead || r.Context().Err() != nil {
			return
		}
		if err := a.check(pattern, kept.status, w.Header().Get("Content-Type"), kept.body.Bytes()); err != nil {
			m.t.Errorf("%s is answered with %d %s, which the document does not say: %v", pattern, kept.status, kept.body.Bytes(), err)
		}
	})
}

// keptAnswer keeps what is answered.
type keptAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keptAnswer) WriteHeader(status int) {
	k.status = status
	k.ResponseWriter.WriteHeader(status)
}

func (k *keptAnswer) Write(p []byte) (int, error) {
	k.body.Write(p)
	return k.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (k *keptAnswer) Unwrap() http.ResponseWriter { return k.ResponseWriter }
