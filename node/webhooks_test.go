package node

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/hook"
	"github.com/allsparkrt/allspark/hook/ask"
)

// TestWebhooksAreDescribed: the OpenAPI document names the members of what the
// app's backend is sent.
func TestWebhooksAreDescribed(t *testing.T) {
	text, err := os.ReadFile("../gateway/rest/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	ofReplay := []string{"receiver", "after"} // which nobody is sent
	for name, of := range map[string]any{"HookEvent": hook.Event{}, "AuthorizeQuestion": ask.Question{}} {
		var want []string
		for f := range reflect.TypeOf(of).Fields() {
			if member, _, _ := strings.Cut(f.Tag.Get("json"), ","); !slices.Contains(ofReplay, member) {
				want = append(want, member)
			}
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(doc.Components.Schemas[name].Properties)); !slices.Equal(got, want) {
			t.Errorf("%s has %q, and in the code %q", name, got, want)
		}
	}
	var types []string
	for _, kind := range hook.Types() {
		types = append(types, string(kind))
	}
	if got := doc.Components.Schemas["HookEvent"].Properties["type"].Enum; !slices.Equal(got, types) {
		t.Errorf("types %q, and in the code %q", got, types)
	}
}
