package systemtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/allsparkrt/allspark/internal/mongotest"
)

// The original system's own load test: 50,000 messages between 100 devices
// over three servers. Nothing may be lost, come twice or out of order.
func TestLoad(t *testing.T) {
	bench := filepath.Join(t.TempDir(), "bench")
	// Not in this process: with the race detector it would test itself.
	if out, err := exec.Command("go", "build", "-o", bench, "github.com/allsparkrt/allspark/bench").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, target := range []struct {
		name string
		args func(t *testing.T) []string
	}{
		{"three servers in one process", func(*testing.T) []string { return []string{"--target=demo"} }},
		{"three processes over one database", func(t *testing.T) []string {
			uri := os.Getenv(mongotest.EnvURI)
			if uri == "" {
				uri = mongotest.Start(t).URI // its own, not to be slowed down by other tests' data
			}
			return []string{"--target=mongo3", "--mongodb-uri=" + uri}
		}},
	} {
		for _, class := range []string{"volatile", "durable"} {
			t.Run(target.name+"/"+class, func(t *testing.T) {
				const messages = 50_000
				args := append([]string{"p2p", "--json", "--class=" + class, fmt.Sprintf("--messages=%d", messages)}, target.args(t)...)
				out, err := exec.Command(bench, args...).Output()
				if err != nil {
					if exit, ok := err.(*exec.ExitError); ok {
						t.Logf("%s", exit.Stderr)
					}
					t.Fatalf("%v\n%s", err, out)
				}
				var report struct {
					Sent, Acknowledged, Received, Lost, Duplicated int
				}
				if err := json.Unmarshal(out, &report); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				t.Logf("%+v", report)
				if report.Sent != messages || report.Acknowledged != messages || report.Received != messages || report.Lost+report.Duplicated > 0 {
					t.Errorf("%s", out)
				}
			})
		}
	}
}
