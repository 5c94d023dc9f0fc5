package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/cmd/allspark/internal/config"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/store/embedded"
)

// started runs a server with an empty store, with the configuration changed.
func started(t *testing.T, change func(*config.Config)) *Server {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{
		NodeID: "one", Host: "127.0.0.1", GossipHost: "127.0.0.1", PeerHost: "127.0.0.1", ClusterID: "test",
		MaxConnections: 10, MaxFrameBytes: envelope.DefaultMaxFrame, DrainTimeout: time.Second,
		MeshKey: strings.Repeat("m", 32), TokenSecret: strings.Repeat("s", 32), TokenMaxTTL: time.Hour,
		Guests: true, GuestTTL: time.Minute, GuestRate: 1000, Force: true,
	}
	change(&cfg)
	s, err := Listen(cfg, slog.New(slog.DiscardHandler), store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return s
}

// What the configuration says reaches who counts: calls and guests are counted
// by the address that a proxy names, and probes of a supervisor never are.
func TestLimitsByAddress(t *testing.T) {
	s := started(t, func(c *config.Config) {
		c.TrustedProxies, c.AddressRate, c.AddressGuests = []string{"127.0.0.0/8"}, 2, 3
	})

	call := func(method, path, from string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if from != "" {
			r.Header.Set("X-Forwarded-For", "198.51.100.7, "+from)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if (resp.Header.Get("Retry-After") != "") != (resp.StatusCode == http.StatusTooManyRequests) {
			t.Errorf("%s %s: %s, Retry-After %q", method, path, resp.Status, resp.Header.Get("Retry-After"))
		}
		return resp.StatusCode
	}
	limited := func(n int, method, path, from string) (refused int) {
		t.Helper()
		for range n {
			if call(method, path, from) == http.StatusTooManyRequests {
				refused++
			}
		}
		return refused
	}
	if n := limited(4, http.MethodPost, "/v1/guests", "203.0.113.1"); n != 1 {
		t.Errorf("%d guests refused of 4", n)
	}
	if n := limited(4, http.MethodPost, "/v1/guests", "203.0.113.2"); n != 1 {
		t.Errorf("%d guests refused of 4 from another address", n)
	}
	if n := limited(4, http.MethodPost, "/v1/guests", ""); n != 0 {
		t.Errorf("%d guests refused of 4 from this machine", n)
	}
	if n := limited(100, http.MethodGet, "/v1/presence", "203.0.113.3"); n < 50 { // 10 at once; a slow machine lets more through
		t.Errorf("%d calls refused of 100", n)
	}
	if n := limited(100, http.MethodGet, "/healthz", "203.0.113.3"); n != 0 {
		t.Errorf("%d probes refused of 100", n)
	}
	if got := s.Node().Limited(); got["address_guests"] != 2 || got["address"] < 50 {
		t.Errorf("counted %v", got)
	}
}
