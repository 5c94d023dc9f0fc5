package importrule

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/allsparkrt/allspark"

// TestImports holds the rules for the project.
func TestImports(t *testing.T) {
	root := os.DirFS("../..")
	if _, err := root.Open("go.mod"); err != nil {
		t.Fatal(err)
	}
	violations, err := Check(root, module, Rules())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Error(v)
	}
}

// TestRules checks the table itself.
func TestRules(t *testing.T) {
	for _, r := range Rules() {
		if r.Why == "" {
			t.Errorf("the rule for %s has no reason", r.Package)
		}
		for _, p := range slices.Concat([]string{r.Package}, r.May, r.Tests, r.Outside, r.Never) {
			if _, err := path.Match(p, ""); err != nil {
				t.Errorf("the rule for %s: %q is not a pattern", r.Package, p)
			}
		}
	}
}

// TestCheck checks that the check finds what it is there for: each tree holds
// one file more than one in which nothing is wrong.
func TestCheck(t *testing.T) {
	good := map[string]string{
		"go.mod":                              "module example.com/m",
		"envelope/a.go":                       `package envelope; import "strings"; import "github.com/go-json-experiment/json/jsontext"`,
		"envelope/a_test.go":                  `package envelope_test; import "example.com/m/envelope"`,
		"graph/a.go":                          `package graph; import e "example.com/m/envelope"`,
		"graph/a_test.go":                     `package graph_test; import "example.com/m/graph"; import _ "example.com/m/store/embedded"`,
		"node/a.go":                           `package node; import ("example.com/m/graph"; "example.com/m/gateway"; "golang.org/x/time/rate")`,
		"gateway/a.go":                        `package gateway; import "example.com/m/envelope"`,
		"gateway/rest/a.go":                   `package rest; import "example.com/m/gateway"; import "example.com/m/auth"`,
		"auth/a.go":                           `package auth; import "example.com/m/envelope"`,
		"store/mongo/a.go":                    `package mongo; import "example.com/m/graph"; import "go.mongodb.org/mongo-driver/v2/mongo"`,
		"store/embedded/a.go":                 `package embedded; import "example.com/m/graph"`,
		"cmd/allspark/a.go":                   `package main; import ("example.com/m/node"; "example.com/m/cmd/allspark/internal/config")`,
		"cmd/allspark/internal/config/a.go":   `package config; import "example.com/m/auth"`,
		"internal/standin/go.mod":             "module example.com/m/internal/standin",
		"internal/standin/a.go":               `package main; import "example.com/m/cmd/allspark"`,
		"internal/importrule/testdata/x/a.go": `package x; import "example.com/m/cmd/allspark"`,
		"_scratch/a.go":                       `package x; import "example.com/m/cmd/allspark"`,
		"node/README.md":                      `import "example.com/m/cmd/allspark"`,
	}
	tests := []struct {
		name, file, source string
		want               string // what one violation contains; "" for none
	}{
		{"nothing wrong", "auth/b.go", `package auth`, ""},
		{"sideways", "graph/b.go", `package graph; import "example.com/m/auth"`, "graph/b.go imports example.com/m/auth: not allowed: graph, session,"},
		{"upwards", "envelope/b.go", `package envelope; import "example.com/m/auth"`, "envelope/b.go imports example.com/m/auth"},
		{"other tag", "envelope/b.go", "//go:build windows && never\n\npackage envelope; import \"example.com/m/auth\"", "envelope/b.go imports example.com/m/auth"},
		{"renamed", "envelope/b.go", `package envelope; import _ "example.com/m/auth"`, "envelope/b.go imports example.com/m/auth"},
		{"module outside", "envelope/b.go", `package envelope; import "golang.org/x/text/width"`, "envelope/b.go imports golang.org/x/text/width"},
		{"test outside", "envelope/b_test.go", `package envelope; import "github.com/google/go-cmp/cmp"`, "envelope/b_test.go imports github.com/google/go-cmp/cmp"},
		{"test of envelope", "envelope/b_test.go", `package envelope_test; import "example.com/m/node"`, "envelope/b_test.go imports example.com/m/node"},
		{"test sideways", "graph/b_test.go", `package graph; import "example.com/m/auth"`, "graph/b_test.go imports example.com/m/auth"},
		{"node and protocol", "node/b.go", `package node; import "example.com/m/gateway/rest"`, "node/b.go imports example.com/m/gateway/rest: not allowed: the process"},
		{"node's test and protocol", "node/b_test.go", `package node; import "example.com/m/gateway/rest"`, ""},
		{"node and database", "node/b.go", `package node; import "go.mongodb.org/mongo-driver/v2/bson"`, "node/b.go imports go.mongodb.org/mongo-driver/v2/bson"},
		{"protocol and protocol", "gateway/stomp/b.go", `package stomp; import "example.com/m/gateway/rest"`, "gateway/stomp/b.go imports example.com/m/gateway/rest"},
		{"store and store", "store/mongo/b.go", `package mongo; import "example.com/m/store/embedded"`, "store/mongo/b.go imports example.com/m/store/embedded"},
		{"cmd", "node/b_test.go", `package node; import "example.com/m/cmd/allspark"`, "node/b_test.go imports example.com/m/cmd/allspark"},
		{"cmd by the tools", "internal/x/b_test.go", `package x; import "example.com/m/cmd/allspark"`, "internal/x/b_test.go imports example.com/m/cmd/allspark"},
		{"new package", "fifth/b.go", `package fifth; import "fmt"`, "no rule for package fifth"},
		{"a command in a command", "cmd/allspark/b.go", `package main; import "example.com/m/node"; import "example.com/m/cmd/other"`, ""},
		{"nearly ours", "envelope/b.go", `package envelope; import "example.com/mm/x"`, "envelope/b.go imports example.com/mm/x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := fstest.MapFS{test.file: {Data: []byte(test.source)}}
			for name, source := range good {
				tree[name] = &fstest.MapFile{Data: []byte(source)}
			}
			got, err := Check(tree, "example.com/m", Rules())
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("found %q, want nothing", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("found %q, want one: %s", got, test.want)
			}
		})
	}
	t.Run("not Go", func(t *testing.T) {
		if _, err := Check(fstest.MapFS{"node/a.go": {Data: []byte("package")}}, "example.com/m", Rules()); err == nil {
			t.Error("a file that cannot be read was passed over")
		}
	})
}
