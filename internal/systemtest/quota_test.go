package systemtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/internal/mongotest"
)

// A full log refuses with a code of its own, which hurts nobody else, and has
// room again once its reader has acknowledged; numbers go on, repetitions are
// recognised, also after a restart. On each kind of store.
func TestQuota(t *testing.T) {
	for _, store := range []struct {
		name string
		args func(t *testing.T) []string
	}{
		{"embedded", func(t *testing.T) []string { return []string{"--data", t.TempDir()} }},
		{"MongoDB", func(t *testing.T) []string {
			return []string{"--mongodb-uri", mongotest.URI(t), "--mongodb-database", mongotest.Database(t)}
		}},
	} {
		t.Run(store.name, func(t *testing.T) {
			s := newServer(t, append(store.args(t), "--quota-device", "entries=3", "--keep-device", "acknowledged=24h")...)
			alice, bob := authKey(t, "alice"), authKey(t, "bob")
			for i := 1; i <= 3; i++ {
				if a, status := sendHTTP(t, s.url, alice, i, "bob"); status != http.StatusOK || a.Seq != uint64(i) {
					t.Fatalf("%d: %+v, status %d", i, a, status)
				}
			}
			if a, status := sendHTTP(t, s.url, alice, 4, "bob"); status != http.StatusInsufficientStorage || a.Code != "quota" {
				t.Errorf("beyond the quota: %+v, status %d", a, status)
			}
			if a, status := sendHTTP(t, s.url, alice, 2, "bob"); status != http.StatusOK || a.Seq != 2 {
				t.Errorf("repeated while full: %+v, status %d", a, status)
			}
			if a, status := sendHTTP(t, s.url, alice, 4, "carol"); status != http.StatusOK || a.Seq != 1 {
				t.Errorf("to another: %+v, status %d", a, status)
			}

			if got := listen(t, s.url, bob, 3); len(got) != 3 {
				t.Fatalf("bob got %q", got)
			}
			eventually(t, 20*time.Second, func() error {
				a, status := sendHTTP(t, s.url, alice, 4, "bob")
				if status != http.StatusOK || a.Seq != 4 {
					return fmt.Errorf("%+v, status %d", a, status)
				}
				return nil
			})
			s.kill()
			s.start("--force")
			s.waitReady()
			if a, status := sendHTTP(t, s.url, alice, 1, "bob"); status != http.StatusOK || a.Seq != 1 {
				t.Errorf("repeated after it has gone: %+v, status %d", a, status)
			}
			if got := listen(t, s.url, bob, 1); len(got) != 1 || got[0] != "4" {
				t.Errorf("bob got %q", got)
			}
		})
	}
}

type answer struct {
	Seq  uint64
	Code string
}

// sendHTTP sends message number n of a device, whose text is that number.
func sendHTTP(t *testing.T, server, key string, n int, to string) (a answer, status int) {
	t.Helper()
	body := fmt.Sprintf(`{"id":"%d","dest_id":%q,"payload":"%d"}`, n, to, n)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a, resp.StatusCode
}
