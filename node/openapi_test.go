package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/allsparkrt/allspark/client/clienttest"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/push"
	"github.com/allsparkrt/allspark/session"
)

// apiURL is what the document goes by where its schemas are looked up.
const apiURL = "https://allspark.invalid/openapi.json"

// apiDocument is the OpenAPI document as a server gives it.
type apiDocument struct {
	t       *testing.T
	schemas *jsonschema.Compiler
	calls   map[string]apiCall // by operationId
}

type apiCall struct {
	method, path string

	OperationID string
	Security    []map[string]any
	Parameters  []struct {
		Name, In string
		Example  any
	}
	RequestBody struct{ Content map[string]apiMedia }
	Responses   map[string]struct{ Content map[string]apiMedia }
}

type apiMedia struct{ Example json.RawMessage }

func (m *mesh) apiDocument(t *testing.T) *apiDocument {
	t.Helper()
	resp, err := m.network.Client().Get("http://a/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	var read struct{ Paths map[string]map[string]apiCall }
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	doc := &apiDocument{t, jsonschema.NewCompiler(), make(map[string]apiCall)}
	for path, of := range read.Paths {
		for method, call := range of {
			call.method, call.path = method, path
			doc.calls[call.OperationID] = call
		}
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = doc.schemas.AddResource(apiURL, whole)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// request makes the request that the examples of a call show. A call with two
// security schemes would need two examples; there is none.
func (d *apiDocument) request(call apiCall, base string, credential func(scheme string) string) *http.Request {
	d.t.Helper()
	path, query := call.path, make(url.Values)
	for _, p := range call.Parameters {
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Example))
		case p.Example == nil:
		default:
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
	r, err := http.NewRequestWithContext(d.t.Context(), strings.ToUpper(call.method), base+path,
		bytes.NewReader(call.RequestBody.Content["application/json"].Example))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, scheme := range call.Security {
		for name := range scheme {
			r.Header.Set("Authorization", "Bearer "+credential(name))
		}
	}
	return r
}

// check holds an answer against the call's schema and example.
func (d *apiDocument) check(call apiCall, answer []byte) {
	d.t.Helper()
	at := apiURL + "#/paths/" + strings.NewReplacer("/", "~1", "{", "%7B", "}", "%7D").Replace(call.path) +
		"/" + call.method + "/responses/200/content/application~1json/schema"
	schema, err := d.schemas.Compile(at)
	if err != nil {
		d.t.Fatal(err)
	}
	got, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer))
	if err == nil {
		err = schema.Validate(got)
	}
	if err != nil {
		d.t.Errorf("%s: %v", call.OperationID, err)
	}
	example := call.Responses["200"].Content["application/json"].Example
	want, err := jsonschema.UnmarshalJSON(bytes.NewReader(example))
	if err != nil || !alike(want, got) {
		d.t.Errorf("%s answers %s; the example is %s", call.OperationID, answer, example)
	}
}

// alike reports whether two JSON values are equal but for what is never twice
// the same: times and tokens.
func alike(a, b any) bool {
	oneTime := []string{
		"accepted", "at", "attempts", "auth_key", "before", "boot", "created", "cursors", "expires", "expires_in", "failing_since", "last_seen", "round_trip_us", "store_write_us",
		"timestamp", "validation_token",
	}
	switch a := a.(type) {
	case map[string]any:
		b, is := b.(map[string]any)
		if !is || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			other, there := b[name]
			if !there || !slices.Contains(oneTime, name) && !alike(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, is := b.([]any)
		return is && slices.EqualFunc(a, b, alike)
	}
	said, is := fmt.Sprint(a), fmt.Sprint(b)
	return said == is || strings.HasPrefix(said, "guest-") && strings.HasPrefix(is, "guest-")
}

// Every example of the document is executed on a mesh, in an order in which one
// call makes what the next one needs, and answered as the document says.
func TestExamplesOfTheDocument(t *testing.T) {
	steps := []struct {
		call   string
		as     string   // whose device; "" ann's
		before []string // other calls: who, method, path and body
	}{
		{call: "createSession"},
		{call: "setHeader"},
		{call: "getHeader"},
		{call: "hooks"},
		{call: "connect"},
		{call: "makeGuest"},
		{call: "send"},
		{call: "trace"},
		{call: "invite"},
		{call: "decline", as: "bob"},
		{call: "add"},
		{call: "role", before: []string{`bob POST /v1/sessions/room/join {}`}},
		{call: "kick"},
		{call: "ban"},
		{call: "unban"},
		{call: "join", as: "zed"},
		{call: "reveal", as: "zed"},
		{call: "leave", as: "zed"},
		{call: "updateSession"},
		{call: "getSession"},
		{call: "sessions"},
		{call: "history", before: []string{
			`carl POST /v1/messages {"id":"1","dest_session_id":"room","payload":"hello"}`,
			`ann POST /v1/messages {"id":"2","dest_session_id":"room","payload":"welcome"}`,
		}},
		{call: "moveCursors"},
		{call: "cursors"},
		{call: "sendMany", before: []string{
			`lost PUT /v1/push/token {"service":"fcm","token":"fcm-registration-token-that-was-lost"}`,
			`sold PUT /v1/push/token {"service":"fcm","token":"fcm-registration-token-that-was-sold"}`,
			`ann POST /v1/messages {"id":"4","dest_id":"lost-phone","payload":"hi"}`,
			`ann POST /v1/messages {"id":"5","dest_id":"sold-phone","payload":"hi"}`,
		}},
		{call: "mesh"},
		{call: "edges"},
		{call: "disconnect"},
		{call: "transfer", before: []string{`bob POST /v1/sessions/room/join {}`}},
		{call: "master", before: []string{
			`ann POST /v1/sessions {"session_id":"chess","kind":"game","anyone_can_join":true}`,
			`bob POST /v1/sessions/chess/join {}`,
		}},
		{call: "presence"},
		{call: "poll", as: "dora", before: []string{`ann POST /v1/messages {"id":"3","dest_id":"dora-phone","payload":"hi"}`}},
		{call: "pushKey"},
		{call: "putPushToken"},
		{call: "testPush"},
		{call: "failedPushes"},
		{call: "retryFailedPush"},
		{call: "forgetFailedPush"},
		{call: "dropPushToken"},
		{call: "mute"},
		{call: "unmute"},
		{call: "revoke"},
		{call: "revocations"},
		{call: "replayHooks"},
		{call: "drain"},
	}
	config := func(c *Config) {
		c.Guests = true
		c.Hooks = Hooks{
			Receivers: []hook.Receiver{{
				Name: "default", URL: "http://nowhere", Types: []hook.Type{hook.SessionCreated, hook.SessionJoined, hook.SessionLeft},
			}},
			Client: new(clienttest.Network).Client(),
		}
		fcm := &service{answer: func(to push.Token) error {
			if strings.Contains(to.Value, "-that-was-") {
				return &push.Failure{Reason: "SENDER_ID_MISMATCH"}
			}
			return nil
		}}
		c.Push = Push{Store: c.Inbox.(push.Store), Senders: map[push.Service]push.Sender{push.FCM: fcm}}
	}
	inMeshOf(t, 1, config, func(t *testing.T, m *mesh) {
		doc := m.apiDocument(t)
		app := m.mintApp("backend")
		do := func(r *http.Request) []byte {
			t.Helper()
			resp, err := m.network.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s %s: %s %s, %v", r.Method, r.URL, resp.Status, answer, err)
			}
			return answer
		}
		left := maps.Clone(doc.calls)
		for _, step := range steps {
			pass(time.Second)
			for _, text := range step.before {
				part := strings.SplitN(text, " ", 4)
				if status, answer := m.call(part[0], part[0]+"-phone", "a", part[1], part[2], part[3]); status != http.StatusOK {
					t.Fatalf("%s: %d %s", text, status, answer)
				}
			}
			who := step.as
			if who == "" {
				who = "ann"
			}
			call, there := left[step.call]
			if !there {
				t.Fatalf("no call %s", step.call)
			}
			delete(left, step.call)
			credential := func(scheme string) string {
				if scheme == "app_key" {
					return app
				}
				return m.mint(who, who+"-phone", time.Hour)
			}
			doc.check(call, do(doc.request(call, "http://a", credential)))
			if call.method != "get" { // a repetition has no further effect, which the next calls would show, and the same answer
				doc.check(call, do(doc.request(call, "http://a", credential)))
			}
		}
		delete(left, "getOpenAPI") // it has been called
		delete(left, "stream")     // its answer does not end, and other tests read it
		for id := range left {
			t.Errorf("%s is not executed", id)
		}
	})
}

// What the document says of streams exists, and the rest of them is there.
func TestDocumentNamesStreams(t *testing.T) {
	source, err := os.ReadFile("../gateway/stream/handler.go")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, found := range regexp.MustCompile(`HandleFunc\("(\w+ /v1/\S+)"`).FindAllSubmatch(source, -1) {
		there[string(found[1])] = true
	}
	if len(there) == 0 {
		t.Fatal("no calls found")
	}
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		doc := m.apiDocument(t)
		for _, id := range []string{"stream", "poll"} {
			pattern := strings.ToUpper(doc.calls[id].method) + " " + doc.calls[id].path
			if !there[pattern] {
				t.Errorf("%s does not exist", pattern)
			}
			delete(there, pattern)
		}
	})
	for pattern := range there {
		t.Errorf("%s is not described", pattern)
	}
}

// Calls of the app are refused to others, and those with a credential to nobody
// who has none.
func TestDocumentNamesCredentials(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		doc := m.apiDocument(t)
		for id, call := range doc.calls {
			for _, scheme := range call.Security {
				for name := range scheme {
					r := doc.request(call, "http://a", func(string) string { return m.mint("ann", "ann-phone", time.Hour) })
					if code := m.codeOf(r); name == "app_key" && code != envelope.Forbidden && code != envelope.NotFound {
						t.Errorf("%s, for others than the app: %q", id, code)
					}
					r = doc.request(call, "http://a", func(string) string { return "" })
					if code := m.codeOf(r); code != envelope.Unauthorized {
						t.Errorf("%s, without a credential: %q", id, code)
					}
				}
			}
		}
	})
}

// Refusals are problem documents as the document has them.
func TestDocumentNamesRefusals(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		doc := m.apiDocument(t)
		schema, err := doc.schemas.Compile(apiURL + "#/components/schemas/Problem")
		if err != nil {
			t.Fatal(err)
		}
		for path, status := range map[string]int{
			"mesh": http.StatusForbidden, "sessions/none": http.StatusNotFound, "messages?log=x": http.StatusBadRequest, "no/such/call": http.StatusNotFound,
		} {
			resp := m.get(t.Context(), "ann", "a", "/v1/"+path)
			problem, err := jsonschema.UnmarshalJSON(resp.Body)
			if err == nil {
				err = schema.Validate(problem)
			}
			if err != nil || resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %s %v, %v", path, resp.Status, resp.Header, err)
			}
			_ = resp.Body.Close()
		}
	})
}

// codeOf makes a request and returns why it was refused; "" when it was not.
func (m *mesh) codeOf(r *http.Request) envelope.Code {
	m.t.Helper()
	resp, err := m.network.Client().Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct{ Code envelope.Code }
	if resp.StatusCode != http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
			m.t.Fatal(err)
		}
	}
	return problem.Code
}

// The bounds of numbers in settings are those that the document names.
func TestOpenAPIBounds(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		schema, err := m.apiDocument(t).schemas.Compile(apiURL + "#/components/schemas/CreateRequest")
		if err != nil {
			t.Fatal(err)
		}
		for _, bound := range []struct {
			kind, name string
			most       int
		}{
			{"group", "member_limit", 100_000},
			{"group", "notify_only_last_few_users", 1000},
			{"topic", "keep_count", 100_000},
			{"topic", "keep_seconds", 30 * 24 * 3600},
		} {
			for _, n := range []int{-1, 0, bound.most, bound.most + 1} {
				text := fmt.Sprintf(`{"kind":%q,%q:%d}`, bound.kind, bound.name, n)
				value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				var settings envelope.Settings
				if err := json.Unmarshal([]byte(text), &settings); err != nil {
					t.Fatal(err)
				}
				_, refused := session.Defaults.With(settings)
				if invalid := schema.Validate(value); (refused == nil) != (invalid == nil) || (refused == nil) != (n >= 0 && n <= bound.most) {
					t.Errorf("%s: the server says %v, the document %v", text, refused, invalid)
				}
			}
		}
	})
}
