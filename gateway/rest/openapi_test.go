package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// described is what the tests read of the document.
type described struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas map[string]struct {
			Properties           map[string]json.RawMessage
			AdditionalProperties json.RawMessage
		}
	}
}

type operation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct{ Content map[string]media }
}

type media struct{ Example json.RawMessage }

func readDocument(t *testing.T) (doc described) {
	t.Helper()
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsOpenAPI(t *testing.T) {
	file, err := os.Open("testdata/openapi-3.1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	schema, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	const here = "https://allspark.invalid/openapi.json"
	c := jsonschema.NewCompiler()
	for url, resource := range map[string]any{"https://spec.openapis.org/oas/3.1/schema/2026-08-03": schema, here: doc} {
		if err := c.AddResource(url, resource); err != nil {
			t.Fatal(err)
		}
	}
	valid, err := c.Compile("https://spec.openapis.org/oas/3.1/schema/2026-08-03")
	if err != nil {
		t.Fatal(err)
	}
	if err := valid.Validate(doc); err != nil {
		t.Error(err)
	}
	if wrong := map[string]any{"openapi": "3.1.0", "paths": map[string]any{}}; valid.Validate(wrong) == nil {
		t.Error("a document without info is taken for valid")
	}

	// What the examples are is said by the schemas beside them.
	for path, operations := range readDocument(t).Paths {
		for method, op := range operations {
			at := here + "#/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path) + "/" + method
			check := func(m media, of string) {
				schema, err := c.Compile(at + of + "/schema")
				if err != nil {
					t.Errorf("%s%s: %v", op.OperationID, of, err)
					return
				}
				if m.Example == nil {
					return
				}
				example, err := jsonschema.UnmarshalJSON(strings.NewReader(string(m.Example)))
				if err == nil {
					err = schema.Validate(example)
				}
				if err != nil {
					t.Errorf("%s%s: %v", op.OperationID, of, err)
				}
			}
			for name, m := range op.RequestBody.Content {
				check(m, "/requestBody/content/"+strings.ReplaceAll(name, "/", "~1"))
			}
			for name, m := range op.Responses["200"].Content {
				check(m, "/responses/200/content/"+strings.ReplaceAll(name, "/", "~1"))
			}
		}
	}
}

// Every call of this package is described, and nothing else but those of the
// streams, which package node tests.
func TestDocumentNamesEveryCall(t *testing.T) {
	there := map[string]bool{"GET /v1/stream": true, "GET /v1/poll": true}
	(&Handler{Guests: new(auth.Guests)}).each(func(pattern string, _ func(http.ResponseWriter, *http.Request)) {
		if there[pattern] {
			t.Errorf("%s is registered twice", pattern)
		}
		there[pattern] = true
	})
	inPath := regexp.MustCompile(`\{(\w+)\}`)
	ids := make(map[string]bool)
	for path, operations := range readDocument(t).Paths {
		for method, op := range operations {
			pattern := strings.ToUpper(method) + " " + path
			if !there[pattern] {
				t.Errorf("%s is described and does not exist", pattern)
			}
			delete(there, pattern)
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: operationId %q", pattern, op.OperationID)
			}
			ids[op.OperationID] = true
			var described []string
			for _, p := range op.Parameters {
				if p.In == "path" {
					described = append(described, p.Name)
				}
			}
			var named []string
			for _, m := range inPath.FindAllStringSubmatch(path, -1) {
				named = append(named, m[1])
			}
			if !slices.Equal(named, described) {
				t.Errorf("%s: path parameters %q", pattern, described)
			}
		}
	}
	for pattern := range there {
		t.Errorf("%s is not described", pattern)
	}
}

// The members of every schema are those of the type that is read or written.
func TestDocumentNamesEveryMember(t *testing.T) {
	types := map[string]any{
		"Problem":        gateway.Problem{},
		"ConnectRequest": connectRequest{}, "ConnectReply": connectReply{}, "ConnectServer": connectServer{},
		"GuestRequest": guestRequest{}, "GuestReply": guestReply{},
		"Ack": ackReply{}, "Trace": traceReply{}, "Reader": readerReply{},
		"Page": struct {
			Messages any `json:"messages"`
			pageReply
		}{},
		"CursorsRequest": cursorsRequest{}, "Presence": envelope.Presence{}, "PresenceReply": presenceReply{},
		"PushToken": tokenRequest{}, "SubscriptionKeys": subscriptionKeys{}, "MuteRequest": muteRequest{}, "PushKey": pushKeyReply{},
		"PushTest": pushTestRequest{}, "PushTestReply": pushTestReply{}, "PushTry": pushTryReply{},
		"FailedPushes": failedPushesReply{}, "FailedPush": failedPushReply{},
		"Settings": envelope.Settings{}, "CreateRequest": createRequest{}, "AliasRequest": aliasRequest{},
		"Session": sessionReply{}, "Sessions": sessionsReply{}, "Member": memberReply{}, "MemberRequest": memberRequest{}, "Standing": standingReply{},
		"Membership": membershipReply{}, "HeaderReply": headerReply{},
		"Header": struct {
			headerReply
			Payload any `json:"payload"`
		}{},
		"HooksReply": hooksReply{}, "HookReceiver": receiverReply{}, "HookPartition": partitionReply{}, "ReplayRequest": replayRequest{},
		"RevokeRequest": revokeRequest{}, "Revocation": revocationReply{}, "RevocationsReply": revocationsReply{},
		"Batch": batchRequest{}, "Destination": destinationRequest{}, "BatchReply": batchReply{}, "Result": resultReply{},
		"DisconnectRequest": disconnectRequest{}, "DisconnectReply": disconnectReply{},
		"Mesh": meshReply{}, "MeshServer": meshServerReply{}, "Health": healthReply{}, "LinkHealth": linkHealthReply{}, "Drain": drainReply{}, "EdgesReply": edgesReply{}, "Edge": edgeReply{},
		"CursorsReply": cursorsReply{}, "Cursor": cursorReply{},
		"Empty": struct{}{},
	}
	// Messages are not read into a type, and package node tests those of the polls and of what the app is sent.
	others := []string{"SentMessage", "Message", "PollReply", "HookRequest", "HookEvent", "AuthorizeQuestion", "AuthorizeAnswer"}
	for name, schema := range readDocument(t).Components.Schemas {
		of, known := types[name]
		if !known {
			if schema.Properties != nil && !slices.Contains(others, name) {
				t.Errorf("of what type is %s?", name)
			}
			continue
		}
		delete(types, name)
		want := members(reflect.TypeOf(of))
		got := slices.Sorted(maps.Keys(schema.Properties))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, and in the code %q", name, got, want)
		}
		if string(schema.AdditionalProperties) != "false" {
			t.Errorf("%s is open for others", name)
		}
	}
	for name := range types {
		t.Errorf("no schema %s", name)
	}
}

// members returns the names of a struct's members in JSON.
func members(of reflect.Type) (names []string) {
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, members(f.Type)...)
		case name != "-":
			names = append(names, name)
		}
	}
	return names
}
