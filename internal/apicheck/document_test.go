package apicheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/errors"
)

// described is what the test reads of the document for itself: the examples.
type described struct {
	Paths map[string]map[string]operation
}

type operation struct {
	method, path string

	OperationID string
	Security    []map[string]any
	Parameters  []struct {
		Name, In string
		Example  any
	}
	RequestBody struct {
		Content map[string]struct{ Example json.RawMessage }
	}
}

func open(t *testing.T) (validator.Validator, []operation) {
	t.Helper()
	text, err := os.ReadFile("../../gateway/rest/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var read described
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	var all []operation
	for _, path := range slices.Sorted(maps.Keys(read.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(read.Paths[path])) {
			op := read.Paths[path][method]
			op.method, op.path = strings.ToUpper(method), path
			all = append(all, op)
		}
	}
	return v, all
}

// request makes the request that the examples of an operation show.
func (op operation) request(t *testing.T, base string, key func(scheme string) string) *http.Request {
	t.Helper()
	path, query := op.path, make(url.Values)
	for _, p := range op.Parameters {
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Example))
		case p.In == "query" && p.Example != nil:
			if many, is := p.Example.([]any); is {
				for _, one := range many {
					query.Add(p.Name, fmt.Sprint(one))
				}
			} else {
				query.Add(p.Name, fmt.Sprint(p.Example))
			}
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	body := op.RequestBody.Content["application/json"].Example
	r, err := http.NewRequestWithContext(t.Context(), op.method, base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, scheme := range op.Security {
		for name := range scheme {
			r.Header.Set("Authorization", "Bearer "+key(name))
		}
	}
	return r
}

func TestDocument(t *testing.T) {
	v, _ := open(t)
	if ok, errs := v.ValidateDocument(); !ok {
		t.Error(told(errs))
	}
}

// Every example is asked of a real server, some after what they need and some
// not, and each answer, refusals among them, is as the document has it.
func TestAnswers(t *testing.T) {
	v, all := open(t)
	s := start(t)
	taken := make(map[string]bool)
	for range 2 { // the second time what the examples are about is there
		for _, op := range all {
			if op.OperationID == "stream" || op.OperationID == "drain" { // does not end; ends the server
				continue
			}
			t.Run(op.OperationID, func(t *testing.T) {
				resp, err := http.DefaultClient.Do(op.request(t, s.url, s.key))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body = io.NopCloser(bytes.NewReader(body))
				if ok, errs := v.ValidateHttpRequestResponse(op.request(t, s.url, s.key), resp); !ok {
					t.Errorf("%s %s: %s", resp.Status, body, told(errs))
				}
				taken[op.OperationID] = taken[op.OperationID] || resp.StatusCode == http.StatusOK
			})
		}
	}
	var refused []string
	for _, op := range all {
		if !taken[op.OperationID] {
			refused = append(refused, op.OperationID)
		}
	}
	if len(refused) > len(all)/2 { // those that need another user, or what this server has no settings for
		t.Errorf("only refusals were seen of %q", refused)
	}
	t.Logf("of %d calls refused: %q", len(all), refused)
}

// An answer that is not as the document has it is noticed.
func TestWrongAnswer(t *testing.T) {
	v, all := open(t)
	at := slices.IndexFunc(all, func(op operation) bool { return op.OperationID == "mesh" })
	r := all[at].request(t, "http://a", func(string) string { return "key" })
	answer := &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"servers":[{}]}`)),
	}
	if ok, _ := v.ValidateHttpResponse(r, answer); ok {
		t.Error("a server without a name is taken for one")
	}
}

func told(errs []*errors.ValidationError) string {
	var text []string
	for _, err := range errs {
		text = append(text, err.Error())
		for _, why := range err.SchemaValidationErrors {
			text = append(text, why.Error())
		}
	}
	return strings.Join(text, "\n")
}
