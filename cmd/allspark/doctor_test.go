package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/doctor"
)

func TestDoctor(t *testing.T) {
	env := []string{"ALLSPARK_TOKEN_SECRET=0123456789abcdef0123456789abcdef"}
	args := []string{"doctor", "--port=0", "--data", t.TempDir(), "--max-connections"}

	// What is wrong decides the exit code, in both forms.
	for _, connections := range []string{"10", "10000000"} {
		r := allspark(t.Context(), env, append(args, connections, "--json")...)
		var findings []doctor.Finding
		if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil || len(findings) == 0 {
			t.Fatalf("%v in %s", err, r.stdout)
		}
		bad := slices.ContainsFunc(findings, func(f doctor.Finding) bool { return f.Level == doctor.Problem })
		if bad != (r.code == exitFailed) || bad == (r.code == exitOK) || bad != strings.HasPrefix(r.stderr, "allspark: doctor: problems: ") {
			t.Errorf("exit %d, %s, with %+v", r.code, r.stderr, findings)
		}
		if plain := allspark(t.Context(), env, append(args, connections)...); plain.code != r.code || !strings.Contains(plain.stdout, findings[0].Check) {
			t.Errorf("exit %d: %s", plain.code, plain.stdout)
		}
	}

	// A configuration that is wrong is one of the problems, and the machine is looked at all the same.
	r := allspark(t.Context(), env, append(args, "many")...)
	if r.code != exitFailed || !strings.Contains(r.stdout, `problem  configuration      max_connections (--max-connections): "many"`) || !strings.Contains(r.stdout, "data directory") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
