package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// result is what a run of the program left behind.
type result struct {
	code           int
	stdout, stderr string
}

// allspark runs the program inside the test, with secrets in its environment only.
func allspark(ctx context.Context, env []string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(""), &stdout, &stderr, env)
	return result{code, stdout.String(), stderr.String()}
}

// mustRun runs the program and returns its output; it must succeed in silence.
func mustRun(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := allspark(t.Context(), env, args...)
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("allspark %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}
