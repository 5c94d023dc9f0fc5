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
		name   string
		shared bool // a database of its own
		args   func(t *testing.T) []string
	}{
		{"three servers in one process", false, func(*testing.T) []string { return []string{"--target=demo"} }},
		{"three processes over one database", true, func(t *testing.T) []string {
			uri := os.Getenv(mongotest.EnvURI)
			if uri == "" {
				uri = mongotest.Start(t).URI // its own, not to be slowed down by other tests' data
			}
			return []string{"--target=mongo3", "--mongodb-uri=" + uri}
		}},
	} {
		for _, class := range []string{"volatile", "durable"} {
			if target.shared && class == "volatile" && os.Getenv(mongotest.EnvURI) == "" {
				continue // right after the start, links and routes may not be there yet, and what is not stored does not wait
			}
			t.Run(target.name+"/"+class, func(t *testing.T) {
				devices, messages, inflight := 100, 50_000, 16
				if target.shared && os.Getenv(mongotest.EnvURI) == "" {
					// The stand-in reads whole collections: a moment's overload
					// is one it does not come back from.
					devices, messages, inflight = 40, 4_000, 4
				}
				args := append([]string{
					"p2p", "--json", "--class=" + class,
					fmt.Sprintf("--devices=%d", devices), fmt.Sprintf("--messages=%d", messages), fmt.Sprintf("--inflight=%d", inflight),
				}, target.args(t)...)
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
